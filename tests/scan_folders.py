"""A folder of two scans, as users make them: an office, a nested hall, tags of the office only."""

import numpy as np

from mprm_jax.evidence.folder import Folder

COORDS = np.array([[0, 0, 0], [1.5, 2, 0.25], [3, 1, 1], [3, 4, 2]])
COLORS = np.array([[0, 0, 0], [255, 128, 1], [10, 20, 30], [7, 8, 9]], np.uint8)
LABELS = np.array([1, 2, 0, 7])


def write_scan(path, coords=COORDS, **arrays):
    """Writes an NPZ scan."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, xyz=coords, **arrays)


def write_folder(root):
    """Writes both scans and the tags."""
    write_scan(root / "office.npz", rgb=COLORS, label=LABELS)
    write_scan(root / "floor1" / "hall.npz")
    write_tags(root, "scene,wall,floor", "office,1,0")


def write_tags(root, *lines):
    """Writes the lines of `tags.csv`."""
    (root / "tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_office(root, **settings):
    """Reads the tagged scan."""
    return Folder(root, **settings).read("train", "office")
