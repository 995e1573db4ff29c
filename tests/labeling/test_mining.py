"""Mining: what is written for each scene, and what is said where the tags allow nothing."""

import errno

import jax
import numpy as np
import pytest
from fake_source import FakeSource, box_room, scene_tags
from prepared import CONFIG

from mprm_jax.data.prepare import prepare
from mprm_jax.data.shapes import calibrate
from mprm_jax.data.subclouds import Subclouds
from mprm_jax.labeling.mining import as_labels, load_mined, mine
from mprm_jax.labeling.showcase import draw_showcase
from mprm_jax.training.parallel import make_mesh


@pytest.fixture(scope="module")
def subclouds(tmp_path_factory):
    """Two rooms; of the second, people say that it holds none of the classes."""
    path = tmp_path_factory.mktemp("data")
    rooms = {"train/full": box_room(), "train/none": box_room(1)._replace(weak_labels=scene_tags())}
    store = prepare(FakeSource(path / "scans", rooms), path / "store", CONFIG.data, workers=0).store
    return Subclouds(store, "train", CONFIG)


def mined(subclouds, folder):
    """Measures of labels that say each point's color: as many channels as classes."""
    config = calibrate(CONFIG, subclouds)
    mesh = make_mesh(jax.devices()[:1])
    return mine(lambda _, batch: batch.features[:, 1:], None, subclouds, config, mesh, folder)


def test_a_scene_without_a_tagged_class_is_reported_and_stays_unlabeled(
    subclouds, tmp_path, caplog
):
    measures = mined(subclouds, tmp_path)
    assert measures["unlabeled_scenes"] == ["none"]
    assert "1 scenes are tagged with no class" in caplog.text and "none" in caplog.text
    found = load_mined(tmp_path / "none.npz")
    assert found.label.dtype == np.uint8 and np.all(found.label == 255)
    assert np.all(as_labels(found.label) == -1) and np.all(as_labels(found.label_raw) == -1)
    assert np.all(as_labels(load_mined(tmp_path / "full.npz").label) >= 0)


def test_points_without_a_label_count_as_wrong(subclouds, tmp_path):
    assert 0 < mined(subclouds, tmp_path)["calibrated"]["accuracy"] < 60


def test_a_full_disk_is_one_line_and_leaves_no_half_written_file(subclouds, tmp_path, monkeypatch):
    def fill_up(file, **_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fill_up)
    with pytest.raises(OSError, match=r"full\.npz: cannot be written \(No space left"):
        mined(subclouds, tmp_path / "labels")
    assert not list((tmp_path / "labels").iterdir())


def test_an_unlabeled_scene_can_be_drawn(subclouds, tmp_path):
    mined(subclouds, tmp_path)
    (tmp_path / "full.npz").unlink()
    assert draw_showcase(subclouds, tmp_path, tmp_path / "scene.png") == "none"
    assert (tmp_path / "scene.png").exists()
