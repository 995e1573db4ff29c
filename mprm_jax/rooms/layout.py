"""A floor plan, and where furniture goes in it without standing in other furniture.

The room frame has its first corner at (0, 0), the floor at z = 0, walls along x and y.
"""

from typing import NamedTuple

import numpy as np

from mprm_jax.rooms.shapes import Item, Placed
from mprm_jax.types import Array

_TRIES = 24  # random positions per item before it is left out
_SLACK = 0.01  # meters by which boxes may touch


class Wall(NamedTuple):
    """One straight wall; the room lies to its left."""

    start: tuple[float, float]
    yaw: float  # radians, direction along the wall
    length: float


class Opening(NamedTuple):
    """A rectangular hole in a wall."""

    wall: int
    low: tuple[float, float]  # meters along the wall, meters above the floor
    high: tuple[float, float]


class Box(NamedTuple):
    """Space that is taken."""

    low: Array
    high: Array
    owner: int  # index of the placed item, or -1


class Layout:
    """The plan of one room and everything placed in it so far."""

    def __init__(self, rng: np.random.Generator, width: float, depth: float, height: float):
        """Draws a rectangle, or now and then an L, of the given outer size in meters."""
        self.rng, self.size = rng, (width, depth, height)
        self.notch = None
        if min(width, depth) > 3.2 and rng.random() < 0.25:
            self.notch = (rng.uniform(0.55, 0.75) * width, rng.uniform(0.55, 0.75) * depth)
        self.walls = _walls(self.corners)
        self.openings: list[Opening] = []
        self.placed: list[Placed] = []
        self._boxes: list[Box] = []

    @property
    def corners(self) -> Array:
        """The outline, counterclockwise: [4 or 6, 2]."""
        width, depth, _ = self.size
        if self.notch is None:
            return np.array([[0, 0], [width, 0], [width, depth], [0, depth]])
        x, y = self.notch
        return np.array([[0, 0], [width, 0], [width, y], [x, y], [x, depth], [0, depth]])

    def contains(self, low: Array, high: Array) -> bool:
        """Says whether the rectangle from `low` to `high` (x, y) lies in the room."""
        size = np.array(self.size[:2])
        if (low[:2] < -_SLACK).any() or (high[:2] > size + _SLACK).any():
            return False
        return self.notch is None or not (np.asarray(high[:2]) > np.add(self.notch, _SLACK)).all()

    def at_wall(
        self,
        item: Item,
        *,
        z: float = 0.0,
        front: float = 0.0,
        walls: list[int] | None = None,
        corner: bool = False,
        gap: float = 0.0,
    ) -> Placed | None:
        """Stands or hangs an item with its back at a wall; None if there is no room for it.

        Args:
          front: meters that must be free before it.
          walls: walls to try; all of them by default, long ones more often.
          corner: try only the two ends of each wall.
          gap: meters between back and wall.
        """
        for _ in range(_TRIES):
            index = self._draw_wall(walls)
            room = self.walls[index].length - item.size[0]
            if room < 0:
                continue
            share = self.rng.integers(2) if corner else self.rng.uniform()
            along = 0.02 + item.size[0] / 2 + (room - 0.04) * share
            placed = self.fix(item, index, along, z=z, front=front, gap=gap)
            if placed:
                return placed
        return None

    def fix(
        self,
        item: Item,
        wall: int,
        along: float,
        *,
        z: float = 0.0,
        front: float = 0.0,
        gap: float = 0.0,
    ) -> Placed | None:
        """Puts the middle of an item's back at a given place of a wall, if that is free."""
        start, yaw, _ = self.walls[wall]
        direction = np.array([np.cos(yaw), np.sin(yaw)])
        x, y = start + along * direction + gap * np.array([-direction[1], direction[0]])
        return self.put(Placed(item, (x, y, z), yaw), front=front)

    def free(self, item: Item, *, yaw: float | None = None, margin: float = 0.3) -> Placed | None:
        """Stands an item anywhere in the room."""
        for _ in range(_TRIES):
            angle = self.rng.uniform(0, 2 * np.pi) if yaw is None else yaw
            x, y = self.rng.uniform(margin, np.maximum(np.array(self.size[:2]) - margin, margin))
            placed = self.put(Placed(item, (x, y, 0.0), angle))
            if placed:
                return placed
        return None

    def beside(
        self,
        anchor: Placed,
        item: Item,
        offset: tuple[float, float],
        turn: float = 0.0,
        *,
        tucked: bool = False,
    ) -> Placed | None:
        """Stands an item at an offset in the frame of another one.

        Args:
          tucked: may overlap the anchor, like a chair under a table.
        """
        cos, sin = np.cos(anchor.yaw), np.sin(anchor.yaw)
        x = anchor.position[0] + cos * offset[0] - sin * offset[1]
        y = anchor.position[1] + sin * offset[0] + cos * offset[1]
        owner = next(i for i, p in enumerate(self.placed) if p is anchor) if tucked else -2
        return self.put(Placed(item, (x, y, 0.0), anchor.yaw + turn), ignore=owner)

    def put(self, placed: Placed, *, front: float = 0.0, ignore: int = -2) -> Placed | None:
        """Adds an item where it is, unless it leaves the room or meets another."""
        low, high = bounds(placed, front)
        if not self.contains(low, high) or high[2] > self.size[2] + _SLACK:
            return None
        for box in self._boxes:
            apart = (low >= box.high - _SLACK) | (high <= box.low + _SLACK)
            if not apart.any() and box.owner != ignore:
                return None
        self._boxes.append(Box(*bounds(placed, 0.0), len(self.placed)))
        self.placed.append(placed)
        return placed

    def reserve(self, wall: int, span: tuple[float, float], z: tuple[float, float], depth: float):
        """Keeps the space before a stretch of wall free."""
        item = Item((), (span[1] - span[0], depth, z[1] - z[0]))
        start, yaw, _ = self.walls[wall]
        middle = np.add(start, np.mean(span) * np.array([np.cos(yaw), np.sin(yaw)]))
        self._boxes.append(Box(*bounds(Placed(item, (*middle, z[0]), yaw), 0.0), -1))

    def is_open(self, x: float, y: float, z: float, margin: float) -> bool:
        """Says whether a camera at this point is in the room and not in furniture."""
        point = np.array([x, y, z])
        if not self.contains(point - margin, point + margin):
            return False
        owned = [box for box in self._boxes if box.owner >= 0]
        return not any(((point > b.low - 0.1) & (point < b.high + 0.1)).all() for b in owned)

    def _draw_wall(self, walls: list[int] | None) -> int:
        """Draws a wall with probability proportional to its length."""
        candidates = list(range(len(self.walls))) if walls is None else walls
        lengths = np.array([self.walls[i].length for i in candidates])
        return candidates[self.rng.choice(len(candidates), p=lengths / lengths.sum())]


def bounds(placed: Placed, front: float) -> tuple[Array, Array]:
    """Returns the axis-parallel box around an item with `front` meters more depth."""
    width, depth, height = placed.item.size
    x, y = np.array([-0.5, 0.5, 0.5, -0.5]) * width, np.array([0, 0, 1, 1]) * (depth + front)
    cos, sin = np.cos(placed.yaw), np.sin(placed.yaw)
    footprint = np.stack([cos * x - sin * y, sin * x + cos * y], axis=1) + placed.position[:2]
    z = placed.position[2]
    return np.append(footprint.min(axis=0), z), np.append(footprint.max(axis=0), z + height)


def _walls(corners: Array) -> list[Wall]:
    """Returns the walls between consecutive corners."""
    steps = np.roll(corners, -1, axis=0) - corners
    yaws = np.round(np.arctan2(steps[:, 1], steps[:, 0]) / (np.pi / 2)) * (np.pi / 2)
    lengths = np.linalg.norm(steps, axis=1)
    return [Wall(tuple(c), y, n) for c, y, n in zip(corners, yaws, lengths, strict=True)]
