"""The weakly labeled subclouds of a split: what the classification stage may know of a data set.

Reads voxel coordinates, colors and tags of a prepared store; never a point label.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mprm_jax.config import Config
from mprm_jax.data.packing import Cloud
from mprm_jax.data.store import SceneStore
from mprm_jax.geometry.augmentation import jitter, random_transform
from mprm_jax.geometry.pyramid import PyramidSpec, build_pyramid
from mprm_jax.geometry.subclouds import in_ball
from mprm_jax.types import Array


class Subcloud(NamedTuple):
    """Points of one ball, as stored."""

    rows: Array  # [N] int32, ascending rows of the scene's voxel cloud
    points: Array  # [N, 3] float32, meters, relative to the ball's center
    colors: Array  # [N, 3] float32 in [0, 1]


class Subclouds:
    """All non-empty balls of a split, in the order of its scenes.

    A ball of more than `max_points` voxels is thinned to a fixed random choice of as many; the
    number of such balls is `num_thinned`.
    """

    def __init__(self, store: SceneStore, split: str, config: Config):
        self.store, self.split, self.config = store, split, config
        self.scenes: Sequence[str] = tuple(store.scenes(split))
        weak = [store.weak_labels(split, scene) for scene in self.scenes]
        counts = [len(labels.centers) for labels in weak]
        if sum(counts) == 0:
            raise ValueError(
                f"{store.path}: no scene of split {split} is tagged; give them tags (tags.csv in "
                "a folder of scans), prepare again, or choose another split."
            )
        self.max_points = config.pyramid.bucket_points
        self.scene_of: Array = np.repeat(np.arange(len(weak)), counts)
        self.centers: Array = np.concatenate([labels.centers for labels in weak])
        self.radii: Array = np.concatenate([labels.radii for labels in weak])
        found = np.concatenate([labels.num_points for labels in weak])
        self.num_points: Array = np.minimum(found, self.max_points)
        self.num_thinned = int(np.sum(found > self.max_points))
        if config.data.labels == "scene":
            self.tags: Array = np.repeat([labels.scene_tags for labels in weak], counts, axis=0)
        else:
            self.tags = np.concatenate([labels.tags for labels in weak])

    def __len__(self) -> int:
        return len(self.scene_of)

    def num_voxels(self, scene: int) -> int:
        """Voxels of the scene with this place in `scenes`."""
        return self.store.info(self.split, self.scenes[scene]).voxels

    def name(self, index: int) -> str:
        """Scene and center of a subcloud, for messages."""
        center = ", ".join(f"{value:.2f}" for value in self.centers[index])
        return f"{self.scenes[self.scene_of[index]]} at ({center})"

    def read(self, index: int) -> Subcloud:
        """The points of one ball."""
        coords, colors = self._scene(int(self.scene_of[index]))
        offsets = coords - self.centers[index][None]
        rows = np.flatnonzero(in_ball(offsets, self.radii[index]))
        if len(rows) > self.max_points:
            choice = np.random.default_rng((2, index)).permutation(len(rows))[: self.max_points]
            rows = rows[np.sort(choice)]
        return Subcloud(rows.astype(np.int32), offsets[rows], colors[rows] / np.float32(255))

    def cloud(self, index: int, spec: PyramidSpec, epoch: int | None) -> Cloud:
        """A subcloud with its pyramid and features; moved at random in a training epoch.

        `epoch` None leaves the points where they are.
        """
        rows, points, colors = self.read(index)
        if epoch is not None:
            points = self.moved(points, index, epoch)
        features = [np.ones((len(rows), 1), np.float32), colors]
        if self.config.model.height:
            features.append(points[:, 2:] - points[:, 2:].min())
        return Cloud(
            build_pyramid(points, spec), np.concatenate(features, axis=1), self.tags[index]
        )

    def moved(self, points: Array, index: int, epoch: int) -> Array:
        """Points of a ball after its random motion in a training epoch.

        The motion is a function of (seed, epoch, subcloud), so that neither the bucket nor the
        number of devices or workers changes it.
        """
        rng = np.random.default_rng((self.config.seed, 1, epoch, index))
        points = points @ random_transform(rng, self.config.augment)
        return jitter(points, rng, self.config.augment)

    @functools.lru_cache(maxsize=256)  # noqa: B019  one instance lives as long as the process
    def _scene(self, scene: int) -> tuple[Array, Array]:
        cloud = self.store.voxel_cloud(self.split, self.scenes[scene])
        return cloud.coords, cloud.colors
