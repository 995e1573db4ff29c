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
BLOCK_VERTICES = 4096


class Neighbors(NamedTuple):
    """The neighbors of each vertex along one axis, as the rows of a sparse matrix."""

    starts: Array  # [M+1] int32, where those of a vertex begin
    vertices: Array  # int32, for each vertex the one before it, then the one after it


class SparseKernel(NamedTuple):
    """Splat, then a blur along each axis, then slice; for N points and M vertices."""

    firsts: list[int]  # d+2, number of the first vertex of each remainder; the last is M
    corners: Array  # [d+1, N] int32, vertex of a point among those of each remainder
    send: Array  # [d+1, N] float32, shares of what a point sends
    receive: Array  # [d+1, N] float32, shares of what a point receives
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
    weights = vertices.weights
    neighbors = in_threads(functools.partial(_neighbors, vertices), range(len(vertices.keys)))
    kernel = SparseKernel(vertices.firsts, vertices.corners, weights, weights, neighbors)
    scale = np.float32(slice_scale(len(weights) - 1))
    sums = scale * messages(kernel, sender)
    send, receive = kernel_scales(sums, sender, normalization, np)
    return kernel._replace(send=weights * send, receive=weights * (scale * receive))


def messages(kernel: SparseKernel, values: Array) -> Array:
    """What each point hears from all points: [N] or [N, C] float32 to the same."""
    sent = values if values.ndim == 2 else values[:, None]
    heard = np.zeros_like(sent)
    work = make_filter(kernel, sent)
    for stage in work.stages:
        in_threads(call, stage)

    def hear(start: int) -> None:
        rows = slice(start, start + BLOCK_POINTS)
        add_heard(work, np.float32(1), rows, heard[rows])

    in_threads(hear, range(0, len(values), BLOCK_POINTS))
    return heard.reshape(values.shape)


def make_filter(kernel: SparseKernel, sent: Array) -> Filter:
    """Prepares to filter values; they are read whenever the stages are called.

    Args:
      sent: [N, C] float32, contiguous.
    """
    shape = (kernel.firsts[-1], sent.shape[1])
    source, target = np.empty(shape, np.float32), np.empty(shape, np.float32)
    ends = np.arange(len(sent) + 1, dtype=np.int32)
    splat = functools.partial(_splat, kernel, ends, sent, source)
    stages = [[functools.partial(splat, remainder) for remainder in range(len(kernel.neighbors))]]
    halves = np.full(max((len(each.vertices) for each in kernel.neighbors), default=0), 0.5, "f4")
    for neighbors in kernel.neighbors:
        blur = functools.partial(_blur, neighbors, halves, source, target)
        starts = range(0, len(source), BLOCK_VERTICES)
        stages.append([functools.partial(blur, start) for start in starts])
        source, target = target, source
    return Filter(kernel, stages, source)


def add_heard(work: Filter, weight: np.float32, rows: slice, heard: Array) -> None:
    """Adds what some points hear to [n, C] contiguous, times a weight; after all stages."""
    kernel, (num_points, num_classes) = work.kernel, heard.shape
    ends = np.arange(num_points + 1, dtype=np.int32)
    for remainder in range(len(kernel.neighbors)):
        vertices = _vertex_values(kernel, work.blurred, remainder)
        corners, shares = kernel.corners[remainder, rows], weight * kernel.receive[remainder, rows]
        size = num_points, len(vertices), num_classes
        csr_matvecs(*size, ends, corners, shares, vertices.ravel(), heard.ravel())


def call(function: Callable[[], None]) -> None:
    """Calls a function of a stage."""
    function()


def _splat(kernel: SparseKernel, ends: Array, sent: Array, values: Array, remainder: int) -> None:
    """Sums point values to the vertices of one remainder."""
    vertices = _vertex_values(kernel, values, remainder)
    vertices[:] = 0
    corners, shares = kernel.corners[remainder], kernel.send[remainder]
    size = len(vertices), *sent.shape
    csc_matvecs(*size, ends, corners, shares, sent.ravel(), vertices.ravel())


def _blur(neighbors: Neighbors, halves: Array, source: Array, target: Array, start: int) -> None:
    """Adds half of both neighbors along one axis to the values of some vertices."""
    rows = target[start : start + BLOCK_VERTICES]
    rows[:] = source[start : start + BLOCK_VERTICES]
    starts = neighbors.starts[start : start + len(rows) + 1]
    size = len(rows), *source.shape
    csr_matvecs(*size, starts, neighbors.vertices, halves, source.ravel(), rows.ravel())


def _vertex_values(kernel: SparseKernel, values: Array, remainder: int) -> Array:
    return values[kernel.firsts[remainder] : kernel.firsts[remainder + 1]]


def _neighbors(vertices: Vertices, axis: int) -> Neighbors:
    """Lists the neighbors of all vertices along one axis."""
    sources, before = neighbor_pairs(vertices, axis)
    pairs = np.full((vertices.firsts[-1], 2), -1, np.int32)
    pairs[sources, 0] = before
    pairs[before, 1] = sources
    present = pairs >= 0
    starts = np.zeros(len(pairs) + 1, np.int32)
    starts[1:] = np.cumsum(present, dtype=np.int32)[1::2]
    return Neighbors(starts, pairs[present])
