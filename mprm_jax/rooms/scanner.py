"""What a handheld depth camera makes of a perfect room: holes, noise, missing corners.

A vertex survives if some camera position saw it: near enough, not edge-on, not behind anything.
So the floor under a bed, the wall behind a wardrobe and the top of a tall cabinet are missing.
"""

from typing import NamedTuple

import numpy as np

from mprm_jax.rooms.layout import Layout
from mprm_jax.rooms.materials import smooth_noise
from mprm_jax.rooms.mesh import Mesh
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
    for camera in cameras:
        view = mesh.points - camera
        distance = np.maximum(np.linalg.norm(view, axis=1), 1e-6)
        elevation = np.arcsin(view[:, 2] / distance)
        azimuth = np.arctan2(view[:, 1], view[:, 0])
        facing = -np.einsum("nd,nd->n", view, mesh.normals) / distance
        facing = np.where(thin, np.abs(facing), facing)
        turn = np.abs(np.mod(azimuth - habit.away + np.pi, 2 * np.pi) - np.pi)
        looked = low & (elevation < habit.highest) & (turn >= habit.blind)
        open_view = looked & (facing > _GRAZING) & (distance < habit.reach)
        slope = np.sqrt(1 - np.square(facing)) / np.maximum(facing, _GRAZING)
        visible |= open_view & ~_hidden(azimuth, elevation, distance, slope)
    return visible


def holes(points: Array, dropout: Array, rng: np.random.Generator) -> Array:
    """Says which vertices were lost to glass, gloss and passing by too fast.

    Args:
      points: [N, 3] meters.
      dropout: [N] share of its surface that a material hides.

    Returns:
      [N] bool
    """
    patches = 0.5 + 0.5 * np.tanh(1.3 * smooth_noise(points / 0.5, rng))
    lost = patches < dropout * 1.05
    extent = np.ptp(points, axis=0)
    for _ in range(rng.poisson(0.35 * extent[0] * extent[1]) if len(points) else 0):
        center, radius = points[rng.integers(len(points))], rng.uniform(0.06, 0.32)
        near = np.abs(points - center).max(axis=1) < 1.5 * radius
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
    """Returns the mesh of the kept vertices that are still part of a triangle."""
    faces = mesh.faces[keep[mesh.faces].all(axis=1)]
    used = np.zeros(len(mesh.points), bool)
    used[faces] = True
    rows = np.flatnonzero(used)
    new = np.cumsum(used) - 1
    return Mesh(mesh.points[rows], mesh.normals[rows], new[faces], mesh.parts[rows])


def _hidden(azimuth: Array, elevation: Array, distance: Array, slope: Array) -> Array:
    """Says which points lie behind others in a depth map around the camera: [N] bool."""
    hidden = np.zeros(len(distance), bool)
    for cell, drawn in ((_COARSE, distance < _NEAR), (_FINE, np.ones(len(distance), bool))):
        columns = int(np.ceil(2 * np.pi / cell)) + 1
        pixel = np.floor((elevation + np.pi / 2) / cell).astype(int) * columns
        pixel += np.floor((azimuth + np.pi) / cell).astype(int)
        depth = np.full(pixel.max() + 1, np.inf)
        np.minimum.at(depth, pixel[drawn], distance[drawn])
        # Across one cell, the depth of a slanted surface itself differs by this much.
        own = np.minimum(distance * cell * slope, 0.6)
        hidden |= distance > depth[pixel] + _TOLERANCE + own
    return hidden
