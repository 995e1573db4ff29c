"""What people sit and lie on: chairs, sofas, benches, beds."""

import itertools

import numpy as np

from mprm_jax.rooms.materials import Kit, Material, pick
from mprm_jax.rooms.shapes import (
    Item,
    Part,
    bar,
    box,
    boxes,
    cushion,
    cylinder,
    moved,
    part,
    shifted,
)


def chair(rng: np.random.Generator, kit: Kit) -> Item:
    """Four legs, a seat, and a back of slats or of one panel."""
    width, depth = rng.uniform(0.40, 0.52), rng.uniform(0.42, 0.54)
    seat, top = rng.uniform(0.42, 0.50), rng.uniform(0.78, 1.05)
    frame = pick(rng, kit, woods=4, darks=1, whites=1.5, metals=1)
    legs = _legs(width, depth, seat - 0.02, thickness=rng.uniform(0.02, 0.03))
    x, lean = width / 2, rng.uniform(0.02, 0.08)
    posts = [
        bar((s * (x - 0.03), 0.03, seat), (s * (x - 0.03), 0.03 - lean, top), 0.02) for s in (-1, 1)
    ]
    parts = [part("chair", frame, *legs, *posts, *_chair_back(rng, x, seat, top, lean))]
    padded = rng.random() < 0.5
    seat_material = pick(rng, kit, fabrics=3, darks=1) if padded else frame
    seat_quads = box((-x, 0, seat - 0.03), (x, depth, seat + 0.02))
    if padded:
        seat_quads = cushion((-x, 0, seat - 0.04), (x, depth, seat + 0.04))
    parts.append(part("chair", seat_material, seat_quads))
    return Item(tuple(parts), (width, depth, top))


def office_chair(rng: np.random.Generator, kit: Kit) -> Item:
    """A five-armed base, a column, a padded seat and back, often arms."""
    width, seat = rng.uniform(0.46, 0.56), rng.uniform(0.44, 0.54)
    top = seat + rng.uniform(0.42, 0.65)
    cloth = pick(rng, kit, fabrics=3, darks=3)
    base = pick(rng, kit, darks=3, metals=2)
    middle = (0.0, 0.30)
    angles = 2 * np.pi * np.arange(5) / 5 + rng.uniform(0, 1)
    feet = [
        bar((*middle, 0.10), (0.28 * np.cos(a), 0.30 + 0.28 * np.sin(a), 0.05), 0.022)
        for a in angles
    ]
    column = cylinder(middle, 0.03, 0.08, seat - 0.05, sides=6)
    half = width / 2
    seat_quads = cushion((-half, 0.05, seat - 0.05), (half, 0.56, seat + 0.05))
    back = cushion((-0.92 * half, 0.0, seat + 0.12), (0.92 * half, 0.09, top), softness=0.4)
    spine = bar((0, 0.06, seat - 0.03), (0, 0.03, seat + 0.2), 0.025)
    parts = [part("office chair", base, *feet, column, spine)]
    parts.append(part("office chair", cloth, seat_quads, back))
    if rng.random() < 0.6:
        arms = [_armrest(s * (half + 0.02), seat) for s in (-1, 1)]
        parts.append(part("office chair", base, *arms))
    return Item(tuple(parts), (width + 0.1, 0.6, top))


def armchair(rng: np.random.Generator, kit: Kit) -> Item:
    """A sofa for one, which annotators call a chair."""
    return _upholstered(
        rng, kit, rng.uniform(0.72, 0.92), str(rng.choice(["armchair", "sofa chair"]))
    )


def sofa(rng: np.random.Generator, kit: Kit, *, corner: bool = False) -> Item:
    """A couch for two or three, or with a chaise at one end."""
    item = _upholstered(rng, kit, rng.uniform(1.45, 2.4), "couch")
    if not corner:
        return item
    width, depth, height = item.size
    side = rng.choice([-1, 1])
    low, high = sorted((side * width / 2, side * (width / 2 - 0.75)))
    chaise = cushion((low, depth - 0.1, 0.05), (high, depth + 0.7, 0.43), softness=0.25)
    cloth = item.parts[0].material
    return Item((*item.parts, part("couch", cloth, chaise)), (width, depth + 0.7, height))


def bench(rng: np.random.Generator, kit: Kit) -> Item:
    """A long seat on boards."""
    width, depth, height = rng.uniform(0.9, 1.6), rng.uniform(0.35, 0.45), rng.uniform(0.4, 0.5)
    wood, x = pick(rng, kit, woods=4, whites=1, darks=1), width / 2
    seat = box((-x, 0, height - 0.05), (x, depth, height))
    sides = boxes(
        (-x + 0.05, 0.03, 0, -x + 0.1, depth - 0.03, height - 0.05),
        (x - 0.1, 0.03, 0, x - 0.05, depth - 0.03, height - 0.05),
    )
    return Item((part("bench", wood, seat, sides),), (width, depth, height))


