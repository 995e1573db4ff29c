"""Covers a cloud with balls, so that every point of it, or of a part of it, lies in one."""

from typing import NamedTuple

import numpy as np

from mprm_jax.geometry.balls import ball_rows
from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.types import Array


class Cover(NamedTuple):
    """Balls that together hold the points to be covered."""

    centers: Array  # [S, 3] float32, meters
    radii: Array  # [S] float64, meters
    num_points: Array  # [S] int64


def cover(
    coords: Array,
    radius: float,
    max_points: int,
    rng: np.random.Generator,
    wanted: Array | None = None,
) -> Cover:
    """Covers a cloud with balls around its own points.

    Centers are drawn one after the other among the points that no ball holds yet. A ball of more
    than `max_points` points is made as much smaller as it takes to hold no more of them.

    Args:
      coords: [N, 3] float32, meters, N >= 1, no two alike.
      radius: meters.
      wanted: [N] bool, points to be covered, at least one; all if None.
    """
    tree = make_tree(coords)
    covered = np.zeros(len(coords), bool) if wanted is None else ~wanted
    balls = []
    for point in rng.permutation(len(coords)):
        if covered[point]:
            continue
        center = coords[point]
        rows, own_radius = ball_rows(coords, tree, center, radius), float(radius)
        if len(rows) > max_points:
            own_radius = _radius_of(coords[rows] - center[None], max_points)
            rows = ball_rows(coords, tree, center, own_radius)
        covered[rows] = True
        balls.append((center, own_radius, len(rows)))
    return Cover(*(np.array(values) for values in zip(*balls, strict=True)))


def _radius_of(offsets: Array, max_points: int) -> float:
    """Largest radius with which a ball holds at most `max_points` of more points."""
    sq_dist = np.sum(np.square(offsets), axis=1, dtype=np.float64)
    # Below the root of the first one outside by more than rounding: in_ball squares it again.
    return float(np.sqrt(np.partition(sq_dist, max_points)[max_points]) * (1 - 1e-12))
