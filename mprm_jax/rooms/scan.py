"""Scans a furnished room: the path of a camera, what it sees, holes, noise and annotation.

A vertex survives if some camera position saw it: near enough, not edge-on, not behind anything.
So the floor under a bed, the wall behind a wardrobe and the top of a tall cabinet are missing.
"""

from typing import NamedTuple

import numpy as np

from mprm_jax.rooms.labels import NYU40_ID
from mprm_jax.rooms.layout import Layout
from mprm_jax.rooms.materials import Kit, smooth_noise
from mprm_jax.rooms.mesh import (
    Group,
    Mesh,
    annotated_groups,
    dots,
    have_area,
    lengths,
    paint,
    segment_ids,
    tessellate,
)
from mprm_jax.rooms.room_types import furnished, room_type
from mprm_jax.rooms.shapes import Part, moved
from mprm_jax.rooms.shell import shell_parts
from mprm_jax.types import Array

_RANGE = 5.5  # meters a depth camera reaches
_COARSE, _FINE = np.radians(6.0), np.radians(2.2)  # cells of the depth maps
_NEAR = 1.3  # meters; nearer surfaces are drawn into the coarse map to leave no gaps
_TOLERANCE = 0.06  # meters behind the nearest surface that still count as seen
_GRAZING = 0.15  # cosine between view and normal below which depth cameras see nothing


class Habit(NamedTuple):
    """How thoroughly somebody scans."""

    highest: float  # radians above the horizon up to which the camera looks
    top: float  # meters; nothing above is scanned
    away: float  # radians, a direction in which it does not look
    blind: float  # radians to both sides of that direction
    reach: float  # meters
    spread: float  # meters that the camera moves from where it began


class Scan(NamedTuple):
    """What a scene folder of ScanNet holds."""

    points: Array  # [N, 3] float32 meters, smallest corner near 0, +z up
    colors: Array  # [N, 3] uint8
    faces: Array  # [F, 3] int32
    segments: Array  # [N] int64
    groups: list[Group]
    axis_alignment: Array  # [4, 4] float64, from the frame of the points to walls along x and y


class Detail(NamedTuple):
    """How finely a room is scanned."""

    edge: float  # meters, triangle sides
    cameras: int  # positions of the camera
    scale: float  # of the plan; 1 is life size


def draw_habit(rng: np.random.Generator) -> Habit:
    """Draws a way to scan: some leave out what is high, some see only a part of the room."""
    top = rng.uniform(1.55, 1.98) if rng.random() < 0.15 else np.inf
    highest, away = np.radians(rng.uniform(12, 36)), rng.uniform(-np.pi, np.pi)
    if rng.random() < 0.4:
        return Habit(highest, top, away, 0.0, rng.uniform(2.2, 3.4), rng.uniform(0.8, 2.0))
    blind = np.radians(rng.uniform(25, 50)) if rng.random() < 0.4 else 0.0
    return Habit(highest, top, away, blind, _RANGE, np.inf)


def camera_path(layout: Layout, num_cameras: int, spread: float) -> Array:
    """Draws where the camera stood, at most `spread` meters from the start: [at least 1, 3]."""
    rng, (width, depth, height) = layout.rng, layout.size
    cameras: list[tuple[float, float, float]] = []
    for margin in (0.3, 0.15, 0.0):
        for _ in range(12 * num_cameras):
            x, y = rng.uniform(0, width), rng.uniform(0, depth)
            z = min(rng.uniform(1.25, 1.75), height - 0.2)
            near = not cameras or np.hypot(x - cameras[0][0], y - cameras[0][1]) < spread
            if len(cameras) < num_cameras and near and layout.is_open(x, y, z, margin):
                cameras.append((x, y, z))
    return np.array(cameras or [(width / 2, depth / 2, 1.6)])


