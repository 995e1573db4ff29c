"""Beds: a frame, a mattress, a blanket, pillows and boards at the head and the foot."""

import numpy as np

from mprm_jax.rooms.materials import Kit, pick
from mprm_jax.rooms.parts import Item, part, shifted
from mprm_jax.rooms.seating import pillow
from mprm_jax.rooms.shapes import box, boxes, cushion


def bed(rng: np.random.Generator, kit: Kit) -> Item:
    """A single or double bed with its head at the wall."""
    width = rng.uniform(0.9, 1.15) if rng.random() < 0.45 else rng.uniform(1.4, 1.9)
    length, top = rng.uniform(1.9, 2.15), rng.uniform(0.42, 0.66)
    x, base = width / 2, top - rng.uniform(0.18, 0.26)
    frame = pick(rng, kit, woods=4, whites=1, darks=1, fabrics=1)
    linen = pick(rng, kit, fabrics=3, whites=2)
    head = rng.uniform(0.8, 1.25)
    wood = [box((-x - 0.02, 0.05, rng.choice([0.0, 0.1])), (x + 0.02, length, base))]
    if rng.random() < 0.85:
        wood.append(box((-x - 0.04, 0, 0), (x + 0.04, 0.06, head)))
    if rng.random() < 0.3:
        wood.append(box((-x - 0.04, length, 0), (x + 0.04, length + 0.05, top + 0.15)))
    mattress = cushion((-x, 0.05, base - 0.02), (x, length, top), softness=0.3)
    parts = [part("bed", frame, *wood), part("bed", linen, mattress)]
    if rng.random() < 0.7:
        parts.append(_blanket(rng, kit, x, length, top))
    count = 1 if width < 1.3 else int(rng.integers(2, 5))
    for i in range(count):
        spot = (-x + width * (i % 2 + 0.5) / min(count, 2), 0.32 + 0.16 * (i // 2), top - 0.03)
        size = min(0.7, 0.8 * width / min(count, 2))
        parts += shifted((pillow(rng, kit, size),), spot, rng.uniform(-0.2, 0.2))
    return Item(tuple(parts), (width + 0.08, length + 0.05, head))


def bunk_bed(rng: np.random.Generator, kit: Kit) -> Item:
    """Two mattresses above each other between four posts, with a ladder."""
    width, length, height = rng.uniform(0.9, 1.05), rng.uniform(1.95, 2.1), rng.uniform(1.5, 1.75)
    x, frame = width / 2, pick(rng, kit, woods=4, whites=1, metals=1)
    posts = [
        box((a, b, 0), (a + 0.07, b + 0.07, height), without=("bottom",))
        for a in (-x, x - 0.07)
        for b in (0.0, length - 0.07)
    ]
    decks = [
        boxes((-x, 0, z, -x + 0.03, length, z + 0.2), (x - 0.03, 0, z, x, length, z + 0.2))
        for z in (0.28, height - 0.4)
    ]
    steps = [box((x, 1.3, z), (x + 0.04, 1.7, z + 0.04)) for z in np.arange(0.3, height, 0.3)]
    parts = [part("bed", frame, *posts, *decks, *steps)]
    for z in (0.3, height - 0.38):
        linen = pick(rng, kit, fabrics=3, whites=2)
        low, high = (-x + 0.03, 0.03, z), (x - 0.03, length - 0.03, z + 0.22)
        parts.append(part("bed", linen, cushion(low, high, softness=0.3)))
        parts += shifted((pillow(rng, kit, 0.55),), (0, 0.3, z + 0.2))
    return Item(tuple(parts), (width + 0.1, length, height))


def _blanket(rng: np.random.Generator, kit: Kit, x: float, length: float, top: float):
    """Returns a blanket over the foot of the bed that hangs down at its sides."""
    start, hang = rng.uniform(0.6, 1.1), rng.uniform(0.1, 0.3)
    category = "bed" if rng.random() < 0.6 else "blanket"
    low, high = (-x - 0.03, start, top - hang), (x + 0.03, length + 0.02, top + 0.035)
    return part(category, pick(rng, kit, fabrics=5, whites=1), cushion(low, high, softness=0.2))
