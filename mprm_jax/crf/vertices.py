"""Finds the vertices of a lattice and their neighbors with NumPy, on all cores.

Vertices are numbered by remainder, then by their cells. So each remainder is sorted by itself, and
looking up the neighbors of one kind of vertex along one axis walks two sorted lists.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from mprm_jax.crf.simplex import Simplex, elevate, enclosing_simplex
from mprm_jax.crf.threads import in_threads
from mprm_jax.types import Array

MAX_KEYS = 2**62  # keys are int64
BLOCK_POINTS = 16384  # whose simplices are found at a time, in the cache of a core


class Kind(NamedTuple):
    """All vertices of one remainder, and the points around them sorted by vertex."""

    keys: Array  # [m] int64, ascending
    starts: Array  # [m] int32, first entry of each vertex below
    points: Array  # [N] int32
    weights: Array  # [N] float32, barycentric
    owners: Array  # [N] int32 into `keys`, ascending


class Vertices(NamedTuple):
    """The vertices of a point set."""

    kinds: list[Kind]  # d+1, by remainder; none without points
    strides: list[int]  # d factors that make keys of cells

    @property
    def firsts(self) -> Array:
        """Number of the first vertex of each remainder, and of all vertices: [d+2] int."""
        return np.cumsum([0, *(len(kind.keys) for kind in self.kinds)])


def find_vertices(features: Array) -> Vertices:
    """Finds the vertices of the simplices around points.

    Args:
      features: [N, d] float32 in kernel widths, finite, near the origin (within some thousands).

    Raises:
      ValueError: the features span too many kernel widths.
    """
    num_points, num_dims = features.shape
    if not num_points:
        return Vertices([], [0] * num_dims)
    simplex = _simplices(features)
    strides = _strides(simplex.cells[:num_dims])
    keys = _lowest_keys(simplex.cells[:num_dims], strides)
    sort = functools.partial(_sort_remainder, simplex, strides, keys)
    return Vertices(in_threads(sort, range(num_dims + 1)), strides)


def point_order(features: Array) -> Array:
    """An order of points in which those of a vertex are close, and follow the vertices: [N] int32.

    Args, raises: see `find_vertices`.
    """
    if not len(features):
        return np.zeros(0, np.int32)
    elevated = elevate([*np.ascontiguousarray(features.T, np.float32)], np)
    cells = [np.round(x).astype(np.int32) for x in elevated[: features.shape[1]]]
    return _sort_with_index(_lowest_keys(cells, _strides(cells)))[1]


def neighbor_pairs(vertices: Vertices, axis: int) -> tuple[Array, Array]:
    """Vertices that have a neighbor before them along one axis, ascending, and that neighbor.

    The neighbor before a vertex is d higher on the axis and 1 lower on the other coordinates, so
    its remainder is 1 lower, or d after 0; in the other direction it is the inverse.

    Returns:
      Numbers of vertices, [P] int each.
    """
    kinds, strides = vertices.kinds, vertices.strides
    step = strides[axis] if axis < len(strides) else 0
    firsts, sources, targets = vertices.firsts, [], []
    for remainder, kind in enumerate(kinds):
        other = (remainder - 1) % len(kinds)
        wanted = kind.keys + (step if remainder else step - sum(strides))
        place = np.searchsorted(kinds[other].keys, wanted)
        np.minimum(place, len(kinds[other].keys) - 1, out=place)
        found = np.flatnonzero(kinds[other].keys[place] == wanted)
        sources.append(found + firsts[remainder])
        targets.append(place[found] + firsts[other])
    return np.concatenate(sources), np.concatenate(targets)


def _simplices(features: Array) -> Simplex:
    """The simplices of all points, found in blocks of them."""

    def find(start: int) -> Simplex:
        block = features[start : start + BLOCK_POINTS].T
        return enclosing_simplex([*np.ascontiguousarray(block, np.float32)], np)

    blocks = in_threads(find, range(0, len(features), BLOCK_POINTS))
    fields = zip(*blocks, strict=True)
    return Simplex(*([np.concatenate(row) for row in zip(*rows, strict=True)] for rows in fields))


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


def _lowest_keys(cells: list[Array], strides: list[int]) -> Array:
    """Keys of vertices of remainder 0 from d of their cells, [N] int64."""
    keys = np.zeros(len(cells[0]), np.int64)
    for cell, stride in zip(cells, strides, strict=True):
        # The lowest cell becomes 3, so that neighbors of neighbors stay above 0.
        keys += (cell + (3 - int(cell.min()))) * np.int64(stride)
    return keys


def _sort_remainder(simplex: Simplex, strides: list[int], keys: Array, remainder: int) -> Kind:
    """Finds the distinct vertices of one remainder."""
    keys = keys.copy()
    for rank, stride in zip(simplex.ranks, strides, strict=False):
        keys -= (rank > len(strides) - remainder) * np.int64(stride)
    keys, points = _sort_with_index(keys)
    new = np.empty(len(keys), bool)
    new[0] = True
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    starts = np.flatnonzero(new).astype(np.int32)
    owners = np.cumsum(new, dtype=np.int32) - 1
    return Kind(keys[starts], starts, points, simplex.weights[remainder][points], owners)


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