def pillow(rng: np.random.Generator, kit: Kit, width: float) -> Part:
    """A pillow that lies with its middle at the origin."""
    cloth, depth = pick(rng, kit, fabrics=2, whites=2), rng.uniform(0.32, 0.45)
    height = rng.uniform(0.12, 0.18)
    low, high = (-width / 2, -depth / 2, 0), (width / 2, depth / 2, height)
    return part("pillow", cloth, cushion(low, high, softness=0.5))


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


def _legs(width: float, depth: float, height: float, thickness: float) -> list:
    """Returns four upright legs."""
    x, t = width / 2 - thickness, thickness
    return [
        box((s * x - t, y - t, 0), (s * x + t, y + t, height), without=("top", "bottom"))
        for s in (-1, 1)
        for y in (t, depth - t)
    ]


def _chair_back(rng: np.random.Generator, x: float, seat: float, top: float, lean: float) -> list:
    """Returns slats, rungs or a panel between the posts of a chair."""
    style, z0 = rng.integers(3), seat + rng.uniform(0.1, 0.25)
    y = 0.03 - lean
    if style == 0:
        return [box((-x + 0.04, y - 0.012, z0), (x - 0.04, y + 0.015, top))]
    rail = box((-x + 0.02, y - 0.015, top - 0.08), (x - 0.02, y + 0.02, top))
    if style == 1:
        xs = np.linspace(-x + 0.09, x - 0.09, 4)
        return [rail, *[bar((a, 0.03, seat), (a, y, top - 0.05), 0.014) for a in xs]]
    rungs = np.linspace(z0, top - 0.16, 3)
    return [rail, *[box((-x + 0.04, y - 0.01, z), (x - 0.04, y + 0.015, z + 0.05)) for z in rungs]]


def _armrest(x: float, seat: float) -> np.ndarray:
    """Returns one arm of an office chair."""
    post = bar((x, 0.32, seat - 0.02), (x, 0.30, seat + 0.2), 0.018)
    pad = box((x - 0.04, 0.14, seat + 0.2), (x + 0.04, 0.42, seat + 0.235))
    return np.concatenate([post, pad])


def _upholstered(rng: np.random.Generator, kit: Kit, width: float, category: str) -> Item:
    """Returns a seat with cushions, a thick back and two thick arms."""
    cloth = pick(rng, kit, fabrics=5, darks=1, whites=0.5)
    depth, seat = rng.uniform(0.78, 0.98), rng.uniform(0.38, 0.46)
    top, arm = rng.uniform(0.72, 0.95), rng.uniform(0.12, 0.24)
    arm_top, x = seat + rng.uniform(0.1, 0.25), width / 2
    base = box((-x + arm, 0.05, 0.06), (x - arm, depth - 0.03, seat - 0.14))
    back = cushion((-x + 0.5 * arm, 0.0, 0.08), (x - 0.5 * arm, 0.22, top), softness=0.2)
    arms = [
        cushion((-x, 0.02, 0.04), (-x + arm, depth, arm_top), softness=0.2),
        cushion((x - arm, 0.02, 0.04), (x, depth, arm_top), softness=0.2),
    ]
    count = max(1, round((width - 2 * arm) / 0.65))
    edges = np.linspace(-x + arm, x - arm, count + 1)
    seats = [
        cushion((a + 0.005, 0.18, seat - 0.15), (b - 0.005, depth, seat + 0.03))
        for a, b in itertools.pairwise(edges)
    ]
    parts = [part(category, cloth, base, back, *arms), part(category, _lighter(cloth), *seats)]
    for _ in range(rng.integers(0, 1 + 2 * count)):
        thrown = pillow(rng, kit, rng.uniform(0.36, 0.5))
        spot = (rng.uniform(0.75 * edges[0], 0.75 * edges[-1]), 0.36, seat + 0.05)
        standing = thrown.quads[..., [0, 2, 1]] * [1, 1, 1] + [0, 0, 0.18]
        quads = moved(standing[:, ::-1], spot, rng.uniform(-0.3, 0.3))
        parts.append(thrown._replace(quads=quads))
    return Item(tuple(parts), (width, depth, top))


def _lighter(material: Material) -> Material:
    """Returns the material of a worn seat."""
    return material._replace(color=tuple(min(0.98, 1.04 * c) for c in material.color))


def _blanket(rng: np.random.Generator, kit: Kit, x: float, length: float, top: float):
    """Returns a blanket over the foot of the bed that hangs down at its sides."""
    start, hang = rng.uniform(0.6, 1.1), rng.uniform(0.1, 0.3)
    category = "bed" if rng.random() < 0.6 else "blanket"
    low, high = (-x - 0.03, start, top - hang), (x + 0.03, length + 0.02, top + 0.035)
    return part(category, pick(rng, kit, fabrics=5, whites=1), cushion(low, high, softness=0.2))
