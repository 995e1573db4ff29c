"""A normalized Gaussian filter as a product of sparse matrices, built from points on the host.

The lattice of `filtering`, for a CPU: nothing is compiled or padded, and absent neighbors take no
room. Each matrix is kept in blocks of rows, which threads multiply at the same time.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from mprm_jax.crf.lattice import slice_scale
from mprm_jax.crf.mean_field import kernel_scales
from mprm_jax.crf.threads import in_threads
from mprm_jax.crf.vertices import Vertices, find_vertices, neighbor_pairs
from mprm_jax.types import Array

BLOCK_POINTS = 4096  # rows of a block over points; 20 classes of them fit the cache of a core
BLOCK_WORK = 65536  # rows and entries of a block over vertices


class Rows(NamedTuple):
    """Some rows of a sparse matrix."""

    rows: slice
    matrix: csr_array


class SparseKernel(NamedTuple):
    """Splat, then a blur along each axis, then slice; for N points and M vertices."""

    splat: list[Rows]  # [M, N], times what each point sends
    blurs: list[list[Rows]]  # d+1 x [M, M]
    slice: list[Rows]  # [N, M], times what each point receives; in blocks of `BLOCK_POINTS`
    num_vertices: int  # M


def build_kernel(features: Array, sender: Array, normalization: str = "symmetric") -> SparseKernel:
    """Builds the filter of a point set and normalizes it; see `mean_field.make_kernel`.

    Args:
      features: see `find_vertices`.
      sender: [N] in [0, 1].

    Raises:
      ValueError: the features span too many kernel widths.
    """
    vertices = find_vertices(features)
    remainders = range(len(vertices.kinds))
    parts = in_threads(functools.partial(_splat, vertices), remainders)
    # Blocks at the same place of each remainder read the same points, while they are in the cache.
    splat = [block for group in itertools.zip_longest(*parts) for block in group if block]
    blurs = in_threads(functools.partial(_blur, vertices), remainders)
    slices = _slice(vertices, len(features))
    kernel = SparseKernel(splat, blurs, slices, int(vertices.firsts[-1]))
    sums = messages(kernel, sender)
    send, receive = kernel_scales(sums, sender, normalization, np)

    def scale_splat(block: Rows) -> None:
        block.matrix.data *= send[block.matrix.indices]

    def scale_slice(block: Rows) -> None:
        block.matrix.data *= np.repeat(receive[block.rows], np.diff(block.matrix.indptr))

    in_threads(scale_splat, kernel.splat)
    in_threads(scale_slice, kernel.slice)
    return kernel


def messages(kernel: SparseKernel, values: Array) -> Array:
    """What each point hears from all points: [N] or [N, C] to the same, float32."""
    num_points = len(values)
    for blocks in (kernel.splat, *kernel.blurs, kernel.slice):
        num_rows = num_points if blocks is kernel.slice else kernel.num_vertices
        result = np.empty((num_rows, *values.shape[1:]), np.float32)
        in_threads(functools.partial(_multiply, values, result), blocks)
        values = result
    return values


def _multiply(values: Array, result: Array, block: Rows) -> None:
    result[block.rows] = block.matrix @ values


def _splat(vertices: Vertices, remainder: int) -> list[Rows]:
    """Sums point values to the vertices of one remainder."""
    kind = vertices.kinds[remainder]
    num_points = len(kind.points)
    indptr = np.append(kind.starts, np.int32(num_points))
    first = int(vertices.firsts[remainder])
    return _cut(kind.weights, kind.points, indptr, num_points, first)


def _blur(vertices: Vertices, axis: int) -> list[Rows]:
    """Adds half of both neighbors along one axis."""
    sources, before = neighbor_pairs(vertices, axis)
    num_vertices = int(vertices.firsts[-1])
    counts = np.ones(num_vertices, np.int32)
    counts[sources] += 1
    counts[before] += 1
    indptr = np.zeros(num_vertices + 1, np.int32)
    np.cumsum(counts, out=indptr[1:])
    columns = np.empty(indptr[-1], np.int32)
    # In each row: the vertex itself, the neighbor before it, the one after it.
    columns[indptr[:-1]] = np.arange(num_vertices, dtype=np.int32)
    columns[indptr[sources] + 1] = before
    columns[indptr[before + 1] - 1] = sources
    shares = np.full(indptr[-1], 0.5, np.float32)
    shares[indptr[:-1]] = 1.0
    return _cut(shares, columns, indptr, num_vertices)


def _slice(vertices: Vertices, num_points: int) -> list[Rows]:
    """Interpolates vertex values at the points."""
    size = len(vertices.kinds)
    corners = np.empty((num_points, size), np.int32)
    shares = np.empty((num_points, size), np.float32)

    def fill(remainder: int) -> None:
        kind = vertices.kinds[remainder]
        corners[kind.points, remainder] = kind.owners + np.int32(vertices.firsts[remainder])
        shares[kind.points, remainder] = np.float32(slice_scale(size - 1)) * kind.weights

    def cut(start: int) -> Rows:
        rows = slice(start, min(start + BLOCK_POINTS, num_points))
        indptr = np.arange(0, size * (rows.stop - start) + 1, size, dtype=np.int32)
        entries = shares[rows].ravel(), corners[rows].ravel(), indptr
        return Rows(rows, csr_array(entries, shape=(len(indptr) - 1, int(vertices.firsts[-1]))))

    in_threads(fill, range(size))
    return in_threads(cut, range(0, num_points, BLOCK_POINTS))


def _cut(data: Array, columns: Array, indptr: Array, width: int, first: int = 0) -> list[Rows]:
    """Blocks of about equal work of a matrix whose rows follow others."""
    work = indptr + np.arange(len(indptr), dtype=np.int64)
    cuts = np.searchsorted(work, np.arange(BLOCK_WORK, work[-1], BLOCK_WORK))
    bounds = np.unique([0, *cuts, len(indptr) - 1])
    blocks = []
    for start, stop in itertools.pairwise(bounds.tolist()):
        low, high = indptr[start], indptr[stop]
        entries = data[low:high], columns[low:high], indptr[start : stop + 1] - low
        matrix = csr_array(entries, shape=(stop - start, width))
        blocks.append(Rows(slice(first + start, first + stop), matrix))
    return blocks
