"""What rooms are built of: parts (one surface, one material) and items (pieces of furniture).

Items stand in their own frame: x to the right and centered, y = 0 at the back and growing to the
front, z up from the floor. An item at a wall has its back in the wall.
"""

from typing import NamedTuple

import numpy as np

from mprm_jax.rooms.materials import Material
from mprm_jax.rooms.shapes import moved
from mprm_jax.types import Array


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


def part(category: str, material: Material, *quads: Array, thin: bool = False) -> Part:
    """Returns one part from several surfaces."""
    return Part(np.concatenate(quads), material, category, thin)


def shifted(parts: tuple[Part, ...], offset: tuple[float, ...], yaw: float = 0.0) -> list[Part]:
    """Returns parts turned by `yaw` and moved, to be set on other parts."""
    return [p._replace(quads=moved(p.quads, offset, yaw)) for p in parts]
