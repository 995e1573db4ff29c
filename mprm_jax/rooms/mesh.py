"""The mesh of a room: all quads as triangles, painted, over-segmented, and annotated by segment."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mprm_jax.rooms.materials import smooth_noise, texture_mix
from mprm_jax.rooms.shapes import Part
from mprm_jax.types import Array

_TILE = 0.7  # meters, about the longest side of a segment
_BLOCK = 8192  # triangles whose corners fit into a core's cache
_LEAST_AREA = 1e-14  # m^4, of a triangle of 0.05 mm^2: the square of twice its area
_FORGOTTEN = {"wall": 0.09, "floor": 0.0}  # share of objects without annotation; 0.03 for others


class Mesh(NamedTuple):
    """A triangle mesh with what is known of each vertex."""

    points: Array  # [N, 3] float64 meters
    normals: Array  # [N, 3] unit, outward
    faces: Array  # [F, 3] int64 into points
    parts: Array  # [N] int64, the part a vertex belongs to


class Group(NamedTuple):
    """One annotated object."""

    category: str  # raw category name
    segments: tuple[int, ...]


def tessellate(parts: list[Part], edge: float, rng: np.random.Generator) -> Mesh:
    """Cuts the quads of all parts into triangles with sides of about `edge` meters.

    Parts differ in density, and a big flat one may be much coarser, as in a decimated scan. Quads
    with a side of no length leave triangles of no area: see `have_area`.
    """
    quads = np.concatenate([p.quads for p in parts])
    owner = np.repeat(np.arange(len(parts)), [len(p.quads) for p in parts])
    step = edge * rng.uniform(0.8, 1.3, len(parts))
    area = np.array([np.linalg.norm(_crosses(p.quads), axis=1).sum() / 2 for p in parts])
    step = np.where((area > 1.5) & (rng.random(len(parts)) < 0.15), 2.0 * step, step)[owner]
    sides = np.linalg.norm(np.roll(quads, -1, axis=1) - quads, axis=2)
    num_u = np.maximum(1, np.ceil(np.maximum(sides[:, 0], sides[:, 2]) / step)).astype(int)
    num_v = np.maximum(1, np.ceil(np.maximum(sides[:, 1], sides[:, 3]) / step)).astype(int)
    counts = (num_u + 1) * (num_v + 1)
    quad, k = _ranges(counts)
    i, j = np.divmod(k, num_v[quad] + 1)
    s = (i + _jitter(i, num_u[quad], rng)) / num_u[quad]
    t = (j + _jitter(j, num_v[quad], rng)) / num_v[quad]
    weights = (1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t
    points = np.empty((len(quad), 3))
    for axis in range(3):
        corners = (quads[:, corner, axis].repeat(counts) for corner in range(4))
        points[:, axis] = sum(map(np.multiply, weights, corners))
    normals = _crosses(quads)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    faces = _faces(num_u, num_v, np.cumsum(counts) - counts)
    return Mesh(points, normals[quad], faces, owner[quad])


def have_area(points: Array, faces: Array) -> Array:
    """Says which triangles are more than a line or a point: [F] bool."""
    columns, found = np.ascontiguousarray(points.T), np.empty(len(faces), bool)
    for start in range(0, len(faces), _BLOCK):
        block = slice(start, start + _BLOCK)
        corners = np.ascontiguousarray(faces[block].T)
        a, b, c = (columns.take(corner, axis=1) for corner in corners)
        (ux, uy, uz), (vx, vy, vz) = b - a, c - a
        normal = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        found[block] = dots(normal, normal) > _LEAST_AREA
    return found


def paint(mesh: Mesh, parts: list[Part], rng: np.random.Generator) -> Array:
    """Returns vertex colors under the room's light: [N, 3] in [0, 1]."""
    materials = [p.material for p in parts]
    color, second = (np.array([m[k] for m in materials])[mesh.parts] for k in (0, 1))
    texture = np.array([m.texture for m in materials])[mesh.parts]
    period = np.array([m.period for m in materials])[mesh.parts]
    axis = np.array([m.axis for m in materials])[mesh.parts]
    mix = texture_mix(mesh.points, texture, period, axis, rng)[:, None]
    colors = color + mix * (second - color)
    return np.clip(colors * _light(mesh, rng) + rng.normal(0, 0.012, colors.shape), 0, 1)


