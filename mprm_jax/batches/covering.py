"""Balls that hold every voxel of scenes, or of one tile of a large cloud."""

import numpy as np

from mprm_jax.batches.balls import Balls, Places
from mprm_jax.config import Config
from mprm_jax.geometry.balls import cover
from mprm_jax.progress import progress_bar
from mprm_jax.store.scenes import CloudArrays, LooseClouds, VoxelClouds
from mprm_jax.store.targets import Targets
from mprm_jax.types import Array


class CoveringBalls(Balls):
    """Several covers of every scene, each holding every voxel; a pass visits one of them.

    Covers are a function of (seed, scene, number of the cover). A ball that would not fit a bucket
    is made smaller, so that none is thinned.
    """

    def __init__(
        self,
        clouds: VoxelClouds,
        num_classes: int,
        config: Config,
        num_covers: int,
        targets: Targets | None = None,
    ):
        self._targets = targets
        self.num_covers = num_covers
        radius, max_points = config.seg.radius, config.pyramid.bucket_points
        places, covers = [], []
        with progress_bar(len(clouds.scenes), "scenes", "covering with balls") as bar:
            for scene in range(len(clouds.scenes)):
                coords = clouds.cloud(scene).coords
                for number in range(num_covers):
                    rng = np.random.default_rng((config.seed, 5, scene, number))
                    found = cover(coords, radius, max_points, rng)
                    places.append(Places(np.full(len(found.radii), scene), *found))
                    covers.append(np.full(len(found.radii), number))
                bar.update()
        self._cover_of: Array = np.concatenate(covers)
        joined = Places(*(np.concatenate(parts) for parts in zip(*places, strict=True)))
        super().__init__(clouds, joined, num_classes, config)

    @property
    def passes(self) -> tuple[Array, ...]:
        return tuple(np.flatnonzero(self._cover_of == i) for i in range(self.num_covers))

    def labels_of(self, index: int, rows: Array) -> Array:
        if self._targets is None:
            return super().labels_of(index, rows)
        return self._targets.labels(self.scenes[self.scene_of[index]])[rows]


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
