"""Finds the points within a radius, nearest first, in lists of fixed width."""

import numpy as np
from jaxtyping import Float, Int32, Int64
from scipy.spatial import cKDTree

from mprm_jax.types import Array


def make_tree(points: Float[Array, "N D"]) -> cKDTree:
    """A search tree made for few queries: quick to build, no slower to ask at these sizes."""
    return cKDTree(points, leafsize=24, compact_nodes=False, balanced_tree=False)


def radius_neighbors(
    queries: Float[Array, "M 3"], tree: cKDTree, radius: float, max_neighbors: int
) -> Int32[Array, "M {max_neighbors}"]:
    """The nearest `max_neighbors` points of the tree closer than `radius` to each query.

    Args:
      queries: meters.
      tree: over N points in meters.
      radius: meters; a point at exactly this distance is out.

    Returns:
      Into the tree's points, nearest first; N marks an empty slot.
    """
    shape = (len(queries), max_neighbors)
    if len(queries) == 0 or tree.n == 0:
        return np.full(shape, tree.n, np.int32)
    # A list of ranks keeps the result two-dimensional even for one neighbor.
    ranks = range(1, max_neighbors + 1)
    _, index = tree.query(queries, k=ranks, distance_upper_bound=radius)
    return index.astype(np.int32)


def nearest(queries: Float[Array, "M D"], tree: cKDTree) -> Int32[Array, " M"]:
    """Index of the point of the tree nearest to each query."""
    if len(queries) == 0:
        return np.zeros(0, np.int32)
    return tree.query(queries)[1].astype(np.int32)


def count_neighbors(
    queries: Float[Array, "M 3"], tree: cKDTree, radius: float
) -> Int64[Array, " M"]:
    """Number of points of the tree closer than `radius` to each query."""
    return tree.query_ball_point(queries, np.nextafter(radius, 0), return_length=True)
