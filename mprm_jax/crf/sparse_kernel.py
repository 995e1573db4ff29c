"""A normalized Gaussian filter as products of sparse matrices, built from points on the host.

The lattice of `filtering`, for a CPU: nothing is compiled or padded, and absent neighbors take no
room. Threads share each product; every sum is taken by one of them, always in the same order, so
neither blocks nor threads change a result.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# What SciPy's `@` calls, without its new arrays of zeros for each result.
from scipy.sparse._sparsetools import csc_matvecs, csr_matvecs

from mprm_jax.crf.lattice import slice_scale
from mprm_jax.crf.mean_field import kernel_scales
from mprm_jax.crf.threads import in_threads
from mprm_jax.crf.vertices import Vertices, find_vertices, neighbor_pairs
from mprm_jax.types import Array

# 20 classes of a block fit the cache of a core.
BLOCK_POINTS = 4096
BLOCK_VERTICES = 8192


class Neighbors(NamedTuple):
    """The neighbors of each vertex along one axis, as the rows of a sparse matrix."""

    starts: Array  # [M+1] int32, where those of a vertex begin
    vertices: Array  # int32, for each vertex the one before it, then the one after it


class SparseKernel(NamedTuple):
    """Splat, then a blur along each axis, then slice; for N points and M vertices."""

    firsts: list[int]  # d+2, number of the first vertex of each remainder; the last is M
    corners: Array  # [d+1, N] int32, vertex of a point among those of each remainder
    send: Array  # [d+1, N] float32, share of what a point sends
    sources: Array  # [N, d+1] int32, the same vertices, among all
    receive: Array  # [N, d+1] float32, share of what a point receives
    neighbors: list[Neighbors]  # d+1, by axis


class Filter(NamedTuple):
    """A kernel at work on values of points."""

    kernel: SparseKernel
    stages: list[list[Callable[[], None]]]  # to be called in turn; those of a stage in any order
    blurred: Array  # [M, C] vertex values after the last stage


def build_kernel(features: Array, sender: Array, normalization: str = "symmetric") -> SparseKernel:
    """Builds the filter of a point set and normalizes it; see `mean_field.make_kernel`.

    Args:
      features: see `find_vertices`.
      sender: [N] float32 in [0, 1].

    Raises:
      ValueError: the features span too many kernel widths.
    """
    vertices = find_vertices(features)
    firsts, corners, shares = vertices.firsts, vertices.corners, vertices.weights
    neighbors = in_threads(functools.partial(_neighbors, vertices), range(len(shares)))
    sources, receive = (
        np.empty(corners.shape[::-1], np.int32),
        np.empty(shares.shape[::-1], np.float32),
    )
    lows = np.array(firsts[:-1], np.int32)
    blocks = [slice(start, start + BLOCK_POINTS) for start in range(0, len(features), BLOCK_POINTS)]

    def transpose(rows: slice) -> None:
        np.add(corners[:, rows].T, lows[None], out=sources[rows])
        receive[rows] = shares[:, rows].T

    in_threads(transpose, blocks)
    kernel = SparseKernel(firsts, corners, shares, sources, receive, neighbors)
    scale = np.float32(slice_scale(len(shares) - 1))
    sums = scale * messages(kernel, sender)
    sending, receiving = kernel_scales(sums, sender, normalization, np)

    def normalize(rows: slice) -> None:
        shares[:, rows] *= sending[None, rows]
        receive[rows] *= scale * receiving[rows, None]

    in_threads(normalize, blocks)
    return kernel


def messages(kernel: SparseKernel, values: Array) -> Array:
    """What each point hears from all points: [N] or [N, C] float32 to the same."""
    sent = values if values.ndim == 2 else values[:, None]
    heard = np.zeros_like(sent)
    work = make_filter(kernel, sent, weight=1.0)
    for stage in work.stages:
        in_threads(call, stage)

    def hear(start: int) -> None:
        rows = slice(start, start + BLOCK_POINTS)
        add_heard(work, rows, heard[rows])

    in_threads(hear, range(0, len(values), BLOCK_POINTS))
    return heard.reshape(values.shape)


def make_filter(kernel: SparseKernel, sent: Array, *, weight: float) -> Filter:
    """Prepares to filter values; they are read whenever the stages are called.

    Args:
      sent: [N, C] float32, contiguous.
      weight: factor of all messages.
    """
    shape = (kernel.firsts[-1], sent.shape[1])
    source, target = np.empty(shape, np.float32), np.empty(shape, np.float32)
    ends = np.arange(len(sent) + 1, dtype=np.int32)
    splat = functools.partial(_splat, kernel, ends, sent, source)
    axes = range(len(kernel.neighbors))
    stages = [[functools.partial(splat, remainder) for remainder in axes]]
    for axis, neighbors in enumerate(kernel.neighbors):
        scale = np.float32(weight if axis == axes[-1] else 1.0)
        shares = np.full(len(neighbors.vertices), scale / 2, np.float32)
        blur = functools.partial(_blur, neighbors, shares, scale, source, target)
        starts = range(0, len(source), BLOCK_VERTICES)
        stages.append([functools.partial(blur, start) for start in starts])
        source, target = target, source
    return Filter(kernel, stages, source)


def add_heard(work: Filter, rows: slice, heard: Array) -> None:
    """Adds what some points hear to [n, C] float32, contiguous; after all stages."""
    sources, shares = work.kernel.sources[rows], work.kernel.receive[rows]
    ends = np.arange(0, sources.size + 1, sources.shape[1], dtype=np.int32)
    size = len(heard), *work.blurred.shape
    matrix = ends, sources.ravel(), shares.ravel()
    csr_matvecs(*size, *matrix, work.blurred.ravel(), heard.ravel())


def call(function: Callable[[], None]) -> None:
    """Calls a function of a stage."""
    function()


def _splat(kernel: SparseKernel, ends: Array, sent: Array, values: Array, remainder: int) -> None:
    """Sums point values to the vertices of one remainder."""
    vertices = values[kernel.firsts[remainder] : kernel.firsts[remainder + 1]]
    vertices[:] = 0
    size = len(vertices), *sent.shape
    matrix = ends, kernel.corners[remainder], kernel.send[remainder]
    csc_matvecs(*size, *matrix, sent.ravel(), vertices.ravel())


def _blur(
    neighbors: Neighbors,
    shares: Array,
    scale: np.float32,
    source: Array,
    target: Array,
    start: int,
) -> None:
    """Adds half of both neighbors along one axis to the values of some vertices, then scales."""
    rows = target[start : start + BLOCK_VERTICES]
    np.multiply(source[start : start + BLOCK_VERTICES], scale, out=rows)
    size = len(rows), *source.shape
    matrix = neighbors.starts[start : start + len(rows) + 1], neighbors.vertices, shares
    csr_matvecs(*size, *matrix, source.ravel(), rows.ravel())


def _neighbors(vertices: Vertices, axis: int) -> Neighbors:
    """Lists the neighbors of all vertices along one axis."""
    sources, before = neighbor_pairs(vertices, axis)
    counts = np.zeros(len(vertices.keys) + 1, np.int8)
    counts[sources + 1] += 1
    counts[before + 1] += 1
    starts = np.cumsum(counts, dtype=np.int32)
    listed = np.empty(starts[-1], np.int32)
    listed[starts[sources]] = before
    listed[starts[before + 1] - 1] = sources
    return Neighbors(starts, listed)
