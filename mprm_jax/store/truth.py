"""Point labels of a prepared store: for weak labels at preparation, and for measuring afterwards.

The classification stage must not import this file (a test looks): the firewall between weak
labels and point labels is a border between modules.
"""

import pathlib
from collections.abc import Sequence

from mprm_jax.errors import MissingError
from mprm_jax.scans.scannet import CLASSES as SCANNET_CLASSES
from mprm_jax.store.scenes import SceneStore, read_array
from mprm_jax.types import Array

VOXEL_LABEL_FILE = "voxel_segment.npy"
POINT_LABEL_FILES = ("segment20.npy", "segment.npy")  # 20 ScanNet classes; any other classes


def point_label_file(classes: Sequence[str]) -> str:
    """Pointcept's name for the labels: `segment20.npy` for the ScanNet classes, `segment.npy`."""
    return POINT_LABEL_FILES[tuple(classes) != SCANNET_CLASSES]


def has_labels(store: SceneStore, split: str, scene: str) -> bool:
    """Whether the point labels of a scene are there to be read."""
    return (store.folder(split, scene) / VOXEL_LABEL_FILE).exists()


def voxel_labels(store: SceneStore, split: str, scene: str) -> Array:
    """Majority label of each voxel, as [V] int16, -1 where unannotated.

    Raises:
      FileNotFoundError: the source had no labels, or they were deleted.
    """
    return _read(store.folder(split, scene) / VOXEL_LABEL_FILE)


def point_labels(store: SceneStore, split: str, scene: str) -> Array:
    """Label of each point of the scan, as [N] int16, -1 where unannotated.

    Raises:
      FileNotFoundError: the source had no labels, or they were deleted.
    """
    return _read(store.folder(split, scene) / point_label_file(store.manifest.classes))


def _read(path: pathlib.Path) -> Array:
    if not path.exists():
        raise MissingError(
            f"{path}: no point labels (the source had none, or they were deleted); "
            "measuring needs them, training does not."
        )
    return read_array(path)
