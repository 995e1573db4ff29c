"""The lattice on the host: vertices found with NumPy, a filter as products of sparse matrices.

For a CPU: nothing is compiled or padded, and absent neighbors take no room. Matrices are kept as
blocks of rows, which threads share; every sum is taken by one of them, always in the same order, so
neither blocks nor threads change a result.

Vertices are numbered by remainder, then by their cells. So each remainder is sorted by itself, and
finding all neighbors along one axis merges two sorted lists.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_array, csr_array

from mprm_jax.crf.normalization import kernel_scales
from mprm_jax.crf.simplex import elevate, enclosing_simplex, slice_scale
from mprm_jax.crf.threads import in_threads
from mprm_jax.types import Array

# Rows of a matrix: 20 classes of a block fit the cache of a core.
BLOCK_POINTS = 4096
BLOCK_VERTICES = 8192
MAX_KEYS = 2**61  # twice a key is an int64
BLOCK_SIMPLICES = 16384  # points whose simplices are found at a time, in the cache of a core
TABLE_SIZE = 4  # entries per point up to which a table of all keys is faster than a sort


class Vertices(NamedTuple):
    """The vertices of a point set, and the simplex around each point."""

    keys: Array  # [M] int64, ascending
    firsts: list[int]  # number of the first vertex of each remainder, and of all vertices: d+2
    corners: list[Array]  # d+1 x [N] int32, vertex of a point among those of each remainder
    weights: list[Array]  # d+1 x [N] float32, barycentric
    strides: list[int]  # d+1 factors that make keys of d cells and a remainder


class Rows(NamedTuple):
    """A block of rows of a sparse matrix."""

    start: int  # number of the first row
    matrix: csr_array | csc_array  # float32, all columns

    @property
    def places(self) -> slice:
        """The rows of the block among all rows."""
        return slice(self.start, self.start + self.matrix.shape[0])


class SparseLattice(NamedTuple):
    """Splat, then a blur along each axis, for N points and m vertices."""

    num_vertices: int  # m
    splats: list[Rows]  # d+1 blocks of [m, N], by remainder: shares of what points send
    blurs: list[list[Rows]]  # d+1 x of [m, m], half of both neighbors along an axis


class HostKernels(NamedTuple):
    """Gaussian filters over the same N points; they end in one product, which sums them."""

    lattices: tuple[SparseLattice, ...]  # K
    slices: list[Rows]  # of [N, M], M vertices of all lattices: shares of what points receive


class HostFilter(NamedTuple):
    """Kernels at work on values of points."""

    stages: list[list[Callable[[], None]]]  # to be called in turn; those of a stage in any order
    blurred: Array  # [M, C] vertex values after the last stage


def build_host_kernels(
    features: Iterable[Array], sender: Array, normalization: str = "symmetric"
) -> HostKernels:
    """Builds the filters of a point set and normalizes them; see `mean_field.make_kernel`.

    Args:
      features: of each kernel; see `find_vertices`.
      sender: [N] float32 in [0, 1].

    Raises:
      ValueError: the features span too many kernel widths.
    """
    # One after another, for their memory; each takes all cores.
    built = [_build_kernel(each, sender, normalization) for each in features]
    starts = range(0, len(sender), BLOCK_POINTS)
    slices = in_threads(functools.partial(_slice_rows, built), starts)
    for kernel in built:
        for rows in kernel.lattice.splats:
            rows.matrix.data *= kernel.sending  # one entry of each point
    return HostKernels(tuple(kernel.lattice for kernel in built), slices)


def messages(kernels: HostKernels, values: Array) -> Array:
    """What each point hears from all points: [N] or [N, C] float32 to the same."""
    sent = values if values.ndim == 2 else values[:, None]
    work = make_filter(kernels, sent, weights=np.ones(len(kernels.lattices)))
    for stage in work.stages:
        in_threads(operator.call, stage)
    heard = np.empty_like(sent)

    def hear(rows: Rows) -> None:
        heard[rows.places] = rows.matrix @ work.blurred

    in_threads(hear, kernels.slices)
    return heard.reshape(values.shape)


def make_filter(kernels: HostKernels, sent: Array, *, weights: Array) -> HostFilter:
    """Prepares to filter values; they are read whenever the stages are called.

    Args:
      sent: [N, C] float32, contiguous.
      weights: [K] factors of the messages.
    """
    num_vertices = sum(lattice.num_vertices for lattice in kernels.lattices)
    source, target = np.empty((2, num_vertices, sent.shape[1]), np.float32)
    stages, first = [], 0
    for lattice, weight in zip(kernels.lattices, weights, strict=True):
        own = slice(first, first + lattice.num_vertices)
        stages.append(_stages(lattice, sent, np.float32(weight), source[own], target[own]))
        first = own.stop
    together = itertools.zip_longest(*stages, fillvalue=())
    return HostFilter([[*itertools.chain(*each)] for each in together], target)


class _Kernel(NamedTuple):
    """A kernel whose lattice is not normalized yet."""

    vertices: Vertices
    lattice: SparseLattice
    sending: Array  # [N] scales
    receiving: Array  # [N]


def _build_kernel(features: Array, sender: Array, normalization: str) -> _Kernel:
    """One kernel alone."""
    vertices = find_vertices(features)
    remainders = range(len(vertices.corners))  # and axes, which are as many
    lattice = SparseLattice(
        num_vertices=vertices.firsts[-1],
        splats=in_threads(functools.partial(_splat_rows, vertices), remainders),
        blurs=in_threads(functools.partial(_blur_rows, vertices), remainders),
    )
    scale = np.float32(slice_scale(features.shape[1]))
    sums = scale * _sums(vertices, lattice, sender)
    sending, receiving = kernel_scales(sums, sender, normalization, np)
    return _Kernel(vertices, lattice, sending, scale * receiving)


def _sums(vertices: Vertices, lattice: SparseLattice, sender: Array) -> Array:
    """What all senders send to each point before normalization, [N] float32."""
    work = make_filter(HostKernels((lattice,), []), sender[:, None], weights=np.ones(1))
    for stage in work.stages:
        in_threads(operator.call, stage)
    sums = np.zeros(len(sender), np.float32)

    def add(start: int) -> None:
        block = slice(start, start + BLOCK_SIMPLICES)
        corners = zip(vertices.firsts, vertices.corners, vertices.weights, strict=False)
        for first, corner, weight in corners:
            sums[block] += weight[block] * np.take(work.blurred[first:, 0], corner[block])

    in_threads(add, range(0, len(sender), BLOCK_SIMPLICES))
    return sums


def _stages(
    lattice: SparseLattice, sent: Array, weight: np.float32, source: Array, target: Array
) -> list[list[Callable[[], None]]]:
    """Stages after which `target` [m, C] holds the blurred values; `source` is as large."""
    if len(lattice.blurs) % 2 == 0:
        source, target = target, source
    splat = functools.partial(_splat, sent, weight, source)
    stages = [[functools.partial(splat, rows) for rows in lattice.splats]]
    for axis in lattice.blurs:
        stages.append([functools.partial(_blur, source, target, rows) for rows in axis])
        source, target = target, source
    return stages


def _splat(sent: Array, weight: np.float32, values: Array, rows: Rows) -> None:
    """Sums point values to some vertices."""
    np.multiply(rows.matrix @ sent, weight, out=values[rows.places])


def _blur(source: Array, target: Array, rows: Rows) -> None:
    """Adds half of both neighbors along one axis to the values of some vertices."""
    np.add(source[rows.places], rows.matrix @ source, out=target[rows.places])


def _splat_rows(vertices: Vertices, remainder: int) -> Rows:
    """Barycentric shares of all points in the vertices of one remainder."""
    first, last = vertices.firsts[remainder : remainder + 2]
    corners, shares = vertices.corners[remainder], vertices.weights[remainder]
    ends = np.arange(len(corners) + 1, dtype=np.int32)  # a point has one vertex of each remainder
    return Rows(first, csc_array((shares, corners, ends), shape=(last - first, len(corners))))


def _slice_rows(kernels: list[_Kernel], start: int) -> Rows:
    """Shares of what some points receive from all vertices of all kernels."""
    block = slice(start, start + BLOCK_POINTS)
    sources, shares, first = [], [], 0
    for vertices, lattice, _, receiving in kernels:
        for offset, corner, weight in zip(
            vertices.firsts, vertices.corners, vertices.weights, strict=False
        ):
            sources.append(corner[block] + np.int32(first + offset))
            shares.append(weight[block] * receiving[block])
        first += lattice.num_vertices
    sources, shares = np.stack(sources, axis=1), np.stack(shares, axis=1)
    ends = np.arange(0, sources.size + 1, sources.shape[1], dtype=np.int32)
    matrix = csr_array((shares.ravel(), sources.ravel(), ends), shape=(len(sources), first))
    return Rows(start, matrix)


def _blur_rows(vertices: Vertices, axis: int) -> list[Rows]:
    """Halves at the neighbors of all vertices along one axis, before and after."""
    num_vertices = len(vertices.keys)
    sources, before = neighbor_pairs(vertices, axis)
    counts = np.zeros(num_vertices + 1, np.int8)
    counts[sources + 1] += 1
    counts[before + 1] += 1
    ends = np.cumsum(counts, dtype=np.int32)
    neighbors = np.empty(ends[-1], np.int32)
    neighbors[ends[sources]] = before
    neighbors[ends[before + 1] - 1] = sources
    halves = np.full(2 * BLOCK_VERTICES, 0.5, np.float32)  # shared by all blocks

    def rows(start: int) -> Rows:
        own = ends[start : start + BLOCK_VERTICES + 1]
        listed = neighbors[own[0] : own[-1]]
        shape = len(own) - 1, num_vertices
        return Rows(start, csr_array((halves[: len(listed)], listed, own - own[0]), shape=shape))

    return [rows(start) for start in range(0, num_vertices, BLOCK_VERTICES)]


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
    weights = [np.empty(num_points, np.float32) for _ in range(num_dims + 1)]

    def enclose(columns: list[Array], block: slice) -> None:
        simplex = enclosing_simplex(columns, np)
        for whole, parts in zip((cells, ranks, weights), simplex, strict=True):
            for row, part in zip(whole, parts, strict=False):  # the last cell and rank are implied
                row[block] = part

    _in_blocks(enclose, features)
    strides = _strides(cells)
    lowest = _lowest_keys(cells, strides)

    def number(remainder: int) -> tuple[Array, Array]:
        keys = lowest + remainder * strides[-1]
        for rank, stride in zip(ranks, strides, strict=False):
            keys -= (rank > num_dims - remainder) * np.int64(stride)
        return _numbered(keys)

    keys, corners = zip(*in_threads(number, range(num_dims + 1)), strict=True)
    firsts = [0, *itertools.accumulate(map(len, keys))]
    return Vertices(np.concatenate(keys), firsts, [*corners], weights, strides)


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
        block = slice(start, start + BLOCK_SIMPLICES)
        function([*np.ascontiguousarray(features[block].T, np.float32)], block)

    in_threads(run, range(0, len(features), BLOCK_SIMPLICES))


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
        block = slice(start, start + BLOCK_SIMPLICES)
        for cell, shift, stride in zip(cells, shifts, strides, strict=False):
            keys[block] += (cell[block] + shift) * np.int64(stride)

    in_threads(add, range(0, len(keys), BLOCK_SIMPLICES))
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
