"""The balls of a scan that a person is to tag, in which order, and what was said of them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from mprm_jax.tagging.helpful_balls import Balls, fewest_balls, rank_balls
from mprm_jax.tagging.scans_shown import ShownScan, filled_balls
from mprm_jax.tagging.tag_files import Evidence, Said
from mprm_jax.types import Array

_COMPARED_VOXELS = 100_000


class BallsToTag:
    """The balls of one scan; a ball keeps its number, and those of the file join them."""

    def __init__(self, balls: Balls, origin: Float64[Array, "3"], scale: float):
        """Begins with balls in the shown frame.

        Args:
          origin: meters, of the shown frame in that of the source.
          scale: meters per unit of the scan file.
        """
        self.origin, self._scale = origin, scale
        rows = np.concatenate([balls.centers, np.reshape(balls.radii, (-1, 1))], axis=1)
        self.rows = rows[short_walk(rows[:, :3])]  # [S, 4] center and radius, meters, shown frame

    @property
    def balls(self) -> Balls:
        """All of them, in the shown frame."""
        return Balls(self.rows[:, :3], self.rows[:, 3])

    def in_file(self, point: Sequence[float]) -> list[float]:
        """A point in the unit and frame of the file, with a radius behind it if it has one."""
        values = np.array(point, np.float64)
        values[:3] += self.origin
        return (values / self._scale).tolist()

    def in_shown(self, point: Sequence[float]) -> Float64[Array, " K"]:
        """A point or ball of the file in the shown frame."""
        values = np.array(point, np.float64) * self._scale
        values[:3] -= self.origin
        return values

    def add(self, given: Sequence[Sequence[float]], tolerance: float) -> None:
        """Takes in balls of the file that are not known yet."""
        new = [given[i] for i in np.flatnonzero(self._matches(given, tolerance) < 0)]
        shown = np.array([self.in_shown(ball) for ball in new]).reshape(-1, 4)
        self.rows = np.concatenate([self.rows, shown])

    def said(self, evidence: Evidence, name: str, tolerance: float) -> list[Said | None]:
        """What the files say of each ball."""
        pairs = [(row.ball, what) for row, what in evidence.said(name) if row.ball]
        found: list[Said | None] = [None] * len(self.rows)
        matches = self._matches([ball for ball, _ in pairs], tolerance)
        for (_, what), ball in zip(pairs, matches, strict=True):
            if ball >= 0:
                found[ball] = what
        return found

    def find(self, ball: Float64[Array, "4"], tolerance: float) -> int | None:
        """The number of a ball of the shown frame; None if it is none of them."""
        apart = np.abs(self.rows - ball[None]).max(axis=1)
        return int(apart.argmin()) if len(apart) and apart.min() <= tolerance else None

    def _matches(self, given: Sequence[Sequence[float]], tolerance: float) -> Array:
        """Which known ball each given one is, -1 for none."""
        if not len(given) or not len(self.rows):
            return np.full(len(given), -1)
        own = np.array([self.in_file(row) for row in self.rows])
        apart = np.abs(np.array(given)[:, None] - own[None]).max(axis=2)
        return np.where(apart.min(axis=1) <= tolerance, apart.argmin(axis=1), -1)


def offered_balls(shown: ShownScan, num_balls: int | None, radius: float) -> Balls:
    """The balls that a person is asked about.

    Args:
      num_balls: this many, which cover the scan as well as so few can; None for the grid of the
        paper.
      radius: meters.
    """
    if num_balls is None:
        return shown.grid
    centers = fewest_balls(shown.voxels, radius, num_balls)
    return filled_balls(shown.voxels, centers, radius)


def helpful_order(
    shown: ShownScan,
    balls: Balls,
    said: Sequence[Said | None],
    classes: Sequence[str],
    confusion: Array | None,
) -> list[int]:
    """Numbers of balls: those with an answer, then the others, the most telling first.

    Args:
      confusion: [C, C] of a network; None before there is one.
    """
    known = np.array([what is not None for what in said], bool)
    tags = np.array(
        [[what is not None and name in what.tags for name in classes] for what in said], bool
    ).reshape(len(said), len(classes))
    # Of what nobody was sure of nothing follows: every class may be there.
    tags[[what is not None and what.unsure for what in said]] = True
    # So many are enough to compare balls by.
    voxels = shown.voxels[:: max(1, len(shown.voxels) // _COMPARED_VOXELS)]
    ranked = rank_balls(voxels, balls, known, tags, confusion)
    return [*np.flatnonzero(known).tolist(), *ranked.tolist()]


def short_walk(points: Float64[Array, "S 3"]) -> list[int]:
    """An order of points in which each is the nearest to its predecessor of those left.

    Args:
      points: meters; the walk starts at the one with the smallest sum of coordinates.
    """
    left = np.arange(len(points))
    cost, walk = points.sum(axis=1), []
    while len(left):
        best = int(cost[left].argmin())
        walk.append(int(left[best]))
        left = np.delete(left, best)
        cost = np.sum(np.square(points - points[walk[-1]][None]), axis=1)
    return walk
