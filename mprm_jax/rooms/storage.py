"""Cabinets, dressers, wardrobes, shelves with books, and refrigerators."""

import itertools

import numpy as np

from mprm_jax.rooms.clutter import book_row, books, box_of_things, desk_lamp
from mprm_jax.rooms.materials import Kit, Material, pick
from mprm_jax.rooms.shapes import Item, Part, bar, box, boxes, part, shifted
from mprm_jax.types import Array


def cabinet(rng: np.random.Generator, kit: Kit) -> Item:
    """A closed cupboard, low or tall, with doors."""
    tall = rng.random() < 0.35
    width, depth = rng.uniform(0.7, 1.6), rng.uniform(0.36, 0.55)
    height = rng.uniform(1.5, 2.1) if tall else rng.uniform(0.7, 1.15)
    parts = cupboard(rng, kit, "cabinet", (width, depth, height))
    if not tall:
        parts += _on_top(rng, kit, width, depth, height)
    return Item(tuple(parts), (width, depth, height))


def file_cabinet(rng: np.random.Generator, kit: Kit) -> Item:
    """A narrow metal block of two to four drawers."""
    rows = int(rng.integers(2, 5))
    size = (rng.uniform(0.4, 0.5), rng.uniform(0.5, 0.62), 0.33 * rows + 0.03)
    body = pick(rng, kit, metals=3, whites=2, darks=1, woods=1)
    return Item(tuple(drawer_chest(rng, kit, "file cabinet", size, (1, rows), body)), size)


def dresser(rng: np.random.Generator, kit: Kit) -> Item:
    """A chest of drawers, which ScanNet keeps apart from cabinets and out of the 20 classes."""
    size = (rng.uniform(0.8, 1.5), rng.uniform(0.42, 0.52), rng.uniform(0.75, 1.05))
    body = pick(rng, kit, woods=4, whites=1.5)
    category = "dresser" if rng.random() < 0.5 else "cabinet"
    parts = drawer_chest(rng, kit, category, size, (2, 3), body)
    return Item((*parts, *_on_top(rng, kit, *size)), size)


def nightstand(rng: np.random.Generator, kit: Kit) -> Item:
    """A small chest beside a bed, often with a lamp."""
    size = (rng.uniform(0.4, 0.55), rng.uniform(0.36, 0.48), rng.uniform(0.48, 0.65))
    parts = drawer_chest(rng, kit, "nightstand", size, (1, 2), pick(rng, kit, woods=4, whites=1))
    if rng.random() < 0.6:
        parts += shifted(desk_lamp(rng, kit), (0, 0.2, size[2]))
    return Item(tuple(parts), size)


def wardrobe(rng: np.random.Generator, kit: Kit) -> Item:
    """A cupboard for clothes as tall as a door, one of ScanNet's other furniture."""
    size = (rng.uniform(0.9, 1.9), rng.uniform(0.55, 0.65), rng.uniform(1.9, 2.2))
    return Item(tuple(cupboard(rng, kit, "wardrobe closet", size)), size)


def tv_stand(rng: np.random.Generator, kit: Kit) -> Item:
    """A long low board, open in front, with a television on it."""
    width, depth, height = rng.uniform(1.1, 1.8), rng.uniform(0.38, 0.5), rng.uniform(0.4, 0.6)
    x, wood = width / 2, pick(rng, kit, woods=3, darks=2, whites=1)
    frame = _open_case(x, depth, np.array([0.05, height / 2, height]), supports=4)
    parts = [part("tv stand", wood, frame)]
    if rng.random() < 0.8:
        half, tall = rng.uniform(0.4, 0.62), rng.uniform(0.5, 0.7)
        screen = box((-half, 0.15, height + 0.06), (half, 0.21, height + tall))
        foot = box((-0.2, 0.1, height), (0.2, 0.28, height + 0.06))
        black = pick(rng, kit, darks=1)._replace(dropout=0.25)
        parts.append(part("tv", black, screen, foot))
    return Item(tuple(parts), (width, depth, height + 0.6))


