"""Anyone's cloud, read from its file and prepared as training scenes are; labels are not read."""

import pathlib
from typing import NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.geometry.neighbors import make_tree, nearest
from mprm_jax.scans.cleaning import clean_cloud, warn_of_millimeters
from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.scans.scene import Scene
from mprm_jax.store.manifest import StoreSettings
from mprm_jax.store.preparation import prepare_scene
from mprm_jax.store.scenes import CloudArrays
from mprm_jax.types import Array

NOWHERE = -1  # voxel of a point without a finite position


class RawCloud(NamedTuple):
    """A scan of N points, and the V voxels that stand for them."""

    cloud: CloudFile  # as it is in the file
    voxels: CloudArrays
    point_voxel: Array  # [N] int32, nearest voxel of each point; NOWHERE for those without


def load_raw_cloud(
    path: pathlib.Path, settings: StoreSettings, *, use_colors: bool, unit_flag: str
) -> RawCloud:
    """Reads a cloud or mesh and finds its voxels.

    Args:
      settings: of the store that the network was trained on, with the scale of this scan.
      use_colors: whether the network was trained with colors; else those of the file do not count.
      unit_flag: the words that set the scale, for a scan that looks like millimeters.

    Raises:
      OSError: the file cannot be opened.
      ValueError: unknown format, broken, empty, without the colors that are needed, without a
        finite point, or too large for its unit.
    """
    cloud = read_cloud(path)
    if use_colors and cloud.colors is None:
        raise UserError(
            f"{path}: no colors, but the network was trained with them; give a scan with colors, "
            "or a network that was trained without (train.py --set data.colors=none)."
        )
    clean, rows = clean_cloud(path, cloud)
    coords = clean.coords * settings.scale
    warn_of_millimeters(path, coords, unit_flag)
    scene = Scene(coords, clean.colors if use_colors else None, None, clean.faces, None)
    try:
        prepared = prepare_scene(scene, settings, num_classes=0)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    point_voxel = np.full(len(cloud.coords), NOWHERE, np.int32)
    point_voxel[rows] = prepared.point_voxel
    # Points that repeat a position say nothing new of their voxel, but have one.
    repeated = (point_voxel == NOWHERE) & np.isfinite(cloud.coords).all(axis=1)
    if repeated.any():
        moved = cloud.coords[repeated] * settings.scale - np.array(prepared.info.origin)[None]
        point_voxel[repeated] = nearest(moved, make_tree(prepared.voxels.coords))
    return RawCloud(cloud._replace(labels=None, label_name=None), prepared.voxels, point_voxel)