def seen(mesh: Mesh, thin: Array, cameras: Array, habit: Habit) -> Array:
    """Says which vertices some camera saw.

    Args:
      thin: [N] bool, vertices of surfaces that can be seen from both sides.
      cameras: [C, 3] meters.

    Returns:
      [N] bool
    """
    visible = np.zeros(len(mesh.points), bool)
    low = mesh.points[:, 2] < habit.top
    points, normals = np.ascontiguousarray(mesh.points.T), np.ascontiguousarray(mesh.normals.T)
    for camera in cameras:
        view = points - camera[:, None]
        distance = np.maximum(lengths(view), 1e-6)
        # What is out of reach hides nothing that is within.
        near = np.flatnonzero(distance < habit.reach)
        view, distance = view.take(near, axis=1), distance[near]
        elevation, azimuth = np.arcsin(view[2] / distance), np.arctan2(view[1], view[0])
        asked = np.flatnonzero(low[near] & ~visible[near] & (elevation < habit.highest))
        rows = near[asked]
        facing = -dots(view.take(asked, axis=1), normals.take(rows, axis=1)) / distance[asked]
        facing = np.where(thin[rows], np.abs(facing), facing)
        turn = np.abs(np.mod(azimuth[asked] - habit.away + np.pi, 2 * np.pi) - np.pi)
        looked = (facing > _GRAZING) & (turn >= habit.blind)
        asked, rows, facing = asked[looked], rows[looked], facing[looked]
        slope = np.sqrt(1 - np.square(facing)) / facing
        visible[rows] = ~_hidden(azimuth, elevation, distance, asked, slope)
    return visible


def holes(points: Array, dropout: Array, rng: np.random.Generator) -> Array:
    """Says which vertices were lost to glass, gloss and passing by too fast.

    Args:
      points: [N, 3] meters.
      dropout: [N] share of its surface that a material hides.

    Returns:
      [N] bool
    """
    lost, glossy = np.zeros(len(points), bool), np.flatnonzero(dropout > 0)
    patches = 0.5 + 0.5 * np.tanh(1.3 * smooth_noise(points[glossy] / 0.5, rng))
    lost[glossy] = patches < dropout[glossy] * 1.05
    columns = np.ascontiguousarray(points.T)
    extent = np.ptp(columns, axis=1)
    for _ in range(rng.poisson(0.35 * extent[0] * extent[1]) if len(points) else 0):
        center, radius = points[rng.integers(len(points))], rng.uniform(0.06, 0.32)
        near = np.flatnonzero(np.abs(columns[0] - center[0]) < 1.5 * radius)
        for column, middle in zip(columns[1:], center[1:], strict=True):
            near = near[np.abs(column[near] - middle) < 1.5 * radius]
        offset = points[near] - center
        ragged = radius * (1 + 0.35 * smooth_noise(offset / 0.25, rng))
        lost[near] |= np.linalg.norm(offset, axis=1) < ragged
    return lost


def shaken(points: Array, normals: Array, rng: np.random.Generator) -> Array:
    """Returns points with the smooth and the rough error of a reconstruction, 3 to 8 mm."""
    smooth = rng.uniform(0.003, 0.006) * smooth_noise(points / 0.4, rng)
    rough = rng.normal(0, rng.uniform(0.0015, 0.004), len(points))
    drift = 0.004 * np.stack([smooth_noise(points / 1.5, rng) for _ in range(3)], axis=1)
    return points + (smooth + rough)[:, None] * normals + drift


def kept(mesh: Mesh, keep: Array) -> Mesh:
    """Returns the mesh of the kept vertices that are still part of a triangle with an area."""
    a, b, c = mesh.faces.T
    faces = mesh.faces[keep[a] & keep[b] & keep[c]]
    faces = faces[have_area(mesh.points, faces)]
    used = np.zeros(len(mesh.points), bool)
    used[faces] = True
    rows = np.flatnonzero(used)
    new = np.cumsum(used) - 1
    return Mesh(mesh.points[rows], mesh.normals[rows], new[faces], mesh.parts[rows])


