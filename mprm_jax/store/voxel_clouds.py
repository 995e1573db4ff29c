"""Voxel clouds by scene: those of a split of a store, or loose ones in memory."""

import functools
from collections.abc import Mapping, Sequence
from typing import Protocol

from mprm_jax.store.scenes import CloudArrays, SceneStore

_KEPT = 256  # scenes in memory


class VoxelClouds(Protocol):
    """One point per occupied voxel of every scene; a scene is known by its place in `scenes`."""

    scenes: Sequence[str]
    origin: str  # where they come from, for messages

    def num_voxels(self, scene: int) -> int:
        """Voxels of a scene."""

    def cloud(self, scene: int) -> CloudArrays:
        """Positions and colors of the voxels of a scene."""


class StoredClouds:
    """Scenes of a split, read when needed; all of them if not told which."""

    def __init__(self, store: SceneStore, split: str, scenes: Sequence[str] | None = None):
        self.store, self.split = store, split
        self.scenes = tuple(store.scenes(split) if scenes is None else scenes)
        self.origin = str(store.path)

    def num_voxels(self, scene: int) -> int:
        return self.store.info(self.split, self.scenes[scene]).voxels

    @functools.lru_cache(maxsize=_KEPT)  # noqa: B019  one instance lives as long as the process
    def cloud(self, scene: int) -> CloudArrays:
        return self.store.voxel_cloud(self.split, self.scenes[scene])


class LooseClouds:
    """Scenes that belong to no store."""

    def __init__(self, clouds: Mapping[str, CloudArrays], origin: str):
        self._clouds, self.origin = tuple(clouds.values()), origin
        self.scenes: Sequence[str] = tuple(clouds)

    def num_voxels(self, scene: int) -> int:
        return len(self._clouds[scene].coords)

    def cloud(self, scene: int) -> CloudArrays:
        return self._clouds[scene]
