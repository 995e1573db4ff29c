"""The mesh of a room: all quads as triangles, painted, over-segmented, and annotated by segment."""

from typing import NamedTuple

import numpy as np

from mprm_jax.rooms.materials import smooth_noise, texture_mix
from mprm_jax.rooms.shapes import Part
from mprm_jax.types import Array

_TILE = 0.7  # meters, about the longest side of a segment
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

    Parts differ in density, and a big flat one may be much coarser, as in a decimated scan.
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
    i, j = k // (num_v[quad] + 1), k % (num_v[quad] + 1)
    s = (i + _jitter(i, num_u[quad], rng)) / num_u[quad]
    t = (j + _jitter(j, num_v[quad], rng)) / num_v[quad]
    weights = np.stack([(1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t], axis=1)
    points = np.einsum("nk,nkd->nd", weights, quads[quad])
    normals = _crosses(quads)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    faces = _faces(num_u, num_v, np.cumsum(counts) - counts, points)
    return Mesh(points, normals[quad], faces, owner[quad])


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


def _light(mesh: Mesh, rng: np.random.Generator) -> Array:
    """Returns the light on each vertex, times the color cast of the camera: [N, 3]."""
    size = mesh.points.max(axis=0)
    light = np.full(len(mesh.points), rng.uniform(0.6, 0.8))
    for _ in range(2):
        lamp = size * np.append(rng.uniform(0, 1, 2), rng.uniform(0.6, 0.95))
        toward = lamp - mesh.points
        distance = np.linalg.norm(toward, axis=1)
        facing = np.einsum("nd,nd->n", toward, mesh.normals) / np.maximum(distance, 1e-6)
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


def _faces(num_u: Array, num_v: Array, start: Array, points: Array) -> Array:
    """Returns the two triangles of each grid cell, without the degenerate ones."""
    quad, k = _ranges(num_u * num_v)
    i, j = k // num_v[quad], k % num_v[quad]
    row = num_v[quad] + 1
    a = start[quad] + i * row + j
    b, c, d = a + row, a + row + 1, a + 1
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    corners = points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return faces[np.einsum("fd,fd->f", normal, normal) > 1e-14]
