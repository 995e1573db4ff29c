"""Tables of all sizes and desks with what stands on them."""

import itertools

import numpy as np

from mprm_jax.rooms.clutter import books, box_of_things, desk_lamp, keyboard, monitor
from mprm_jax.rooms.materials import Kit, pick
from mprm_jax.rooms.shapes import Item, Part, box, boxes, cylinder, part, shifted


def table(rng: np.random.Generator, kit: Kit, *, large: bool = False) -> Item:
    """A rectangular dining or meeting table on four legs or two trestles."""
    width = rng.uniform(1.8, 3.2) if large else rng.uniform(0.9, 1.7)
    depth = rng.uniform(0.9, 1.3) if large else rng.uniform(0.65, 0.95)
    category = str(rng.choice(["table", "dining table"], p=[0.7, 0.3]))
    return _four_legged(rng, kit, category, (width, depth, rng.uniform(0.70, 0.78)))


def coffee_table(rng: np.random.Generator, kit: Kit) -> Item:
    """A low table, sometimes with a shelf below the top."""
    size = (rng.uniform(0.7, 1.25), rng.uniform(0.45, 0.7), rng.uniform(0.36, 0.48))
    return _four_legged(rng, kit, "coffee table", size)


def end_table(rng: np.random.Generator, kit: Kit) -> Item:
    """A small table beside a seat."""
    size = (rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.55), rng.uniform(0.48, 0.65))
    return _four_legged(rng, kit, "end table", size)


def round_table(rng: np.random.Generator, kit: Kit) -> Item:
    """A disk on one column with a foot."""
    radius, height = rng.uniform(0.4, 0.7), rng.uniform(0.68, 0.78)
    wood = pick(rng, kit, woods=4, whites=2, darks=1, stones=1)
    center = (0.0, radius)
    top = cylinder(center, radius, height - 0.035, height, sides=14)
    column = cylinder(center, rng.uniform(0.035, 0.06), 0.03, height - 0.035, sides=8)
    foot = cylinder(center, 0.55 * radius, 0.0, 0.04, sides=10)
    parts = [part("round table", wood, top, column, foot)]
    parts += _things(rng, kit, (2 * radius, 2 * radius), height, count=rng.integers(0, 3))
    return Item(tuple(parts), (2 * radius, 2 * radius, height))


def desk(rng: np.random.Generator, kit: Kit) -> Item:
    """A work table closed at the back, with a block of drawers on one or both sides."""
    width, depth = rng.uniform(1.0, 1.8), rng.uniform(0.55, 0.8)
    height, x = rng.uniform(0.70, 0.79), width / 2
    wood = pick(rng, kit, woods=4, whites=2, darks=1)
    top = box((-x, 0, height - 0.035), (x, depth, height))
    panel = box((-x + 0.02, 0.04, 0.25), (x - 0.02, 0.06, height - 0.035))
    side = int(rng.choice([-1, 1]))
    wall = box((-side * x, 0.03, 0), (-side * (x - 0.03), depth - 0.05, height - 0.035))
    if side < 0:
        wall = box((x - 0.03, 0.03, 0), (x, depth - 0.05, height - 0.035))
    drawers, handles = _drawers(side, x, depth, height)
    parts = [part("desk", wood, top, panel, wall, *drawers)]
    parts.append(part("desk", pick(rng, kit, metals=3, darks=1), *handles))
    parts += _desk_things(rng, kit, width, depth, height)
    return Item(tuple(parts), (width, depth, height))


def _four_legged(
    rng: np.random.Generator, kit: Kit, category: str, size: tuple[float, float, float]
) -> Item:
    """Returns a table with a top, an apron, legs, and things on it."""
    width, depth, height = size
    x, thick, leg = width / 2, rng.uniform(0.025, 0.05), rng.uniform(0.02, 0.04)
    wood = pick(rng, kit, woods=4, whites=1.5, darks=1, stones=0.5)
    quads = [box((-x, 0, height - thick), (x, depth, height))]
    inset = rng.uniform(0.0, 0.06)
    for a in (-x + inset, x - inset - 2 * leg):
        for b in (inset, depth - inset - 2 * leg):
            quads.append(box((a, b, 0), (a + 2 * leg, b + 2 * leg, height - thick)))
    if rng.random() < 0.5:
        i, z = inset + leg, height - thick
        quads.append(
            boxes(
                (-x + i, i, z - 0.08, x - i, i + 0.02, z),
                (-x + i, depth - i - 0.02, z - 0.08, x - i, depth - i, z),
            )
        )
    if height < 0.6 and rng.random() < 0.4:
        quads.append(box((-x + inset, inset, 0.14), (x - inset, depth - inset, 0.17)))
    count = rng.integers(0, 2 + int(2 * width))
    parts = [part(category, wood, *quads), *_things(rng, kit, (width, depth), height, count)]
    return Item(tuple(parts), size)


def _drawers(side: int, x: float, depth: float, height: float) -> tuple[list, list]:
    """Returns a block of drawers at one end of a desk, and its handles."""
    low, high = sorted((side * x, side * (x - 0.42)))
    block = box((low, 0.05, 0.04), (high, depth - 0.04, height - 0.035))
    edges = np.linspace(0.06, height - 0.05, 4)
    fronts, handles, middle = [], [], (low + high) / 2
    for z0, z1 in itertools.pairwise(edges):
        front = (low + 0.015, depth - 0.04, z0 + 0.008), (high - 0.015, depth - 0.02, z1 - 0.008)
        fronts.append(box(*front))
        z = (z0 + z1) / 2
        handles.append(
            box((middle - 0.07, depth - 0.02, z), (middle + 0.07, depth + 0.01, z + 0.02))
        )
    return [block, *fronts], handles


def _desk_things(
    rng: np.random.Generator, kit: Kit, width: float, depth: float, height: float
) -> list[Part]:
    """Returns a monitor with a keyboard and some clutter."""
    parts = []
    if rng.random() < 0.8:
        x = rng.uniform(-0.2, 0.2) * width
        parts += shifted(monitor(rng, kit), (x, 0.25, height), rng.uniform(-0.3, 0.3))
        parts += shifted(keyboard(rng, kit), (x, depth - 0.2, height))
    if rng.random() < 0.3:
        parts += shifted(desk_lamp(rng, kit), (rng.choice([-0.4, 0.4]) * width, 0.2, height))
    return parts + _things(rng, kit, (width, depth), height, rng.integers(0, 4))


def _things(
    rng: np.random.Generator, kit: Kit, size: tuple[float, float], height: float, count: int
) -> list[Part]:
    """Returns books and small objects strewn over a table top."""
    parts = []
    for _ in range(count):
        maker = books if rng.random() < 0.4 else box_of_things
        spot = rng.uniform(-0.4, 0.4) * size[0], rng.uniform(0.2, 0.8) * size[1], height
        parts += shifted(maker(rng, kit), spot, rng.uniform(0, np.pi))
    return parts
