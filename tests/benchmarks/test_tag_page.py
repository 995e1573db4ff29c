"""The scan and the measures of the benchmark of the page."""

import numpy as np
import pytest
import tag_page
from browser import why_not

from mprm_jax.scans.formats import read_cloud


def test_the_room_has_its_points_on_sides_of_boxes(tmp_path):
    tag_page.write_room(tmp_path, 2000)
    coords = read_cloud(tmp_path / "room.ply").coords
    assert len(coords) == 2000 and np.ptp(coords[:, 0]) > 10
    assert (coords[:, 2] == 0).sum() > 100


@pytest.mark.slow
@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_the_page_is_measured(tmp_path):
    tag_page.write_room(tmp_path, 20000)
    row = tag_page.measure(tmp_path, 20000, seconds=2.0)
    assert row["shown_points"] == 20000
    assert 0 < row["reading_s"] < row["first_picture_s"] <= row["all_points_s"]
    assert row["frames_per_s_turning"] > 0 and row["server_mb"] > 0
