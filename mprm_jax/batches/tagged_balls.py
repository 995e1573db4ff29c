"""The weakly labeled subclouds of a split: what the classification stage may know of a data set.

Reads voxel coordinates, colors and tags of a prepared store; never a point label.
"""

import pathlib

import numpy as np

from mprm_jax.batches.ball_arrays import BallArrays, write_ball_arrays
from mprm_jax.batches.balls import Balls, BarePoints, Places
from mprm_jax.config import Config
from mprm_jax.errors import UserError
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.voxel_clouds import StoredClouds
from mprm_jax.types import IGNORED, Array


class Subclouds(Balls):
    """All non-empty tagged balls of a split."""

    def __init__(self, store: SceneStore, split: str, config: Config):
        self.store, self.split = store, split
        weak = [store.weak_labels(split, scene) for scene in store.scenes(split)]
        counts = [len(labels.centers) for labels in weak]
        if sum(counts) == 0:
            raise UserError(
                f"{store.path}: no scene of split {split} is tagged; give them tags (tags.csv in "
                "a folder of scans), prepare again, or choose another split."
            )
        places = Places(
            scene_of=np.repeat(np.arange(len(weak)), counts),
            centers=np.concatenate([labels.centers for labels in weak]),
            radii=np.concatenate([labels.radii for labels in weak]),
            num_points=np.concatenate([labels.num_points for labels in weak]),
        )
        super().__init__(StoredClouds(store, split), places, len(store.classes), config)
        if config.data.labels == "scene":
            self.tags: Array = np.repeat([labels.scene_tags for labels in weak], counts, axis=0)
        else:
            self.tags = np.concatenate([labels.tags for labels in weak])

        self._arrays: BallArrays | None = None

    def keep_arrays(self, folder: pathlib.Path) -> None:
        """Cuts all balls out of their scenes now, so that `bare` is a slice from then on.

        Raises:
          OSError: the disk is full.
        """
        self._arrays = write_ball_arrays(self, folder)

    def tags_of(self, index: int) -> Array:
        return self.tags[index]

    def bare(self, index: int) -> tuple[BarePoints, Array]:
        if self._arrays is None:
            return super().bare(index)
        ball = self._arrays.read(index)
        return ball, np.full(len(ball.points), IGNORED, np.int32)
