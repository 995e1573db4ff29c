"""One scene from its number: a room, its mesh, its defects, its annotation."""

from typing import NamedTuple

import numpy as np

from mprm_jax.rooms.labels import NYU40_ID
from mprm_jax.rooms.layout import Layout
from mprm_jax.rooms.materials import Kit
from mprm_jax.rooms.mesh import Mesh, paint, tessellate
from mprm_jax.rooms.parts import Part
from mprm_jax.rooms.room_types import furnished, room_type
from mprm_jax.rooms.scanner import camera_path, draw_habit, holes, kept, seen, shaken
from mprm_jax.rooms.segments import Group, annotated_groups, segment_ids
from mprm_jax.rooms.shapes import moved
from mprm_jax.rooms.shell import shell_parts
from mprm_jax.types import Array


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
    low = turned.min(axis=0)
    center = (turned.min(axis=0) + turned.max(axis=0)) / 2 - low
    cos, sin = np.cos(-yaw), np.sin(-yaw)
    alignment = np.eye(4)
    alignment[:2, :2] = [[cos, -sin], [sin, cos]]
    alignment[:2, 3] = -alignment[:2, :2] @ center[:2]
    alignment[2, 3] = low[2]
    return turned - low, alignment
