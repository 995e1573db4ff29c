"""Finds the vertices of a lattice and their neighbors with NumPy, on all cores.

Vertices are numbered by remainder, then by their cells. So each remainder is sorted by itself, and
finding all neighbors along one axis merges two sorted lists.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mprm_jax.crf.simplex import elevate, enclosing_simplex
from mprm_jax.crf.threads import in_threads
from mprm_jax.types import Array

MAX_KEYS = 2**61  # twice a key is an int64
BLOCK_POINTS = 16384  # whose simplices are found at a time, in the cache of a core
TABLE_SIZE = 4  # entries per point up to which a table of all keys is faster than a sort


class Vertices(NamedTuple):
    """The vertices of a point set, and the simplex around each point."""

    keys: Array  # [M] int64, ascending
    firsts: list[int]  # number of the first vertex of each remainder, and of all vertices: d+2
    corners: Array  # [d+1, N] int32, vertex of a point among those of each remainder
    weights: Array  # [d+1, N] float32, barycentric
    strides: list[int]  # d+1 factors that make keys of d cells and a remainder


def find_vertices(features: Array) -> Vertices:
    """Finds the vertices of the simplices around points.

    Args:
      features: [N, d] float32 in kernel widths, finite, near the origin (within some thousands).

    Raises:
      ValueError: the features span too many kernel widths.
    """
    num_points, num_dims = features.shape
    cells = np.empty((num_dims, num_points), np.int32)
    ranks = np.empty((num_dims, num_points), np.int8)
    corners = np.empty((num_dims + 1, num_points), np.int32)
    weights = np.empty((num_dims + 1, num_points), np.float32)

    def enclose(columns: list[Array], block: slice) -> None:
        simplex = enclosing_simplex(columns, np)
        for whole, parts in zip((cells, ranks, weights), simplex, strict=True):
            for row, part in zip(whole, parts, strict=False):  # the last cell and rank are implied
                row[block] = part

    _in_blocks(enclose, features)
    strides = _strides(cells)
    lowest = _lowest_keys(cells, strides)

    def number(remainder: int) -> Array:
        keys = lowest + remainder * strides[-1]
        for rank, stride in zip(ranks, strides, strict=False):
            keys -= (rank > num_dims - remainder) * np.int64(stride)
        distinct, corners[remainder] = _numbered(keys)
        return distinct

    keys = in_threads(number, range(num_dims + 1))
    firsts = [0, *itertools.accumulate(map(len, keys))]
    return Vertices(np.concatenate(keys), firsts, corners, weights, strides)


def point_order(features: Array) -> Array:
    """An order of points in which those of a vertex are close, and follow the vertices: [N] int.

    Args, raises: see `find_vertices`.
    """
    cells = np.empty(features.shape[::-1], np.int32)

    def enclose(columns: list[Array], block: slice) -> None:
        for row, position in zip(cells, elevate(columns, np), strict=False):
            row[block] = np.round(position)

    _in_blocks(enclose, features)
    keys = _lowest_keys(cells, _strides(cells))
    # The upper half of a key tells enough of where a point is.
    return _sorted_order(keys >> max(_num_bits(keys) - 16, 0))


def neighbor_pairs(vertices: Vertices, axis: int) -> tuple[Array, Array]:
    """Vertices that have a neighbor before them along one axis, and that neighbor.

    The neighbor before a vertex is d higher on the axis and 1 lower on the other coordinates, so
    its remainder is 1 lower, or d after 0; in the other direction it is the inverse.

    Returns:
      Numbers of vertices, [P] int each.
    """
    keys, first, (*strides, last) = vertices.keys, vertices.firsts[1], vertices.strides
    # The neighbors of remainder 0 are last, so these are ascending like the keys.
    wanted = np.concatenate([keys[first:], keys[:first] + len(vertices.strides) * last])
    wanted -= last
    wanted[len(keys) - first :] -= sum(strides)
    if axis < len(strides):
        wanted += strides[axis]
    # Merging two sorted lists is faster than searching one of them.
    merged = np.concatenate([2 * keys, 2 * wanted + 1])
    merged.sort(kind="stable")
    is_wanted = merged & 1
    found = np.flatnonzero((np.diff(merged) == 1) & (is_wanted[:-1] == 0))
    num_wanted = np.cumsum(is_wanted)[found]
    return (num_wanted + first) % max(len(keys), 1), found - num_wanted


def _in_blocks(function: Callable[[list[Array], slice], None], features: Array) -> None:
    """Calls a function with the columns of a block of points, and with their place."""

    def run(start: int) -> None:
        block = slice(start, start + BLOCK_POINTS)
        function([*np.ascontiguousarray(features[block].T, np.float32)], block)

    in_threads(run, range(0, len(features), BLOCK_POINTS))


def _strides(cells: Array) -> list[int]:
    """Factors that make one number of d cells and a remainder, with room for those of neighbors."""
    spans = [int(np.ptp(cell)) + 6 if len(cell) else 6 for cell in cells]
    strides = [math.prod(spans[i + 1 :]) for i in range(-1, len(spans))]
    if strides[0] * (len(spans) + 1) > MAX_KEYS:
        raise ValueError(
            f"The features span {spans} lattice cells, too many to number; "
            "widen the kernel, rescale the features, or split the cloud."
        )
    return [*strides[1:], strides[0]]


def _lowest_keys(cells: Array, strides: list[int]) -> Array:
    """Keys of vertices of remainder 0 from d of their cells, [N] int64."""
    keys = np.zeros(cells.shape[1], np.int64)
    if not len(keys):
        return keys
    # The lowest cell becomes 3, so that neighbors of neighbors stay above 0.
    shifts = [3 - int(cell.min()) for cell in cells]

    def add(start: int) -> None:
        block = slice(start, start + BLOCK_POINTS)
        for cell, shift, stride in zip(cells, shifts, strides, strict=False):
            keys[block] += (cell[block] + shift) * np.int64(stride)

    in_threads(add, range(0, len(keys), BLOCK_POINTS))
    return keys


def _numbered(keys: Array) -> tuple[Array, Array]:
    """The distinct among keys, ascending; and which of them each key is, [N] int32."""
    low = int(keys.min(initial=MAX_KEYS))
    size = int(keys.max(initial=low)) - low + 1
    if size <= TABLE_SIZE * len(keys):
        seen = np.zeros(size, bool)
        seen[keys - low] = True
        numbers = np.cumsum(seen, dtype=np.int32) - 1
        return np.flatnonzero(seen) + low, numbers[keys - low]
    order = _sorted_order(keys - low)
    keys = keys[order]
    new = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    numbers = np.empty(len(keys), np.int32)
    numbers[order] = np.cumsum(new, dtype=np.int32) - 1
    return keys[new], numbers


def _sorted_order(keys: Array) -> Array:
    """Where sorted keys, none below 0, have been: [N] int. Equal keys keep their order."""
    # Digits of 16 bits, the lowest first: NumPy sorts them by counting, not by comparing.
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    for shift in range(16, _num_bits(keys), 16):
        digits = (keys >> shift).astype(np.uint16)[order]
        order = order[np.argsort(digits, kind="stable")]
    return order


def _num_bits(keys: Array) -> int:
    return int(keys.max(initial=0)).bit_length()
