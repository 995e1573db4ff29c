"""Points and colors of a fixed list of balls in two files, so that reading a ball is a slice.

Balls are cut out of their scenes once, at 15 bytes a point. The files are mapped rather than
loaded: memory holds of them what the system can spare.
"""

import pathlib

import numpy as np

from mprm_jax.batches.balls import Balls, BarePoints
from mprm_jax.progress import progress_bar
from mprm_jax.writing import explain_failed_write

_POINTS, _COLORS, _STARTS = "points.f32", "colors.u8", "starts.npy"


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
