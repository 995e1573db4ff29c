"""Every class has a color of its own, and the legend says which."""

import csv

import numpy as np
import pytest

from mprm_jax.palette import class_palette, label_bytes, label_colors, write_legend
from mprm_jax.types import MAX_CLASSES


def test_colors_are_distinct_for_every_number_of_classes():
    colors = 255 * label_colors(np.arange(-1, MAX_CLASSES), class_palette(MAX_CLASSES))
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    # The grid of further colors has steps of 32.
    assert np.min(distance[~np.eye(len(colors), dtype=bool)]) > 15


@pytest.mark.parametrize("num_classes", [0, 3, 20, 21])
def test_the_color_of_a_class_does_not_depend_on_the_number(num_classes):
    palette = class_palette(num_classes)
    assert palette.shape == (num_classes, 3)
    np.testing.assert_array_equal(palette, class_palette(40)[:num_classes])


def test_labels_take_their_color_and_no_label_is_near_white():
    palette = class_palette(3)
    colors = label_colors(np.array([2, -1, 0]), palette)
    np.testing.assert_array_equal(colors[[0, 2]], palette[[2, 0]])
    assert colors[1].min() > 0.9


def test_the_legend_has_the_colors_of_the_points(tmp_path):
    write_legend(tmp_path / "a.csv", ("wall", "desk, oak", "Tür"))
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["wall", "desk, oak", "Tür", "unlabeled"]
    assert [row["id"] for row in rows] == ["0", "1", "2", "-1"]
    colors = [[int(row[channel]) for channel in ("red", "green", "blue")] for row in rows]
    np.testing.assert_array_equal(label_bytes(np.array([0, 1, 2, -1]), 3), colors)
    assert colors[0] == [31, 119, 180]
