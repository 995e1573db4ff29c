"""Balls that hold every voxel of one tile of a large cloud, for the segmentation network."""

import functools

import numpy as np
from scipy.spatial import cKDTree

from mprm_jax.batches.balls import Balls, Places
from mprm_jax.config import Config
from mprm_jax.geometry.covers import cover
from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.store.scenes import CloudArrays
from mprm_jax.store.voxel_clouds import LooseClouds
from mprm_jax.types import Array


class TileBalls(Balls):
    """Covers of the tile's own voxels; with a margin of a radius no ball is cut by its border.

    As those of `CoveringBalls`, no ball is larger than a bucket. The tile is the only scene.
    """

    def __init__(
        self,
        cloud: CloudArrays,
        core: Array,
        origin: str,
        num_classes: int,
        config: Config,
        num_covers: int,
    ):
        """Covers a tile.

        Args:
          cloud: M voxels of the tile and its margin.
          core: [M] bool, the tile's own, at least one.
          origin: the scan it is from, for messages.
          num_covers: balls that each own voxel lies in at least.
        """
        radius, max_points = config.seg.radius, config.pyramid.bucket_points
        rngs = [np.random.default_rng((config.seed, 5, 0, i)) for i in range(num_covers)]
        covers = [cover(cloud.coords, radius, max_points, rng, core) for rng in rngs]
        joined = [np.concatenate(parts) for parts in zip(*covers, strict=True)]
        places = Places(np.zeros(len(joined[0]), int), *joined)
        super().__init__(LooseClouds({"tile": cloud}, origin), places, num_classes, config)

    def _tree(self, scene: int) -> cKDTree:
        return self._own_tree

    @functools.cached_property
    def _own_tree(self) -> cKDTree:
        # Not in the cache of all balls, which would keep the tiles of a cloud in memory.
        return make_tree(self.clouds.cloud(0).coords)
