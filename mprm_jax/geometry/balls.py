"""Places ball seeds in a scene and finds the points of each ball (paper 3, eq. 1)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Real
from scipy.spatial import cKDTree

from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.types import Array


class Cover(NamedTuple):
    """Balls that together hold the points to be covered."""

    centers: Float32[Array, "S 3"]  # meters
    radii: Float64[Array, " S"]  # meters
    num_points: Int64[Array, " S"]


def grid_seeds(
    coords: Real[Array, "N 3"], radius: float | np.floating, placement: str
) -> Float64[Array, "S 3"]:
    """Ball centers on a regular grid over the bounding box of a cloud, floor(l / r) + 1 per axis.

    "ends" puts the outer seeds on the faces of the box, as the released labels do; an axis shorter
    than the radius has one seed, at its minimum. "centres" puts as many seeds at the centers of
    equal cells, whose balls cover the whole box.

    Args:
      coords: meters, N >= 1.
      radius: meters, r.

    Returns:
      Meters; x changes slowest; empty balls are not removed here.

    Source: paper section 3; mprm `datasets/Scannet_subcloud.py`.
    """
    low, high = coords.min(axis=0).astype(np.float64), coords.max(axis=0).astype(np.float64)
    counts = grid_seed_counts(coords, radius)
    if placement == "ends":
        axes = [np.linspace(low[a], high[a], counts[a]) for a in range(3)]
    elif placement == "centres":
        axes = [
            low[a] + (np.arange(counts[a]) + 0.5) * (high[a] - low[a]) / counts[a] for a in range(3)
        ]
    else:
        raise ValueError(f"data.seeds is {placement!r}; choose ends or centres.")
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def grid_seed_counts(coords: Real[Array, "N 3"], radius: float | np.floating) -> Int64[Array, "3"]:
    """Number of seeds on each axis."""
    low, high = coords.min(axis=0).astype(np.float64), coords.max(axis=0).astype(np.float64)
    return np.floor((high - low) / radius).astype(np.int64) + 1


def in_ball(offsets: Float32[Array, "N 3"], radius: float | np.floating) -> Bool[Array, " N"]:
    """Whether each offset from the center is shorter than `radius`.

    The one rule for points at the surface of a ball, so that what `prepare` counts holds in
    training to the last point.

    Args:
      offsets: meters.
    """
    return np.sum(np.square(offsets), axis=1, dtype=np.float64) < np.float64(radius) ** 2


def ball_rows(
    coords: Float32[Array, "N 3"],
    tree: cKDTree,
    center: Float32[Array, "3"],
    radius: float | np.floating,
) -> Int32[Array, " M"]:
    """Ascending rows of `coords` inside a ball; the tree over them narrows the search.

    Args:
      coords: meters.
      center: meters.
      radius: meters.
    """
    found = tree.query_ball_point(center, _wider(radius), return_sorted=True)
    rows = np.asarray(found, np.int32)
    return rows[in_ball(coords[rows] - center[None], radius)]


def scan_ball(
    coords: Float32[Array, "N 3"], center: Float32[Array, "3"], radius: float | np.floating
) -> Int32[Array, " M"]:
    """Ascending rows of `coords` inside a ball, by a look at all: for clouds asked about seldom.

    Below a few 100 000 points it is as fast as a search tree that is there already.

    Args:
      coords: meters.
      center: meters.
      radius: meters.
    """
    rows = np.flatnonzero(np.abs(coords[:, 0] - center[0]) <= _wider(radius))
    for axis in (1, 2):
        rows = rows[np.abs(coords[rows, axis] - center[axis]) <= _wider(radius)]
    return rows[in_ball(coords[rows] - center[None], radius)].astype(np.int32)


def cover(
    coords: Float32[Array, "N 3"],
    radius: float | np.floating,
    max_points: int,
    rng: np.random.Generator,
    wanted: Bool[Array, " N"] | None = None,
) -> Cover:
    """Covers a cloud with balls around its own points.

    Centers are drawn one after the other among the points that no ball holds yet. A ball of more
    than `max_points` points is made as much smaller as it takes to hold no more of them.

    Args:
      coords: meters, N >= 1, no two alike.
      radius: meters.
      wanted: points to be covered, at least one; all if None.
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


def _wider(radius: float | np.floating) -> float:
    """More than a radius, by more than float32 rounding at a kilometer from the origin."""
    return float(radius) * 1.001 + 1e-3


def _radius_of(offsets: Float32[Array, "N 3"], max_points: int) -> float:
    """Largest radius with which a ball holds at most `max_points` of more points."""
    sq_dist = np.sum(np.square(offsets), axis=1, dtype=np.float64)
    # Below the root of the first one outside by more than rounding: in_ball squares it again.
    return float(np.sqrt(np.partition(sq_dist, max_points)[max_points]) * (1 - 1e-12))
