"""What rooms are built of: surfaces, parts (one surface, one material) and items of furniture.

A quad is four corners, counterclockwise seen from outside: [Q, 4, 3] float64, meters. Everything in
a room is made of such quads, so that a whole room is cut into small triangles in one pass.

Items stand in their own frame: x to the right and centered, y = 0 at the back and growing to the
front, z up from the floor. An item at a wall has its back in the wall.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mprm_jax.rooms.materials import Material
from mprm_jax.types import Array

_BOX_CORNERS = np.array(
    [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], float
)
_BOX_FACES = {
    "bottom": (0, 3, 2, 1),
    "top": (4, 5, 6, 7),
    "back": (0, 1, 5, 4),
    "front": (3, 7, 6, 2),
    "left": (0, 4, 7, 3),
    "right": (1, 2, 6, 5),
}


class Part(NamedTuple):
    """One surface of one annotated object."""

    quads: Array  # [Q, 4, 3] meters
    material: Material
    category: str  # raw category name; "" if the annotators left it out
    thin: bool = False  # seen from both sides


class Item(NamedTuple):
    """A piece of furniture with what lies on it."""

    parts: tuple[Part, ...]
    size: tuple[float, float, float]  # meters: width, depth, height


class Placed(NamedTuple):
    """An item in the room."""

    item: Item
    position: tuple[float, float, float]  # meters, where the origin of the item is
    yaw: float  # radians


def box(low: Sequence[float], high: Sequence[float], *, without: Sequence[str] = ()) -> Array:
    """Returns the faces of an axis-parallel box; `back` is its side of small y, `left` of small x.

    Args:
      low, high: x, y, z of the two extreme corners.
      without: names of faces to leave out.
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    corners = low + _BOX_CORNERS * (high - low)
    return np.stack([corners[list(f)] for name, f in _BOX_FACES.items() if name not in without])


def boxes(*extents: Sequence[float]) -> Array:
    """Returns several boxes, each given as (x0, y0, z0, x1, y1, z1)."""
    return np.concatenate([box(extent[:3], extent[3:]) for extent in extents])


def sheet(grid: Array) -> Array:
    """Returns the quads between neighboring points of a grid.

    Args:
      grid: [A, B, 3]; outside is where the first axis, crossed with the second, points.

    Returns:
      [(A-1) * (B-1), 4, 3]
    """
    quads = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2)
    return quads.reshape(-1, 4, 3)


def loft(rings: Array) -> Array:
    """Returns the skin through closed rings.

    Args:
      rings: [R, S, 3]; each ring counterclockwise seen from where the rings go (from above when
        they go up).
    """
    return sheet(np.concatenate([rings, rings[:, :1]], axis=1).swapaxes(0, 1))


def ring(
    radius_x: float, radius_y: float, z: float, *, sides: int = 10, roundness: float = 2.0
) -> Array:
    """Returns points around a superellipse about the z axis.

    Args:
      roundness: 2 is an ellipse; larger is closer to a rectangle.

    Returns:
      [sides, 3], counterclockwise from above.
    """
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    cos, sin = np.cos(angle), np.sin(angle)
    scale = (np.abs(cos) ** roundness + np.abs(sin) ** roundness) ** (-1 / roundness)
    return np.stack([radius_x * scale * cos, radius_y * scale * sin, np.full(sides, z)], axis=1)


def lathe(
    profile: Sequence[tuple[float, float]],
    *,
    center: Sequence[float] = (0.0, 0.0),
    stretch: float = 1.0,
    sides: int = 10,
    roundness: float = 2.0,
) -> Array:
    """Returns the surface swept by a profile around a vertical axis.

    Args:
      profile: (radius, z) from the lowest outer point on; going back down inside makes a bowl.
      center: x, y of the axis.
      stretch: radius along y over radius along x.
    """
    rings = [ring(r, r * stretch, z, sides=sides, roundness=roundness) for r, z in profile]
    return loft(np.stack(rings)) + np.array([center[0], center[1], 0.0])


def cylinder(center: Sequence[float], radius: float, z0: float, z1: float, sides: int = 8) -> Array:
    """Returns an upright closed cylinder about (x, y) = `center`."""
    profile = [(1e-3, z0), (radius, z0), (radius, z1), (1e-3, z1)]
    return lathe(profile, center=center, sides=sides)


def bar(start: Sequence[float], end: Sequence[float], radius: float) -> Array:
    """Returns an open four-sided bar between two points."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = (end - start) / np.linalg.norm(end - start)
    helper = np.array([0.0, 0.0, 1.0]) if abs(along[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    side = np.cross(helper, along)
    side /= np.linalg.norm(side)
    up = np.cross(along, side)
    section = radius * np.stack([side + up, up - side, -side - up, side - up])
    return loft(np.stack([start + section, end + section]))


def cushion(low: Sequence[float], high: Sequence[float], *, softness: float = 0.35) -> Array:
    """Returns a box with bulging, rounded sides: a mattress, a seat, a pillow.

    Args:
      softness: share of the height that is rounded off; 0.5 is a pillow.
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    (radius_x, radius_y), middle = (high - low)[:2] / 2, (low + high) / 2
    inset = softness * min(high[2] - low[2], radius_x, radius_y)
    heights = [low[2], low[2] + softness * (middle[2] - low[2]), middle[2]]
    heights += [high[2] - softness * (high[2] - middle[2]), high[2]]
    insets = [inset, 0.25 * inset, 0.0, 0.25 * inset, inset]
    rings = [
        ring(radius_x - i, radius_y - i, z, sides=12, roundness=6.0)
        for z, i in zip(heights, insets, strict=True)
    ]
    rings = [1e-3 * rings[0] + [0, 0, low[2]], *rings]
    rings.append(rings[-1] * [0.5, 0.5, 1.0])
    rings.append(rings[-1] * [1e-3, 1e-3, 1.0])
    return loft(np.stack(rings)) + np.array([middle[0], middle[1], 0.0])


def wavy_sheet(
    x0: float, x1: float, z0: float, z1: float, *, waves: float, depth: float, lean: float = 0.0
) -> Array:
    """Returns hanging cloth in the plane y = 0 that folds by +-`depth`, wider at the hem.

    Args:
      waves: number of folds between x0 and x1.
      lean: meters by which the hem is off the plane.
    """
    columns = int(np.ceil(waves * 6)) + 1
    across, down = np.linspace(0, 1, columns)[:, None], np.linspace(0, 1, 4)[None, :]
    fold = np.sin(2 * np.pi * waves * across + 1.5 * down) * (0.5 + 0.5 * down)
    x = x0 + (x1 - x0) * (0.5 + (across - 0.5) * (0.92 + 0.08 * down))
    y = depth * fold + lean * down
    z = z1 + (z0 - z1) * down + 0.0 * across
    return sheet(np.stack([x, y, z], axis=-1)[:, ::-1])


def moved(quads: Array, offset: Sequence[float], yaw: float = 0.0) -> Array:
    """Returns points [..., 3] turned about the z axis by `yaw`, then shifted."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    x, y, z = np.moveaxis(quads, -1, 0)
    return np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1) + np.asarray(offset, float)


def part(category: str, material: Material, *quads: Array, thin: bool = False) -> Part:
    """Returns one part from several surfaces."""
    return Part(np.concatenate(quads), material, category, thin)


def shifted(parts: tuple[Part, ...], offset: tuple[float, ...], yaw: float = 0.0) -> list[Part]:
    """Returns parts turned by `yaw` and moved, to be set on other parts."""
    return [p._replace(quads=moved(p.quads, offset, yaw)) for p in parts]
