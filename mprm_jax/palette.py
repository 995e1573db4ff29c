"""A color for each class, the same in pictures and in files, and the legend that names them."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mprm_jax.types import IGNORED, Array
from mprm_jax.writing import write_whole

UNLABELED_COLOR = (240 / 255, 240 / 255, 240 / 255)
UNLABELED_NAME = "unlabeled"
# Source: Tableau 20, known from matplotlib as tab20; first the ten strong colors, then their pale
# partners, so that neighbors in index differ in hue and lightness.
TABLEAU = (
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207)),
    *((174, 199, 232), (255, 187, 120), (152, 223, 138), (255, 152, 150), (197, 176, 213)),
    *((196, 156, 148), (247, 182, 210), (199, 199, 199), (219, 219, 141), (158, 218, 229)),
)
_LEVELS = np.linspace(0, 224, 8)  # per channel, of further colors; all darker than unlabeled


def class_palette(num_classes: int) -> Array:
    """Distinct colors [num_classes, 3] in [0, 1], the same for an index whatever the number.

    After the first twenty, each is the one of a grid farthest from all before it.
    """
    colors = np.array(TABLEAU[:num_classes], np.float64).reshape(-1, 3)
    if num_classes <= len(TABLEAU):
        return colors / 255
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    taken = np.concatenate([colors, 255 * np.array([UNLABELED_COLOR])])
    sq_dist = np.sum(np.square(grid[:, None] - taken[None]), axis=-1).min(axis=1)
    more = []
    while len(colors) + len(more) < num_classes:
        more.append(grid[np.argmax(sq_dist)])
        sq_dist = np.minimum(sq_dist, np.sum(np.square(grid - more[-1][None]), axis=1))
    return np.concatenate([colors, more]) / 255


def label_colors(labels: Array, palette: Array) -> Array:
    """Colors [N, 3] in [0, 1] of class indices [N]; near white where they are IGNORED (-1)."""
    return np.concatenate([palette, np.array([UNLABELED_COLOR])])[labels]


def label_bytes(labels: Array, num_classes: int) -> Array:
    """Colors [N, 3] uint8 of class indices [N], as the legend has them."""
    return _all_bytes(num_classes)[labels]


def write_legend(path: Path, classes: Sequence[str]) -> None:
    """Writes a CSV file `id,name,red,green,blue`, colors in 0..255; -1 stands for no label."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("id", "name", "red", "green", "blue"))
    colors = _all_bytes(len(classes)).tolist()
    labels = (*range(len(classes)), IGNORED)
    for label, name, color in zip(labels, (*classes, UNLABELED_NAME), colors, strict=True):
        rows.writerow((label, name, *color))
    write_whole(path, text.getvalue())


def _all_bytes(num_classes: int) -> Array:
    """Colors [num_classes + 1, 3] uint8; the last, also reached by -1, is of no label."""
    colors = label_colors(np.array([*range(num_classes), IGNORED]), class_palette(num_classes))
    return np.round(255 * colors).astype(np.uint8)