def bookshelf(rng: np.random.Generator, kit: Kit) -> Item:
    """An open case with four to six boards and rows of books."""
    width, depth = rng.uniform(0.7, 1.7), rng.uniform(0.26, 0.36)
    height, rows = rng.uniform(1.3, 2.2), int(rng.integers(4, 7))
    x, boards = width / 2, np.linspace(0.06, height, rows + 1)
    wood = pick(rng, kit, woods=4, whites=2, darks=1)
    parts = [part("bookshelf", wood, _open_case(x, depth, boards, supports=round(width / 0.8)))]
    # Annotators often give the books to the shelf.
    own_books = rng.random() < 0.4
    for z0, z1 in itertools.pairwise(boards):
        if rng.random() < 0.85:
            row = book_row(rng, kit, width - 0.08, depth, z1 - z0 - 0.04)
            row = shifted(row, (-x + 0.03, 0.02, z0 + 0.02))
            parts += [p._replace(category="books" if own_books else "bookshelf") for p in row]
    return Item(tuple(parts), (width, depth, height))


def shelf(rng: np.random.Generator, kit: Kit) -> Item:
    """An open storage rack with boxes, outside the 20 classes or other furniture."""
    width, depth, height = rng.uniform(0.7, 1.3), rng.uniform(0.35, 0.5), rng.uniform(1.0, 1.9)
    x, boards = width / 2, np.linspace(0.12, height, 4)
    category = str(rng.choice(["shelf", "rack"]))
    metal = pick(rng, kit, metals=2, darks=1, whites=1, woods=1)
    posts = [bar((a, b, 0), (a, b, height), 0.018) for a in (-x, x) for b in (0.02, depth)]
    decks = [box((-x, 0, z - 0.025), (x, depth, z)) for z in boards]
    parts = [part(category, metal, *posts, *decks)]
    for z in boards[:-1]:
        for _ in range(rng.integers(0, 4)):
            spot = (rng.uniform(-0.75, 0.75) * x, 0.5 * depth, z)
            parts += shifted(box_of_things(rng, kit), spot, rng.uniform(-0.3, 0.3))
    return Item(tuple(parts), (width, depth, height))


def refrigerator(rng: np.random.Generator, kit: Kit) -> Item:
    """Two doors above each other with a gap and upright handles; small ones have one door."""
    small = rng.random() < 0.2
    width, depth = (0.5, 0.52) if small else (rng.uniform(0.62, 0.92), rng.uniform(0.65, 0.8))
    height = rng.uniform(0.8, 0.95) if small else rng.uniform(1.6, 1.85)
    x, body = width / 2, pick(rng, kit, whites=4, metals=2.5, darks=1.5)
    category = "mini fridge" if small else "refrigerator"
    quads = [box((-x, 0.02, 0.03), (x, depth - 0.07, height))]
    split = height * rng.choice([0.3, 0.68])
    doors = [(0.06, height)] if small else [(0.06, split - 0.012), (split + 0.012, height)]
    side, handles = rng.choice([-1, 1]), []
    for z0, z1 in doors:
        quads.append(box((-x, depth - 0.06, z0), (x, depth, z1)))
        z = min(max((z0 + z1) / 2, 0.8), z1 - 0.2) if small else (z0 + z1) / 2
        half = min(0.25, (z1 - z0) / 2 - 0.06)
        a = side * (x - 0.06)
        handles.append(bar((a, depth + 0.04, z - half), (a, depth + 0.04, z + half), 0.015))
    parts = [
        part(category, body, *quads),
        part(category, pick(rng, kit, metals=1, darks=1), *handles),
    ]
    return Item(tuple(parts), (width, depth, height))


