"""Covers a triangle mesh with points, so that large triangles weigh as much as many small ones."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int32, Int64, Integer

from mprm_jax.errors import UserError
from mprm_jax.types import Array

MAX_SAMPLES = 100_000_000  # about 10 000 square meters at 1 cm; more suggests a wrong unit
CHUNK_SAMPLES = 1_000_000  # bounds temporary memory to some tens of megabytes


class SurfaceSamples(NamedTuple):
    """Points on a surface; the vertices come first, in their order."""

    coords: Float64[Array, "M 3"]  # meters
    vertices: Int32[Array, " M"]  # row of the nearest vertex among the corners of the triangle


def sample_surface(
    vertices: Float[Array, "N 3"], faces: Integer[Array, "F 3"], spacing: float
) -> SurfaceSamples:
    """Samples every vertex, every edge and every triangle no coarser than `spacing`.

    Edges longer than `spacing` are divided evenly; triangles higher than `spacing` are filled with
    rows parallel to their longest edge. Shared edges are sampled once. There is no randomness.
    Faces with a repeated or an out-of-range corner are skipped.

    Args:
      vertices: meters, finite; vertices of no face are kept.
      faces: into `vertices`.
      spacing: meters, between neighboring samples.

    Raises:
      ValueError: the surface would take more than `MAX_SAMPLES` samples.

    Source: the purpose of mprm `utils/mesh.py`, rasterize_mesh, which leaves small triangles out.
    """
    vertices = np.asarray(vertices, np.float64)
    own = np.arange(len(vertices), dtype=np.int32)
    faces = _longest_edge_first(vertices, _valid_faces(faces, len(vertices)))
    parts = [SurfaceSamples(vertices, own), *_face_samples(vertices, faces, spacing)]
    parts.append(_edge_samples(vertices, faces, spacing))
    return SurfaceSamples(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _valid_faces(faces: Integer[Array, "F 3"], num_vertices: int) -> Int64[Array, "V 3"]:
    faces = np.asarray(faces, np.int64).reshape(-1, 3)
    first, second, third = faces.T
    distinct = (first != second) & (second != third) & (third != first)
    inside = [(column >= 0) & (column < num_vertices) for column in (first, second, third)]
    return faces[distinct & np.all(inside, axis=0)]


def _longest_edge_first(
    vertices: Float64[Array, "N 3"], faces: Int64[Array, "F 3"]
) -> Int64[Array, "F 3"]:
    """Rotates the corners of each face so that the first two span its longest edge."""
    lengths = [_lengths(vertices[faces[:, (a + 1) % 3]] - vertices[faces[:, a]]) for a in range(3)]
    start = np.argmax(lengths, axis=0) if len(faces) else np.zeros(0, np.int64)
    return np.take_along_axis(faces, (start[:, None] + np.arange(3)[None]) % 3, axis=1)


def _edge_samples(
    vertices: Float64[Array, "N 3"], faces: Int64[Array, "F 3"], spacing: float
) -> SurfaceSamples:
    """Inner points of the distinct edges longer than `spacing`."""
    starts, ends = faces.T.ravel(), faces[:, [1, 2, 0]].T.ravel()
    is_long = _lengths(vertices[ends] - vertices[starts]) > spacing
    starts, ends = starts[is_long], ends[is_long]
    keys = np.sort(np.minimum(starts, ends) * len(vertices) + np.maximum(starts, ends))
    keys = keys[np.diff(keys, prepend=-1) > 0]  # faster than np.unique, which hashes
    low, high = keys // max(len(vertices), 1), keys % max(len(vertices), 1)
    offsets = vertices[high] - vertices[low]
    steps = np.ceil(_lengths(offsets) / spacing)
    _check_count(np.sum(steps), spacing)
    steps = steps.astype(np.int64)
    edge, step = _ragged(steps - 1)
    share = (step + 1) / steps[edge]
    coords = vertices[low[edge]] + offsets[edge] * share[:, None]
    return SurfaceSamples(coords, np.where(share <= 0.5, low[edge], high[edge]).astype(np.int32))


def _face_samples(
    vertices: Float64[Array, "N 3"], faces: Int64[Array, "F 3"], spacing: float
) -> Iterator[SurfaceSamples]:
    """Points strictly inside the triangles that have room for a row of them, chunk by chunk."""
    base = vertices[faces[:, 1]] - vertices[faces[:, 0]]
    side = vertices[faces[:, 2]] - vertices[faces[:, 0]]
    lengths = _lengths(base)
    heights = _lengths(np.cross(base, side)) / np.maximum(lengths, np.finfo(float).tiny)
    rows = np.ceil(heights / spacing)
    # A row is at most as long as the base.
    bounds = np.ceil(lengths / spacing) * np.maximum(rows - 1, 0)
    _check_count(np.sum(bounds) / 2, spacing)
    filled = rows > 1
    faces, rows, lengths, bounds = faces[filled], rows[filled], lengths[filled], bounds[filled]
    chunks = np.cumsum(bounds) // CHUNK_SAMPLES
    borders = np.flatnonzero(np.diff(chunks)) + 1
    for part in np.split(np.arange(len(faces)), borders):
        yield _rows_of_points(vertices, faces[part], rows[part].astype(int), lengths[part], spacing)


def _rows_of_points(
    vertices: Float64[Array, "N 3"],
    faces: Int64[Array, "F 3"],
    num_rows: Int64[Array, " F"],
    lengths: Float64[Array, " F"],
    spacing: float,
) -> SurfaceSamples:
    face, row = _ragged(num_rows - 1)
    height = (row + 1) / num_rows[face]
    steps = np.maximum(np.ceil(lengths[face] * (1 - height) / spacing), 1).astype(np.int64)
    line, step = _ragged(steps - 1)
    corner_share = height[line]
    second_share = (step + 1) / steps[line] * (1 - corner_share)
    corners = faces[face[line]]
    first, second, third = (vertices[corners[:, a]] for a in range(3))
    coords = first + (second - first) * second_share[:, None]
    coords += (third - first) * corner_share[:, None]
    gaps = np.stack([_lengths(coords - corner) for corner in (first, second, third)], axis=1)
    nearest = np.take_along_axis(corners, gaps.argmin(axis=1)[:, None], axis=1)[:, 0]
    return SurfaceSamples(coords, nearest.astype(np.int32))


def _ragged(counts: Int64[Array, " R"]) -> tuple[Int64[Array, " E"], Int64[Array, " E"]]:
    """Rows of a ragged table with `counts` columns: (row, column) of each cell."""
    row = np.repeat(np.arange(len(counts)), counts)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)


def _lengths(vectors: Float64[Array, "N 3"]) -> Float64[Array, " N"]:
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors))


def _check_count(count: float, spacing: float) -> None:
    if count > MAX_SAMPLES:
        raise UserError(
            f"The mesh needs {count:.2g} samples at {spacing:g} m; "
            "check the unit of its coordinates or choose larger voxels."
        )
