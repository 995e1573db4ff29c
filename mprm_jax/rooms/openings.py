"""Doors, windows, curtains and what hangs on walls.

Windows and doors cut a hole into their wall; their items reach behind the wall, to y < 0.
"""

import numpy as np

from mprm_jax.rooms.materials import Kit, Material, pick
from mprm_jax.rooms.shapes import Item, Part, bar, box, boxes, moved, part, wavy_sheet
from mprm_jax.types import Array


def door(rng: np.random.Generator, kit: Kit, width: float, height: float) -> Item:
    """A frame with a leaf that is closed, ajar or wide open, hinged at one side."""
    casing = rng.uniform(0.06, 0.1)
    frame = pick(rng, kit, woods=3, whites=4, paints=1)
    leaf = frame if rng.random() < 0.4 else pick(rng, kit, woods=3, whites=3, paints=1)
    x = width / 2
    jambs = boxes(
        (-x - casing, -0.12, 0, -x, 0.02, height + casing),
        (x, -0.12, 0, x + casing, 0.02, height + casing),
        (-x, -0.12, height, x, 0.02, height + casing),
    )
    category = "doorframe" if rng.random() < 0.5 else "door"
    opened = rng.uniform(0.9, 1.7) if rng.random() < 0.3 else 0.0
    parts = [part(category, frame, jambs)]
    panel, handle = _leaf(rng, width, height)
    side = rng.choice([-1, 1])
    hinge = (side * x, -0.03, 0.0)
    for quads, material in ((panel, leaf), (handle, pick(rng, kit, metals=3, darks=1))):
        # The leaf is drawn from its hinge along +x, then mirrored by a half turn if need be.
        yaw = opened if side < 0 else np.pi - opened
        mirrored = quads if side < 0 else quads * [1, -1, 1]
        mirrored = mirrored if side < 0 else mirrored[:, ::-1]
        parts.append(part("door", material, moved(mirrored, hinge, yaw)))
    return Item(tuple(parts), (width + 2 * casing, width if opened else 0.1, height + casing))


def window(rng: np.random.Generator, kit: Kit, width: float, height: float) -> Item:
    """A recess in the wall with a frame, bars and panes of which little is seen."""
    x, recess = width / 2, rng.uniform(0.06, 0.16)
    frame = pick(rng, kit, whites=5, woods=2, metals=1, darks=0.5)
    bar_width = rng.uniform(0.04, 0.07)
    outline = boxes(
        (-x, -recess - 0.05, 0, -x + bar_width, -recess, height),
        (x - bar_width, -recess - 0.05, 0, x, -recess, height),
        (-x, -recess - 0.05, 0, x, -recess, bar_width),
        (-x, -recess - 0.05, height - bar_width, x, -recess, height),
    )
    parts = [part("window", frame, outline, *_mullions(rng, x, height, recess, bar_width))]
    reveal = _reveal(x, height, recess)
    parts.append(part("window" if rng.random() < 0.6 else "wall", frame, reveal))
    sky = pick(rng, kit, whites=3, paints=2)._replace(dropout=rng.uniform(0.45, 0.9))
    pane = box((-x, -recess - 0.04, 0), (x, -recess - 0.03, height))[[3]]
    parts.append(part("window", sky, pane))
    if rng.random() < 0.6:
        sill = box((-x - 0.04, -recess, -0.03), (x + 0.04, 0.06, 0.0))
        parts.append(part("window" if rng.random() < 0.5 else "windowsill", frame, sill))
    if rng.random() < 0.2:
        parts.append(_blind(rng, kit, x, height))
    return Item(tuple(parts), (width, 0.07, height))


def curtain(rng: np.random.Generator, kit: Kit, width: float, drop: float) -> Item:
    """Cloth at one or both sides of a window, or closed in front of it."""
    cloth, x = pick(rng, kit, fabrics=4, whites=1.5), width / 2 + 0.2
    style = rng.integers(3)
    share = rng.uniform(0.2, 0.38)
    spans = [(-x, -x + 2 * x * share), (x - 2 * x * share, x)]
    if style == 0:
        spans = [(-x, x)] if rng.random() < 0.5 else [(-x, rng.uniform(-0.2, 0.6) * x)]
    sheets = [
        wavy_sheet(a, b, 0.0, drop, waves=(b - a) / rng.uniform(0.11, 0.17), depth=0.04)
        for a, b in spans
    ]
    rod = bar((-x - 0.1, 0, drop + 0.02), (x + 0.1, 0, drop + 0.02), 0.014)
    parts = [
        part("curtain", cloth, *[s + np.array([0, 0.09, 0]) for s in sheets], thin=True),
        part("", pick(rng, kit, metals=1, darks=1), rod + np.array([0, 0.09, 0])),
    ]
    return Item(tuple(parts), (2 * x, 0.15, drop))


