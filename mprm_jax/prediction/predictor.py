"""Labels every point of any cloud with a segmentation network, tile by tile in bounded memory."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from mprm_jax.batches.covering import TileBalls
from mprm_jax.config import Config
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
from mprm_jax.training.answers import scene_sums
from mprm_jax.types import IGNORED, Array

NOWHERE = -1  # voxel of a point without a finite position


class RawCloud(NamedTuple):
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

    label: Array  # [N] int16; IGNORED for points without a finite position
    confidence: Array  # [N] float32 in [0, 1], mean probability of the label; 0 without one


class Predictor:
    """A network and how it is asked.

    Args:
      predict: step that returns class probabilities [num_devices * T_0, num_classes].
      config: of the network.
      mesh: of this host's devices.
    """

    def __init__(
        self,
        predict: Callable[[Any, Any], Any],
        state: Any,
        num_classes: int,
        config: Config,
        mesh: jax.sharding.Mesh,
        settings: PredictSettings,
    ):
        self.predict, self.state, self.num_classes = predict, state, num_classes
        self.config, self.mesh, self.settings = config, mesh, settings

    def points(self, raw: RawCloud, origin: str, progress: Callable[[float], None]) -> Prediction:
        """Labels the N points of a cloud; each has the label of its nearest voxel.

        Args:
          origin: the file, for messages.
          progress: called with the share of the cloud that was just done.
        """
        return spread(self.voxels(raw.voxels, origin, progress), raw.point_voxel)

    def voxels(
        self, voxels: CloudArrays, origin: str, progress: Callable[[float], None]
    ) -> Prediction:
        """Labels the V voxels of a cloud; arguments as of `points`.

        Every ball around a voxel of a tile lies in the tile and its margin, so that tiles see what
        the whole cloud would show them.
        """
        num_voxels = len(voxels.coords)
        found = Prediction(np.full(num_voxels, IGNORED, np.int16), np.zeros(num_voxels, np.float32))
        for tile in tiles(voxels.coords, self.settings.tile_voxels, self.config.seg.radius):
            share = float(np.sum(tile.core)) / num_voxels
            of_tile = self._tile(voxels, tile, origin, lambda x, share=share: progress(share * x))
            own = tile.rows[tile.core]
            found.label[own], found.confidence[own] = of_tile
        return found

    def _tile(
        self, voxels: CloudArrays, tile: Tile, origin: str, progress: Callable[[float], None]
    ) -> Prediction:
        """Labels the own voxels of a tile."""
        settings = self.settings
        cloud = CloudArrays(voxels.coords[tile.rows], voxels.colors[tile.rows])
        balls = TileBalls(cloud, tile.core, origin, self.num_classes, self.config, settings.votes)
        ((_, merged),) = scene_sums(
            *(self.predict, self.state, balls, self.config, self.mesh, [0]),
            epochs=(0,) if settings.augment else (None,),
            progress=lambda num_balls: progress(num_balls / len(balls)),
        )
        sums = merged.sums[tile.core]
        means = sums.max(axis=1) / merged.num_votes[tile.core]
        # Rounding may lift a sum of ones above their number.
        return Prediction(sums.argmax(axis=1), np.minimum(means, 1))


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


def spread(of_voxels: Prediction, point_voxel: Array) -> Prediction:
    """Gives each point what its voxel has, and nothing where it has none.

    Args:
      point_voxel: [N] int32, NOWHERE for a point without a voxel.
    """
    real = point_voxel != NOWHERE
    return Prediction(
        label=np.where(real, of_voxels.label[point_voxel], np.int16(IGNORED)),
        confidence=np.where(real, of_voxels.confidence[point_voxel], np.float32(0)),
    )
