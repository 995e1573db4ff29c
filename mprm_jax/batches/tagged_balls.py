"""The tagged balls of a split: what the classification stage may know of a data set.

Reads voxel coordinates, colors and tags of a prepared store; never a point label.

For networks that compute the geometry themselves, all balls are cut out of their scenes once, into
two files of 15 bytes a point. The files are mapped rather than loaded: memory holds of them what
the system can spare.
"""

import pathlib

import numpy as np

from mprm_jax.batches.balls import Balls, BarePoints, Places
from mprm_jax.config import Config
from mprm_jax.errors import UserError
from mprm_jax.progress import progress_bar
from mprm_jax.store.scenes import SceneStore, StoredClouds
from mprm_jax.types import IGNORED, Array
from mprm_jax.writing import explain_failed_write

_POINTS, _COLORS, _STARTS = "points.f32", "colors.u8", "starts.npy"


class TaggedBalls(Balls):
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

    def drop_arrays(self) -> None:
        """Forgets what `keep_arrays` kept; no system but POSIX deletes files that are mapped."""
        self._arrays = None

    def tags_of(self, index: int) -> Array:
        return self.tags[index]

    def bare(self, index: int) -> tuple[BarePoints, Array]:
        if self._arrays is None:
            return super().bare(index)
        ball = self._arrays.read(index)
        return ball, np.full(len(ball.points), IGNORED, np.int32)


class BallArrays:
    """The balls of a folder, in the order in which they were written."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._starts = np.load(folder / _STARTS)
        shape = (int(self._starts[-1]), 3)
        self._points = np.memmap(folder / _POINTS, np.float32, "r", shape=shape)
        self._colors = np.memmap(folder / _COLORS, np.uint8, "r", shape=shape)

    def __reduce__(self) -> tuple:
        return BallArrays, (self._folder,)  # workers map the files themselves

    def read(self, index: int) -> BarePoints:
        """The points of one ball."""
        rows = slice(self._starts[index], self._starts[index + 1])
        return BarePoints(self._points[rows], self._colors[rows])


def write_ball_arrays(balls: Balls, folder: pathlib.Path) -> BallArrays:
    """Cuts all balls out of their scenes, unless the folder holds them already.

    Args:
      folder: new, or of the same balls.

    Raises:
      OSError: the disk is full.
    """
    if not (folder / _STARTS).exists():
        with explain_failed_write(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _write(balls, folder)
    return BallArrays(folder)


def _write(balls: Balls, folder: pathlib.Path) -> None:
    with (
        open(folder / _POINTS, "wb") as points,
        open(folder / _COLORS, "wb") as colors,
        progress_bar(len(balls), "balls", "cutting out balls") as bar,
    ):
        for index in range(len(balls)):
            ball = balls.read(index)
            ball.points.tofile(points)
            ball.colors.tofile(colors)
            bar.update()
    # Last: its presence says that the others are whole.
    np.save(folder / _STARTS, np.concatenate([[0], np.cumsum(balls.num_points)]))
