"""Kitchen runs: base cabinets under a counter with a sink and a stove, cabinets on the wall."""

import numpy as np

from mprm_jax.rooms.clutter import box_of_things
from mprm_jax.rooms.materials import Kit, pick
from mprm_jax.rooms.parts import Item, Part, part, shifted
from mprm_jax.rooms.sanitary import basin, faucet
from mprm_jax.rooms.shapes import box, boxes, cylinder
from mprm_jax.rooms.storage import cupboard
from mprm_jax.types import Array

_HEIGHT = 0.9  # meters, working height


def kitchen_run(
    rng: np.random.Generator, kit: Kit, length: float, *, sink: bool, stove: bool
) -> Item:
    """A counter of the given length over cabinets, with a sink and a stove let in."""
    depth = rng.uniform(0.58, 0.66)
    holes, spots = [], np.linspace(-0.5, 0.5, 5)[1:-1] * length
    rng.shuffle(spots)
    body = pick(rng, kit, woods=4, whites=3)
    parts: list[Part] = []
    if sink:
        x, half = spots[0], rng.uniform(0.24, 0.36)
        holes.append((x - half, x + half, 0.12, depth - 0.1))
        parts += _sink_in_counter(rng, kit, holes[-1])
    top = _plate_with_holes(length, depth, holes)
    stone = pick(rng, kit, stones=4, woods=2, whites=1)
    parts.append(part("kitchen counter" if rng.random() < 0.6 else "counter", stone, top))
    base = (length - 0.01, depth - 0.03, _HEIGHT - 0.04)
    parts += cupboard(rng, kit, "kitchen cabinet", base, body)
    if stove:
        parts += _stove(rng, kit, spots[1], depth)
    for _ in range(rng.integers(1, 6)):
        spot = (rng.uniform(-0.45, 0.45) * length, 0.2, _HEIGHT)
        parts += shifted(box_of_things(rng, kit), spot, rng.uniform(-0.4, 0.4))
    return Item(tuple(parts), (length, depth, _HEIGHT))


def wall_cabinet(rng: np.random.Generator, kit: Kit, length: float) -> Item:
    """Cabinets to hang above a counter."""
    size = (length, rng.uniform(0.3, 0.37), rng.uniform(0.55, 0.8))
    return Item(tuple(cupboard(rng, kit, "kitchen cabinet", size)), size)


def reception_counter(rng: np.random.Generator, kit: Kit) -> Item:
    """A free counter with a closed front."""
    width, depth, height = rng.uniform(1.3, 2.4), rng.uniform(0.5, 0.7), rng.uniform(0.9, 1.1)
    x, stone = width / 2, pick(rng, kit, stones=2, woods=3, whites=1)
    top = box((-x, 0, height - 0.05), (x, depth, height))
    parts = [part("counter", stone, top)]
    if rng.random() < 0.6:
        parts += cupboard(rng, kit, "cabinet", (width - 0.06, depth - 0.05, height - 0.05))
    else:
        sides = boxes(
            (-x + 0.02, 0.03, 0, -x + 0.07, depth - 0.05, height - 0.05),
            (x - 0.07, 0.03, 0, x - 0.02, depth - 0.05, height - 0.05),
            (-x + 0.02, 0.03, 0, x - 0.02, 0.06, height - 0.05),
        )
        parts.append(part("counter", stone, sides))
    return Item(tuple(parts), (width, depth, height))


def _sink_in_counter(
    rng: np.random.Generator, kit: Kit, hole: tuple[float, float, float, float]
) -> list[Part]:
    """Returns a sunk basin with a rim and a faucet."""
    x0, x1, y0, y1 = hole
    steel = pick(rng, kit, metals=3, whites=2, stones=0.5)
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    bowl = basin(
        middle, ((x1 - x0) / 2, (y1 - y0) / 2), _HEIGHT + 0.01, depth=rng.uniform(0.15, 0.2)
    )
    tap = faucet((middle[0], y0 - 0.04, _HEIGHT), reach=0.18)
    return [part("sink", steel, bowl, tap)]


def _plate_with_holes(length: float, depth: float, holes: list) -> Array:
    """Returns a counter top that leaves rectangular holes open."""
    x, z0, z1 = length / 2, _HEIGHT - 0.04, _HEIGHT
    quads, start = [], -x
    for x0, x1, y0, y1 in sorted(holes):
        quads.append((start, 0, z0, x0, depth, z1))
        quads += [(x0, 0, z0, x1, y0, z1), (x0, y1, z0, x1, depth, z1)]
        start = x1
    return boxes(*quads, (start, 0, z0, x, depth, z1))


def _stove(rng: np.random.Generator, kit: Kit, x: float, depth: float) -> list[Part]:
    """Returns a front with an oven door and four plates, outside the 20 classes."""
    case = pick(rng, kit, metals=2, darks=2, whites=2)
    front = box((x - 0.3, 0.02, 0.02), (x + 0.3, depth + 0.02, _HEIGHT + 0.015))
    handle = box((x - 0.24, depth + 0.02, 0.68), (x + 0.24, depth + 0.05, 0.71))
    plates = [
        cylinder((x + a, b), 0.09, _HEIGHT + 0.015, _HEIGHT + 0.03)
        for a in (-0.14, 0.14)
        for b in (0.18, 0.45)
    ]
    return [part("stove", case, front, handle), part("stove", pick(rng, kit, darks=1), *plates)]