def segment_ids(mesh: Mesh, rng: np.random.Generator) -> Array:
    """Cuts each part into patches of one orientation.

    Returns:
      [N] int64; as in ScanNet, an id is the index of one vertex of the segment.
    """
    facing = np.abs(mesh.normals).argmax(axis=1)
    tiles = np.floor((mesh.points + rng.uniform(0, _TILE, 3)) / _TILE).astype(int)
    keys = np.column_stack([mesh.parts, facing, tiles])
    keys -= keys.min(axis=0)
    flat = np.ravel_multi_index(tuple(keys.T), keys.max(axis=0) + 1)
    _, first, inverse = np.unique(flat, return_index=True, return_inverse=True)
    return first[inverse]


def annotated_groups(
    segments: Array, parts: Array, instances: Array, categories: list[str], rng: np.random.Generator
) -> list[Group]:
    """Returns the groups, without what the annotators forgot.

    Args:
      segments: [N] int, segment of each vertex.
      parts: [N] int, part of each vertex.
      instances: [P] int, object of each part.
      categories: P raw category names; "" was left out on purpose.
    """
    part_of = dict(zip(segments.tolist(), parts.tolist(), strict=True))
    members: dict[tuple[int, str], list[int]] = {}
    for segment, index in sorted(part_of.items()):
        members.setdefault((int(instances[index]), categories[index]), []).append(segment)
    sloppiness = rng.uniform(0.0, 0.06)
    groups = []
    for (_, category), ids in members.items():
        ids = [i for i in ids if rng.random() >= sloppiness]
        if category and ids and rng.random() >= _FORGOTTEN.get(category, 0.03):
            groups.append(Group(category, tuple(ids)))
    return groups


def lengths(vectors: Array) -> Array:
    """Returns the lengths of vectors, given as rows of x, y and z: [N]."""
    x, y, z = vectors
    return np.sqrt(x * x + y * y + z * z)


def dots(ones: Sequence[Array], others: Sequence[Array]) -> Array:
    """Returns the dot products of vectors, given as rows of x, y and z: [N]."""
    # The order of the sum is part of the content of the rooms.
    return ones[0] * others[0] + ones[2] * others[2] + ones[1] * others[1]


def _light(mesh: Mesh, rng: np.random.Generator) -> Array:
    """Returns the light on each vertex, times the color cast of the camera: [N, 3]."""
    points, normals = np.ascontiguousarray(mesh.points.T), np.ascontiguousarray(mesh.normals.T)
    size = points.max(axis=1)
    light = np.full(len(mesh.points), rng.uniform(0.6, 0.8))
    for _ in range(2):
        lamp = size * np.append(rng.uniform(0, 1, 2), rng.uniform(0.6, 0.95))
        toward = lamp[:, None] - points
        distance = lengths(toward)
        facing = dots(toward, normals) / np.maximum(distance, 1e-6)
        light += rng.uniform(0.2, 0.5) * np.abs(facing) / (1 + 0.15 * distance**2)
    light *= 1 + 0.08 * smooth_noise(mesh.points / 2.5, rng)
    cast = rng.uniform(0.9, 1.1) * (1 + rng.normal(0, 0.04, 3))
    return light[:, None] * cast


def _crosses(quads: Array) -> Array:
    """Returns the cross product of the diagonals of each quad, twice its area vector: [Q, 3]."""
    return np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])


def _ranges(counts: Array) -> tuple[Array, Array]:
    """Returns the row and the index within the row for rows of the given lengths."""
    row = np.repeat(np.arange(len(counts)), counts)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)


def _jitter(index: Array, count: Array, rng: np.random.Generator) -> Array:
    """Returns random shifts of inner grid lines, zero on the border."""
    inner = (index > 0) & (index < count)
    return np.where(inner, rng.uniform(-0.3, 0.3, len(index)), 0.0)


def _faces(num_u: Array, num_v: Array, start: Array) -> Array:
    """Returns the two triangles of each grid cell."""
    quad, k = _ranges(num_u * num_v)
    across = num_v[quad]
    # A row of the grid has one vertex more than it has cells.
    a = start[quad] + k + k // across
    b = a + across + 1
    faces = np.empty((2, len(a), 3), int)
    for triangle, corners in zip(faces, ((a, b, b + 1), (a, b + 1, a + 1)), strict=True):
        for column, corner in zip(triangle.T, corners, strict=True):
            column[:] = corner
    return faces.reshape(-1, 3)