def picture(rng: np.random.Generator, kit: Kit) -> Item:
    """A thin slab with a frame and an image."""
    half, height = rng.uniform(0.16, 0.55), rng.uniform(0.3, 0.85)
    category = str(rng.choice(["picture", "poster", "painting"], p=[0.7, 0.15, 0.15]))
    thick, edge = rng.uniform(0.025, 0.05), rng.uniform(0.025, 0.06)
    frame = pick(rng, kit, woods=3, darks=2, whites=2)
    rims = boxes(
        (-half, 0, 0, half, thick, edge),
        (-half, 0, height - edge, half, thick, height),
        (-half, 0, edge, -half + edge, thick, height - edge),
        (half - edge, 0, edge, half, thick, height - edge),
    )
    image = box((-half + edge, 0, edge), (half - edge, thick - 0.01, height - edge))[[3]]
    art = pick(rng, kit, fabrics=4, paints=1, whites=1)
    parts = (part(category, frame, rims), part(category, art, image))
    return Item(parts, (2 * half, 0.05, height))


def board(rng: np.random.Generator, kit: Kit) -> Item:
    """A whiteboard, outside the 20 classes."""
    half, height = rng.uniform(0.6, 1.3), rng.uniform(0.9, 1.2)
    quads = box((-half, 0, 0), (half, 0.03, height))
    tray = box((-half, 0.03, 0), (half, 0.09, 0.02))
    white = pick(rng, kit, whites=4, darks=1)
    return Item((part("whiteboard", white, quads, tray),), (2 * half, 0.09, height))


def radiator(rng: np.random.Generator, kit: Kit) -> Item:
    """Ribs between two pipes under a window."""
    half, height = rng.uniform(0.35, 0.7), rng.uniform(0.45, 0.65)
    xs = np.arange(-half, half - 0.05, 0.09)
    ribs = boxes(*[(x, 0.03, 0.1, x + 0.055, 0.14, 0.1 + height) for x in xs])
    white = pick(rng, kit, whites=5, metals=1, paints=1)
    return Item((part("radiator", white, ribs),), (2 * half, 0.16, height + 0.1))


def _leaf(rng: np.random.Generator, width: float, height: float) -> tuple[Array, Array]:
    """Returns a door leaf from x = 0 to `width`, front to +y, and its two handles."""
    slab = [box((0, -0.04, 0.01), (width, 0.0, height))]
    if rng.random() < 0.6:
        margin, split = 0.13, rng.uniform(0.4, 0.55) * height
        for z0, z1 in ((margin, split - 0.05), (split + 0.05, height - margin)):
            slab.append(box((margin, 0.0, z0), (width - margin, 0.015, z1)))
    x = width - 0.07
    handles = [bar((x, y, 1.0), (x - 0.12, y, 1.0), 0.014) for y in (0.06, -0.1)]
    handles += [bar((x, 0.0, 1.0), (x, 0.06, 1.0), 0.02)]
    return np.concatenate(slab), np.concatenate(handles)


def _mullions(
    rng: np.random.Generator, x: float, height: float, recess: float, thick: float
) -> list[Array]:
    """Returns the upright and level bars between the panes."""
    bars = []
    for a in np.linspace(-x, x, max(2, round(x / 0.35) + 1))[1:-1]:
        low, high = (a - thick / 2, -recess - 0.05, 0), (a + thick / 2, -recess, height)
        bars.append(box(low, high))
    if rng.random() < 0.5:
        z = height * rng.uniform(0.45, 0.7)
        bars.append(box((-x, -recess - 0.05, z), (x, -recess, z + thick)))
    return bars


def _reveal(x: float, height: float, recess: float) -> Array:
    """Returns the four sides of the hole in the wall, seen from inside."""
    outside = box((-x, -recess, 0), (x, 0, height), without=("back", "front"))
    return outside[:, ::-1]


def _blind(rng: np.random.Generator, kit: Kit, x: float, height: float) -> Part:
    """Returns a half-drawn blind, outside the 20 classes."""
    material: Material = pick(rng, kit, whites=4, fabrics=1)
    low = height * rng.uniform(0.1, 0.7)
    return part("blinds", material, box((-x, -0.03, low), (x, -0.01, height)))
