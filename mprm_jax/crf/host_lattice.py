"""Builds a lattice with NumPy, on all cores, for use in JAX."""

import functools

import numpy as np

from mprm_jax.crf.lattice import Capacity, Lattice, bucket_capacity, row_size
from mprm_jax.crf.threads import in_threads
from mprm_jax.crf.vertices import Vertices, find_vertices, neighbor_pairs
from mprm_jax.types import Array


def build_lattice(
    features: Array, *, num_rows: int | None = None, capacity: Capacity | None = None
) -> Lattice:
    """Builds the lattice of a point set.

    Args:
      features: see `find_vertices`.
      num_rows: rows of the points' arrays, at least N and by default N; those past N are padding.
      capacity: by default the smallest bucket that holds the lattice.

    Returns:
      NumPy arrays.

    Raises:
      ValueError: the lattice exceeds `capacity`, or the features span too many kernel widths.
    """
    num_points, num_dims = features.shape
    num_rows = num_points if num_rows is None else num_rows
    if num_rows < num_points or num_dims < 1:
        raise ValueError(f"{features.shape} features for {num_rows} rows; no row may be missing.")
    vertices = find_vertices(features)
    counts = zip(vertices.corners, np.diff(vertices.firsts), strict=True)
    tails = [_num_tails(corners, count, num_dims) for corners, count in counts]
    needed = Capacity(vertices.firsts[-1], sum(int(each.sum()) for each in tails))
    lattice = _empty(num_dims, num_rows, needed, capacity)
    if num_points:
        fill = functools.partial(_fill_points, lattice, vertices, tails)
        in_threads(fill, range(num_dims + 1))
        in_threads(functools.partial(_fill_neighbors, lattice, vertices), range(num_dims + 1))
    return lattice


def _num_tails(corners: Array, num_vertices: int, num_dims: int) -> Array:
    """Rows of each vertex beyond the first, [m] int32."""
    counts = np.bincount(corners, minlength=num_vertices)
    return ((counts - 1) // row_size(num_dims)).astype(np.int32)


def _empty(num_dims: int, num_rows: int, needed: Capacity, capacity: Capacity | None) -> Lattice:
    """A lattice of the right size, without points."""
    capacity = bucket_capacity(needed, num_rows) if capacity is None else capacity
    if needed.vertices > capacity.vertices or needed.tails > capacity.tails:
        raise ValueError(f"The lattice needs {needed}, but was given {capacity}.")
    none, row = capacity.vertices, row_size(num_dims)
    return Lattice(
        vertices=np.full((num_dims + 1, num_rows), none, np.int32),
        weights=np.zeros((num_dims + 1, num_rows), np.float32),
        neighbors=np.full((num_dims + 1, 2, none + 1), none, np.int32),
        head_points=np.zeros((row, none + 1), np.int32),
        head_weights=np.zeros((row, none + 1), np.float32),
        tail_points=np.zeros((row, capacity.tails), np.int32),
        tail_weights=np.zeros((row, capacity.tails), np.float32),
        tail_vertices=np.full(capacity.tails, none, np.int32),
        num_vertices=np.int32(needed.vertices),
        num_tails=np.int32(needed.tails),
    )


def _fill_points(lattice: Lattice, vertices: Vertices, tails: list[Array], remainder: int) -> None:
    """Writes which points are around the vertices of one remainder."""
    corners, num_tails = vertices.corners[remainder], tails[remainder]
    first_vertex = np.int32(vertices.firsts[remainder])
    first_tail = sum(int(each.sum()) for each in tails[:remainder])
    lattice.vertices[remainder, : len(corners)] = corners + first_vertex
    lattice.weights[remainder, : len(corners)] = vertices.weights[remainder]
    points = np.argsort(corners, kind="stable").astype(np.int32)
    corners, weights = corners[points], vertices.weights[remainder][points]
    tail_starts = np.cumsum(num_tails, dtype=np.int32) - num_tails + np.int32(first_tail)
    of_tail = np.repeat(np.arange(len(num_tails), dtype=np.int32), num_tails)
    lattice.tail_vertices[first_tail : first_tail + len(of_tail)] = of_tail + first_vertex
    size = len(lattice.head_points)
    slots = np.arange(len(points), dtype=np.int32) - np.searchsorted(corners, corners)
    head = slots < size
    column, row = slots[head], corners[head] + first_vertex
    lattice.head_points[column, row] = points[head]
    lattice.head_weights[column, row] = weights[head]
    tail = ~head
    row, column = np.divmod(slots[tail], size)
    row += tail_starts[corners[tail]] - 1
    lattice.tail_points[column, row] = points[tail]
    lattice.tail_weights[column, row] = weights[tail]


def _fill_neighbors(lattice: Lattice, vertices: Vertices, axis: int) -> None:
    """Writes the neighbors along one axis."""
    before, after = lattice.neighbors[axis]
    sources, targets = neighbor_pairs(vertices, axis)
    before[sources] = targets
    after[targets] = sources