def make_scan(rng: np.random.Generator, kind_seed: int, index: int, detail: Detail) -> Scan:
    """Builds and scans the room of one scene number."""
    layout, kit = furnished(room_type(kind_seed, index), rng, detail.scale)
    parts, instances = _room_parts(layout, kit)
    mesh = tessellate(parts, detail.edge, rng)
    mesh = _scanned(mesh, parts, layout, detail)
    colors = paint(mesh, parts, rng)
    segments = segment_ids(mesh, rng)
    categories = [p.category for p in parts]
    groups = annotated_groups(segments, mesh.parts, instances, categories, rng)
    points, alignment = _turned(shaken(mesh.points, mesh.normals, rng), rng)
    return Scan(
        points.astype(np.float32),
        np.round(255 * colors).astype(np.uint8),
        mesh.faces.astype(np.int32),
        segments,
        groups,
        alignment,
    )


def vertex_nyu40_ids(scan: Scan) -> Array:
    """Returns the NYU40 class of each vertex, 0 where it is unannotated: [N] int."""
    classes = {s: NYU40_ID[group.category] for group in scan.groups for s in group.segments}
    return np.array([classes.get(segment, 0) for segment in scan.segments.tolist()])


def _hidden(azimuth: Array, elevation: Array, distance: Array, asked: Array, slope: Array) -> Array:
    """Says which of the asked points lie behind others in a depth map around the camera.

    Args:
      azimuth, elevation: [N] radians.
      distance: [N] meters.
      asked: [M] int, rows.
      slope: [M] meters of depth for each meter across the view.

    Returns:
      [M] bool
    """
    hidden = np.zeros(len(asked), bool)
    for cell, drawn in ((_COARSE, distance < _NEAR), (_FINE, slice(None))):
        rows, columns = int(np.floor(np.pi / cell)) + 1, int(np.ceil(2 * np.pi / cell)) + 1
        pixel = np.floor((elevation + np.pi / 2) / cell).astype(int) * columns
        pixel += np.floor((azimuth + np.pi) / cell).astype(int)
        depth = np.full(rows * columns, np.inf)
        np.minimum.at(depth, pixel[drawn], distance[drawn])
        # Across one cell, the depth of a slanted surface itself differs by this much.
        own = np.minimum(distance[asked] * cell * slope, 0.6)
        hidden |= distance[asked] > depth[pixel[asked]] + _TOLERANCE + own
    return hidden


def _room_parts(layout: Layout, kit: Kit) -> tuple[list[Part], Array]:
    """Returns all parts in the frame of the room, and the object each belongs to."""
    tiled = any(p.category == "toilet" for item in layout.placed for p in item.item.parts)
    parts = shell_parts(layout, kit, tiled=tiled and layout.rng.random() < 0.7)
    instances = list(range(len(parts)))
    for i, (item, position, yaw) in enumerate(layout.placed, start=len(parts)):
        parts += [p._replace(quads=moved(p.quads, position, yaw)) for p in item.parts]
        instances += [i] * len(item.parts)
    return parts, np.array(instances)


def _scanned(mesh: Mesh, parts: list[Part], layout: Layout, detail: Detail) -> Mesh:
    """Returns what a camera walking through the room keeps of a mesh."""
    rng = layout.rng
    thin = np.array([p.thin for p in parts])[mesh.parts]
    dropout = np.array([p.material.dropout for p in parts])[mesh.parts]
    habit = draw_habit(rng)
    cameras = camera_path(layout, detail.cameras + int(rng.integers(0, 4)), habit.spread)
    keep = seen(mesh, thin, cameras, habit)
    rows = np.flatnonzero(keep)
    keep[rows[holes(mesh.points[rows], dropout[rows], rng)]] = False
    return kept(mesh, keep)


def _turned(points: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Returns points in a frame turned like the first camera, and the matrix that undoes it."""
    yaw = rng.uniform(-np.pi, np.pi) if rng.random() < 0.4 else rng.normal(0, 0.03)
    turned = moved(points, (0, 0, 0), yaw)
    columns = np.ascontiguousarray(turned.T)
    low = columns.min(axis=1)
    center = (low + columns.max(axis=1)) / 2 - low
    cos, sin = np.cos(-yaw), np.sin(-yaw)
    alignment = np.eye(4)
    alignment[:2, :2] = [[cos, -sin], [sin, cos]]
    alignment[:2, 3] = -alignment[:2, :2] @ center[:2]
    alignment[2, 3] = low[2]
    return turned - low, alignment
