"""Labels every point of any cloud with a segmentation network, tile by tile in bounded memory."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mprm_jax.batches.covering import TileBalls
from mprm_jax.errors import UserError
from mprm_jax.geometry.neighbors import make_tree, nearest
from mprm_jax.geometry.tiles import Tile, tiles
from mprm_jax.scans.cleaning import clean_cloud, warn_of_millimeters
from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.scans.scene import Scene
from mprm_jax.store.manifest import StoreSettings
from mprm_jax.store.prepared_scene import prepare_scene
from mprm_jax.store.scenes import CloudArrays
from mprm_jax.training.answers import ReadyNetwork, scene_sums
from mprm_jax.types import IGNORED, Array

NOWHERE = -1  # voxel of a point without a finite position


class VoxelizedScan(NamedTuple):
    """A scan of N points, and the V voxels that stand for them."""

    cloud: CloudFile  # as it is in the file
    voxels: CloudArrays
    point_voxel: Array  # [N] int32, nearest voxel of each point; NOWHERE for those without


@dataclasses.dataclass(frozen=True)
class PredictSettings:
    """How thoroughly a cloud is looked at, and how much of it at a time."""

    votes: int = 1  # balls in which each voxel is seen at least
    augment: bool = False  # move each ball at random, as in training
    tile_voxels: int = 1_000_000  # at most, besides the margin; memory grows with it

    def __post_init__(self):
        for name in ("votes", "tile_voxels"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; give 1 or more.")


class Prediction(NamedTuple):
    """What a network says of N points or voxels."""

    label: Array  # [N] int16 or int32; IGNORED for points without a finite position
    confidence: Array  # [N] float32 in [0, 1]; 0 without a label


class Predictor:
    """A network, and how it is asked about a cloud.

    Args:
      network: its step returns class scores [num_devices * T_0, num_classes].
      choose: from mean scores [V, num_classes] over the balls of voxels to labels and confidences.
    """

    def __init__(
        self,
        network: ReadyNetwork,
        num_classes: int,
        settings: PredictSettings,
        choose: Callable[[Array], Prediction],
    ):
        self.network, self.num_classes = network, num_classes
        self.settings, self.choose = settings, choose

    def points(
        self, scan: VoxelizedScan, origin: str, progress: Callable[[float], None]
    ) -> Prediction:
        """Labels the N points of a cloud; each has the label of its nearest voxel.

        Args:
          origin: the file, for messages.
          progress: called with the share of the cloud that was just done.
        """
        found = self.voxels(scan.voxels, origin, progress)
        real = scan.point_voxel != NOWHERE
        return Prediction(
            label=np.where(real, found.label[scan.point_voxel], np.int16(IGNORED)),
            confidence=np.where(real, found.confidence[scan.point_voxel], np.float32(0)),
        )

    def voxels(
        self, voxels: CloudArrays, origin: str, progress: Callable[[float], None]
    ) -> Prediction:
        """Labels the V voxels of a cloud; arguments as of `points`.

        Every ball around a voxel of a tile lies in the tile and its margin, so that tiles see what
        the whole cloud would show them.
        """
        num_voxels, radius = len(voxels.coords), self.network.config.seg.radius
        found = Prediction(np.full(num_voxels, IGNORED, np.int16), np.zeros(num_voxels, np.float32))
        for tile in tiles(voxels.coords, self.settings.tile_voxels, radius):
            share = float(np.sum(tile.core)) / num_voxels
            of_tile = self._tile(voxels, tile, origin, lambda x, share=share: progress(share * x))
            own = tile.rows[tile.core]
            found.label[own], found.confidence[own] = of_tile
        return found

    def _tile(
        self, voxels: CloudArrays, tile: Tile, origin: str, progress: Callable[[float], None]
    ) -> Prediction:
        """Labels the own voxels of a tile."""
        network, settings = self.network, self.settings
        cloud = CloudArrays(voxels.coords[tile.rows], voxels.colors[tile.rows])
        of_tile = tile.core, origin, self.num_classes
        balls = TileBalls(cloud, *of_tile, network.config, settings.votes)
        ((_, merged),) = scene_sums(
            network,
            balls,
            [0],
            epochs=(0,) if settings.augment else (None,),
            progress=lambda num_balls: progress(num_balls / len(balls)),
        )
        return self.choose(merged.sums[tile.core] / merged.num_votes[tile.core, None])


def load_scan(
    path: pathlib.Path, settings: StoreSettings, *, use_colors: bool, unit_flag: str
) -> VoxelizedScan:
    """Reads a cloud or mesh and finds its voxels.

    Args:
      settings: of the store that the network was trained on, with the scale of this scan.
      use_colors: whether the network was trained with colors; else those of the file do not count.
      unit_flag: the words that set the scale, for a scan that looks like millimeters.

    Raises:
      OSError: the file cannot be opened.
      ValueError: unknown format, broken, or as of `voxelized`.
    """
    cloud = read_cloud(path)
    return voxelized(path, cloud, settings, use_colors=use_colors, unit_flag=unit_flag)


def voxelized(
    origin: pathlib.Path,
    cloud: CloudFile,
    settings: StoreSettings,
    *,
    use_colors: bool,
    unit_flag: str,
) -> VoxelizedScan:
    """Finds the voxels of a cloud, as preparation does; arguments as of `load_scan`.

    Args:
      origin: of the cloud, for messages.

    Raises:
      ValueError: empty, without the colors that are needed, without a finite point, or too large
        for its unit.
    """
    if use_colors and cloud.colors is None:
        raise UserError(
            f"{origin}: no colors, but the network was trained with them; give a scan with colors, "
            "or a network that was trained without (mprm train --set data.colors=none)."
        )
    clean, rows = clean_cloud(origin, cloud)
    coords = clean.coords * settings.scale
    warn_of_millimeters(origin, coords, unit_flag)
    scene = Scene(coords, clean.colors if use_colors else None, None, clean.faces, None)
    try:
        prepared = prepare_scene(scene, settings, num_classes=0)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from error
    point_voxel = np.full(len(cloud.coords), NOWHERE, np.int32)
    point_voxel[rows] = prepared.point_voxel
    # Points that repeat a position say nothing new of their voxel, but have one.
    repeated = (point_voxel == NOWHERE) & np.isfinite(cloud.coords).all(axis=1)
    if repeated.any():
        moved = cloud.coords[repeated] * settings.scale - np.array(prepared.info.origin)[None]
        point_voxel[repeated] = nearest(moved, make_tree(prepared.voxels.coords))
    return VoxelizedScan(cloud._replace(labels=None, label_name=None), prepared.voxels, point_voxel)