def washing_machine(rng: np.random.Generator, kit: Kit) -> Item:
    """A white cube with a round door."""
    body = pick(rng, kit, whites=4, metals=1)
    angle = np.linspace(0, 2 * np.pi, 11)
    rim = np.stack([0.18 * np.cos(angle), np.full(11, 0.63), 0.48 + 0.18 * np.sin(angle)], axis=1)
    rims = np.stack([rim - [0, 0.04, 0], rim, 0.5 * (rim + rim.mean(axis=0)), rim - [0, 0.02, 0]])
    door = np.stack([rims[:-1, :-1], rims[:-1, 1:], rims[1:, 1:], rims[1:, :-1]], axis=2)
    cube = box((-0.3, 0, 0), (0.3, 0.6, rng.uniform(0.84, 0.95)))
    quads = door.reshape(-1, 4, 3)
    parts = (
        part("washing machine", body, cube),
        part("washing machine", pick(rng, kit, darks=1, metals=1), quads, thin=True),
    )
    return Item(parts, (0.6, 0.64, 0.95))


def cupboard(
    rng: np.random.Generator,
    kit: Kit,
    category: str,
    size: tuple[float, float, float],
    body: Material | None = None,
) -> list[Part]:
    """Returns a closed case with doors that stand out of it, and their handles."""
    width, depth, height = size
    body = body or pick(rng, kit, woods=4, whites=2, metals=0.5, darks=0.5)
    x, doors = width / 2, max(1, round(width / rng.uniform(0.42, 0.6)))
    quads = [box((-x, 0, 0.05), (x, depth - 0.025, height))]
    edges, handles = np.linspace(-x, x, doors + 1), []
    # Tall doors are opened at their middle, low ones near the top.
    z = 0.5 * height if height > 1.4 else height - 0.2
    for i, (a, b) in enumerate(itertools.pairwise(edges)):
        quads.append(box((a + 0.01, depth - 0.025, 0.08), (b - 0.01, depth, height - 0.03)))
        c = b - 0.06 if i % 2 == 0 else a + 0.06
        handles.append(bar((c, depth + 0.025, z - 0.08), (c, depth + 0.025, z + 0.08), 0.012))
    return [
        part(category, body, *quads),
        part(category, pick(rng, kit, metals=2, darks=1), *handles),
    ]


def drawer_chest(
    rng: np.random.Generator,
    kit: Kit,
    category: str,
    size: tuple[float, float, float],
    grid: tuple[int, int],
    body: Material,
) -> list[Part]:
    """Returns a case with columns x rows of drawers."""
    width, depth, height = size
    x, quads, handles = width / 2, [], []
    quads.append(box((-x, 0, 0.03), (x, depth - 0.03, height)))
    columns, rows = np.linspace(-x, x, grid[0] + 1), np.linspace(0.04, height - 0.02, grid[1] + 1)
    for a, b in itertools.pairwise(columns):
        for z0, z1 in itertools.pairwise(rows):
            front = (a + 0.015, depth - 0.03, z0 + 0.012), (b - 0.015, depth, z1 - 0.012)
            quads.append(box(*front))
            c, z = (a + b) / 2, (z0 + z1) / 2
            handles.append(box((c - 0.06, depth, z), (c + 0.06, depth + 0.025, z + 0.02)))
    return [
        part(category, body, *quads),
        part(category, pick(rng, kit, metals=2, darks=1), *handles),
    ]


def _open_case(x: float, depth: float, boards: Array, supports: int) -> Array:
    """Returns upright sides, a back and horizontal boards at the given heights."""
    top = boards[-1]
    sides = np.linspace(-x, x - 0.03, supports + 1 if supports > 1 else 2)
    uprights = [(a, 0.0, 0.0, a + 0.03, depth, top) for a in sides]
    decks = [(-x, 0.0, z - 0.03, x, depth, z) for z in boards]
    return boxes(*uprights, *decks, (-x, 0.0, 0.0, x, 0.012, top))


def _on_top(
    rng: np.random.Generator, kit: Kit, width: float, depth: float, height: float
) -> list[Part]:
    """Returns a few things on a low piece of furniture."""
    parts = []
    for _ in range(rng.integers(0, 4)):
        maker = books if rng.random() < 0.3 else box_of_things
        spot = (rng.uniform(-0.4, 0.4) * width, 0.5 * depth, height)
        parts += shifted(maker(rng, kit), spot, rng.uniform(0, np.pi))
    return parts
