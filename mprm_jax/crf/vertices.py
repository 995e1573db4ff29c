"""Finds the vertices of a lattice and their neighbors with NumPy, on all cores.

Vertices are numbered by remainder, then by their cells. So each remainder is sorted by itself, and
looking up the neighbors of one kind of vertex along one axis walks two sorted lists.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from mprm_jax.crf.simplex import elevate, enclosing_simplex
from mprm_jax.crf.threads import in_threads
from mprm_jax.types import Array

MAX_KEYS = 2**62  # keys are int64
BLOCK_POINTS = 16384  # whose simplices are found at a time, in the cache of a core
TABLE_SIZE = 4  # entries per point up to which a table of all keys is faster than a sort


class Vertices(NamedTuple):
    """The vertices of a point set, and the simplex around each point."""

    keys: list[Array]  # d+1 x [m] int64 ascending, by remainder; without points, none
    corners: Array  # [d+1, N] int32, vertex of a point among the keys of each remainder
    weights: Array  # [d+1, N] float32, barycentric
    strides: list[int]  # d factors that make keys of cells

    @property
    def firsts(self) -> list[int]:
        """Number of the first vertex of each remainder, and of all vertices: d+2."""
        return [0, *itertools.accumulate(map(len, self.keys))]


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
    if not num_points:
        return Vertices([], corners, weights, [0] * num_dims)

    def enclose(start: int) -> None:
        block = slice(start, start + BLOCK_POINTS)
        columns = np.ascontiguousarray(features[block].T, np.float32)
        simplex = enclosing_simplex([*columns], np)
        for whole, parts in zip((cells, ranks, weights), simplex, strict=True):
            for row, part in zip(whole, parts, strict=False):  # the last cell and rank are implied
                row[block] = part

    in_threads(enclose, range(0, num_points, BLOCK_POINTS))
    strides = _strides(cells)
    lowest = _lowest_keys(cells, strides)

    def number(remainder: int) -> Array:
        keys = lowest.copy()
        for rank, stride in zip(ranks, strides, strict=True):
            keys -= (rank > num_dims - remainder) * np.int64(stride)
        distinct, corners[remainder] = _numbered(keys)
        return distinct

    return Vertices(in_threads(number, range(num_dims + 1)), corners, weights, strides)


def point_order(features: Array) -> Array:
    """An order of points in which those of a vertex are close, and follow the vertices: [N] int.

    Args, raises: see `find_vertices`.
    """
    if not len(features):
        return np.zeros(0, int)
    elevated = elevate([*np.ascontiguousarray(features.T, np.float32)], np)
    cells = [np.round(x).astype(np.int32) for x in elevated[: features.shape[1]]]
    return _sorted_order(_lowest_keys(cells, _strides(cells)))


def neighbor_pairs(vertices: Vertices, axis: int) -> tuple[Array, Array]:
    """Vertices that have a neighbor before them along one axis, ascending, and that neighbor.

    The neighbor before a vertex is d higher on the axis and 1 lower on the other coordinates, so
    its remainder is 1 lower, or d after 0; in the other direction it is the inverse.

    Returns:
      Numbers of vertices, [P] int each.
    """
    keys, strides, firsts = vertices.keys, vertices.strides, vertices.firsts
    step = strides[axis] if axis < len(strides) else 0
    sources, targets = [], []
    for remainder in range(len(keys)):
        other = (remainder - 1) % len(keys)
        wanted = keys[remainder] + (step if remainder else step - sum(strides))
        place = np.searchsorted(keys[other], wanted)
        np.minimum(place, len(keys[other]) - 1, out=place)
        found = np.flatnonzero(keys[other][place] == wanted)
        sources.append(found + firsts[remainder])
        targets.append(place[found] + firsts[other])
    return np.concatenate(sources), np.concatenate(targets)


def _strides(cells: Array | list[Array]) -> list[int]:
    """Factors that make one number of d cells, with room for the cells of neighbors."""
    spans = [int(cell.max()) - int(cell.min()) + 6 for cell in cells]
    strides = [math.prod(spans[i + 1 :]) for i in range(len(spans))]
    if strides[0] * spans[0] > MAX_KEYS:
        raise ValueError(
            f"The features span {spans} lattice cells, too many to number; "
            "widen the kernel, rescale the features, or split the cloud."
        )
    return strides


def _lowest_keys(cells: Array | list[Array], strides: list[int]) -> Array:
    """Keys of vertices of remainder 0 from d of their cells, [N] int64."""
    keys = np.zeros(len(cells[0]), np.int64)
    for cell, stride in zip(cells, strides, strict=True):
        # The lowest cell becomes 3, so that neighbors of neighbors stay above 0.
        keys += (cell + (3 - int(cell.min()))) * np.int64(stride)
    return keys


def _numbered(keys: Array) -> tuple[Array, Array]:
    """The distinct among keys above 0, ascending; and which of them each key is, [N] int32."""
    size = int(keys.max()) + 1
    if size <= TABLE_SIZE * len(keys):
        seen = np.zeros(size, bool)
        seen[keys] = True
        return np.flatnonzero(seen), (np.cumsum(seen, dtype=np.int32) - 1)[keys]
    order = _sorted_order(keys)
    keys = keys[order]
    new = np.empty(len(keys), bool)
    new[0] = True
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    numbers = np.empty(len(keys), np.int32)
    numbers[order] = np.cumsum(new, dtype=np.int32) - 1
    return keys[new], numbers


def _sorted_order(keys: Array) -> Array:
    """Where sorted keys, none below 0, have been: [N] int. Equal keys keep their order."""
    # Digits of 16 bits, the lowest first: NumPy sorts them by counting, not by comparing.
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    for shift in range(16, int(keys.max()).bit_length(), 16):
        digits = (keys >> shift).astype(np.uint16)[order]
        order = order[np.argsort(digits, kind="stable")]
    return order
