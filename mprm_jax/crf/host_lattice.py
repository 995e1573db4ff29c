"""Builds a lattice with NumPy, on all cores.

Vertices are numbered by remainder, then by their cells. So each remainder is sorted by itself, and
looking up the neighbors of one kind of vertex along one axis walks two sorted lists.
"""

import functools
import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from mprm_jax.crf.lattice import Capacity, Lattice, bucket_capacity, row_size
from mprm_jax.crf.simplex import Simplex, enclosing_simplex
from mprm_jax.types import Array

MAX_KEYS = 2**62  # keys are int64


def build_lattice(
    features: Array, *, num_rows: int | None = None, capacity: Capacity | None = None
) -> Lattice:
    """Builds the lattice of a point set.

    Args:
      features: [N, d] float32 in kernel widths, finite, near the origin (within some thousands).
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
    if num_points == 0:
        return _assemble([], num_dims, num_rows, capacity)
    columns = [np.ascontiguousarray(column, np.float32) for column in features.T]
    simplex = enclosing_simplex(columns, np)
    strides = _strides(simplex.cells[:num_dims])
    sort = functools.partial(_sort_remainder, simplex, strides)
    kinds = _in_threads(sort, range(num_dims + 1))
    lattice = _assemble(kinds, num_dims, num_rows, capacity)
    _in_threads(functools.partial(_fill_points, lattice, kinds), range(num_dims + 1))
    _in_threads(functools.partial(_fill_neighbors, lattice, kinds, strides), range(num_dims + 1))
    return lattice


class _Kind(NamedTuple):
    """All vertices of one remainder, and the points around them sorted by vertex."""

    keys: Array  # [m] int64, ascending
    points: Array  # [n] int32
    weights: Array  # [n] float32
    owners: Array  # [n] int32 into `keys`, ascending
    slots: Array  # [n] int32, place of a point among those of its vertex
    tails: Array  # [m] int32, rows of a vertex beyond the first


def _strides(cells: list[Array]) -> list[int]:
    """Factors that make one number of d cells, with room for the cells of neighbors."""
    spans = [int(cell.max()) - int(cell.min()) + 6 for cell in cells]
    strides = [math.prod(spans[i + 1 :]) for i in range(len(spans))]
    if strides[0] * spans[0] > MAX_KEYS:
        raise ValueError(
            f"The features span {spans} lattice cells, too many to number; "
            "widen the kernel, rescale the features, or split the cloud."
        )
    return strides


def _sort_remainder(simplex: Simplex, strides: list[int], remainder: int) -> _Kind:
    """Finds the distinct vertices of one remainder."""
    dims = len(strides)
    keys = np.zeros(len(simplex.cells[0]), np.int64)
    for cells, rank, stride in zip(simplex.cells, simplex.ranks, strides, strict=False):
        # The lowest cell becomes 3, so that neighbors of neighbors stay above 0.
        offset = 3 - int(cells.min())
        keys += (cells + offset - (rank > dims - remainder)) * np.int64(stride)
    keys, points = _sort_with_index(keys)
    new = np.empty(len(keys), bool)
    new[0] = True
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    starts = np.flatnonzero(new).astype(np.int32)
    owners = np.cumsum(new, dtype=np.int32) - 1
    counts = np.diff(starts, append=np.int32(len(keys)))
    slots = np.arange(len(keys), dtype=np.int32) - starts[owners]
    tails = (counts - 1) // row_size(dims)
    return _Kind(keys[starts], points, simplex.weights[remainder][points], owners, slots, tails)


def _sort_with_index(keys: Array) -> tuple[Array, Array]:
    """Sorts keys in [0, 2^62]; also returns where they were. Equal keys keep their order."""
    bits = max(len(keys) - 1, 1).bit_length()
    if int(keys.max()).bit_length() + bits > 63:
        order = np.argsort(keys, kind="stable")
        return keys[order], order.astype(np.int32)
    # Key and index in one number: sorting values is faster than sorting an index.
    packed = (keys << bits) | np.arange(len(keys))
    packed.sort()
    return packed >> bits, (packed & ((1 << bits) - 1)).astype(np.int32)


def _assemble(
    kinds: list[_Kind], num_dims: int, num_rows: int, capacity: Capacity | None
) -> Lattice:
    """A lattice of the right size, with all entries empty."""
    tails = sum(int(kind.tails.sum()) for kind in kinds)
    needed = Capacity(sum(len(kind.keys) for kind in kinds), tails)
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


def _fill_points(lattice: Lattice, kinds: list[_Kind], remainder: int) -> None:
    """Writes which points are around the vertices of one remainder."""
    kind = kinds[remainder]
    first_vertex = sum(len(other.keys) for other in kinds[:remainder])
    first_tail = sum(int(other.tails.sum()) for other in kinds[:remainder])
    owners = kind.owners + np.int32(first_vertex)
    lattice.vertices[remainder, kind.points] = owners
    lattice.weights[remainder, kind.points] = kind.weights
    tail_starts = np.cumsum(kind.tails, dtype=np.int32) - kind.tails + np.int32(first_tail)
    num_tails = int(kind.tails.sum())
    of_tail = np.repeat(np.arange(len(kind.keys), dtype=np.int32), kind.tails)
    lattice.tail_vertices[first_tail : first_tail + num_tails] = of_tail + np.int32(first_vertex)
    size = len(lattice.head_points)
    head = kind.slots < size
    column, row = kind.slots[head], owners[head]
    lattice.head_points[column, row] = kind.points[head]
    lattice.head_weights[column, row] = kind.weights[head]
    tail = ~head
    column, row = np.divmod(kind.slots[tail], size)[::-1]
    row += tail_starts[kind.owners[tail]] - 1
    lattice.tail_points[column, row] = kind.points[tail]
    lattice.tail_weights[column, row] = kind.weights[tail]


def _fill_neighbors(lattice: Lattice, kinds: list[_Kind], strides: list[int], axis: int) -> None:
    """Writes the neighbors along one axis.

    The neighbor before a vertex is d higher on the axis and 1 lower on the other coordinates, so
    its remainder is 1 lower, or d after 0; in the other direction it is the inverse.
    """
    before, after = lattice.neighbors[axis]
    step = strides[axis] if axis < len(strides) else 0
    sizes = [len(kind.keys) for kind in kinds]
    for remainder, kind in enumerate(kinds):
        other = (remainder - 1) % len(kinds)
        wanted = kind.keys + (step if remainder else step - sum(strides))
        place = np.searchsorted(kinds[other].keys, wanted)
        np.minimum(place, sizes[other] - 1, out=place)
        found = np.flatnonzero(kinds[other].keys[place] == wanted)
        source, target = found + sum(sizes[:remainder]), place[found] + sum(sizes[:other])
        before[source] = target
        after[target] = source


def _in_threads(function: Callable, items: Iterable[int]) -> list:
    """Maps in threads: sorting, searching and arithmetic of NumPy do not hold the lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))
