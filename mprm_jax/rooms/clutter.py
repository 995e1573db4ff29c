"""Small things on and beside the furniture; most are outside the 20 classes, as in ScanNet."""

import numpy as np

from mprm_jax.rooms.materials import Kit, pick
from mprm_jax.rooms.shapes import Item, Part, bar, box, cushion, cylinder, lathe, part

Parts = tuple[Part, ...]

# Raw names of small objects; the empty name is an object that nobody annotated.
_SMALL = ("object", "box", "bag", "")


def books(rng: np.random.Generator, kit: Kit) -> Parts:
    """A small stack of books."""
    quads, z = [], 0.0
    for _ in range(rng.integers(1, 4)):
        w, d, h = rng.uniform(0.14, 0.22), rng.uniform(0.2, 0.3), rng.uniform(0.02, 0.05)
        quads.append(box((-w / 2, -d / 2, z), (w / 2, d / 2, z + h), without=("bottom",)))
        z += h
    return (part("books", pick(rng, kit, fabrics=3, whites=1), *quads),)


def book_row(rng: np.random.Generator, kit: Kit, width: float, depth: float, room: float) -> Parts:
    """Upright books side by side from x = 0 to at most `width`, no higher than `room`."""
    quads: list[list] = [[], []]
    x, end = 0.0, width * rng.uniform(0.4, 1.0)
    while x < end - 0.04:
        thick, height = rng.uniform(0.025, 0.06), room * rng.uniform(0.6, 0.95)
        deep, which = depth * rng.uniform(0.6, 0.9), rng.integers(2)
        quads[which].append(
            box((x, 0.0, 0.0), (x + thick, deep, height), without=("bottom", "back"))
        )
        x += thick
    return tuple(part("books", pick(rng, kit, fabrics=3, whites=1), *q) for q in quads if q)


def box_of_things(rng: np.random.Generator, kit: Kit) -> Parts:
    """A small box, can or bag."""
    category = str(rng.choice(_SMALL))
    material = pick(rng, kit, fabrics=2, whites=2, woods=1, darks=1)
    if rng.random() < 0.4:
        can = cylinder((0, 0), rng.uniform(0.035, 0.08), 0, rng.uniform(0.1, 0.3), sides=7)
        return (part(category, material, can),)
    w, d, h = rng.uniform(0.1, 0.3, 3)
    return (part(category, material, box((-w / 2, -d / 2, 0), (w / 2, d / 2, h))),)


def monitor(rng: np.random.Generator, kit: Kit) -> Parts:
    """A flat screen on a foot, its front to +y."""
    half, height = rng.uniform(0.22, 0.33), rng.uniform(0.28, 0.4)
    foot = cylinder((0, 0), 0.1, 0, 0.015)
    screen = box((-half, -0.02, 0.1), (half, 0.02, 0.1 + height))
    return (
        part("monitor", pick(rng, kit, darks=1), foot, bar((0, 0, 0), (0, 0, 0.15), 0.02), screen),
    )


def keyboard(rng: np.random.Generator, kit: Kit) -> Parts:
    """A keyboard centered at the origin."""
    quads = box((-0.22, -0.07, 0), (0.22, 0.07, 0.025))
    return (part("keyboard", pick(rng, kit, darks=2, whites=1), quads),)


def desk_lamp(rng: np.random.Generator, kit: Kit) -> Parts:
    """A small lamp with a shade."""
    radius, height = rng.uniform(0.08, 0.14), rng.uniform(0.35, 0.5)
    stem = [cylinder((0, 0), 0.06, 0, 0.03), bar((0, 0, 0), (0, 0, height - 0.1), 0.012)]
    shade = lathe([(radius, height - 0.18), (0.65 * radius, height)])
    metal = part("lamp", pick(rng, kit, metals=1, darks=1), *stem)
    return metal, part("lamp", pick(rng, kit, whites=3, fabrics=1), shade, thin=True)


def floor_lamp(rng: np.random.Generator, kit: Kit) -> Item:
    """A lamp on a pole."""
    radius, height = rng.uniform(0.14, 0.22), rng.uniform(1.4, 1.75)
    pole = [cylinder((0, 0.2), 0.13, 0, 0.03), bar((0, 0.2, 0), (0, 0.2, height - 0.1), 0.015)]
    shade = lathe([(radius, height - 0.3), (0.6 * radius, height)], center=(0, 0.2))
    metal = part("lamp", pick(rng, kit, metals=1, darks=1), *pole)
    cloth = part("lamp", pick(rng, kit, whites=3, fabrics=1), shade, thin=True)
    return Item((metal, cloth), (0.44, 0.42, height))


def trash_can(rng: np.random.Generator, kit: Kit) -> Item:
    """An open bin, round or square, wider at the top."""
    radius, height = rng.uniform(0.12, 0.2), rng.uniform(0.28, 0.6)
    category = str(rng.choice(["trash can", "recycling bin"], p=[0.75, 0.25]))
    profile = [(0.01, 0.0), (0.8 * radius, 0.0), (radius, height)]
    profile += [(0.9 * radius, height), (0.72 * radius, 0.06), (0.01, 0.06)]
    roundness = float(rng.choice([2.0, 8.0]))
    shell = lathe(profile, center=(0, radius), roundness=roundness)
    material = pick(rng, kit, darks=3, metals=2, whites=2, fabrics=1)
    return Item((part(category, material, shell),), (2 * radius, 2 * radius, height))


def ottoman(rng: np.random.Generator, kit: Kit) -> Item:
    """A padded cube without a back."""
    w, d, h = rng.uniform(0.45, 0.8), rng.uniform(0.4, 0.6), rng.uniform(0.36, 0.46)
    cloth = pick(rng, kit, fabrics=4, darks=1)
    quads = cushion((-w / 2, 0, 0.03), (w / 2, d, h), softness=0.25)
    return Item((part("ottoman", cloth, quads),), (w, d, h))


def carton(rng: np.random.Generator, kit: Kit) -> Item:
    """A box, suitcase, bag or backpack on the floor."""
    w, d, h = rng.uniform(0.25, 0.6), rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.6)
    category = str(rng.choice(["box", "suitcase", "bag", "backpack", "object", ""]))
    material = pick(rng, kit, woods=2, fabrics=3, darks=1, whites=1)
    maker = cushion if category in ("bag", "backpack") else box
    quads = maker((-w / 2, 0, 0), (w / 2, d, h))
    return Item((part(category, material, quads),), (w, d, h))


def clothes(rng: np.random.Generator, kit: Kit) -> Item:
    """A heap of clothes, a laundry hamper, or a blanket on the floor."""
    radius, height = rng.uniform(0.2, 0.4), rng.uniform(0.12, 0.6)
    category = "clothes" if height < 0.35 else "laundry hamper"
    profile = [(radius, 0.0), (0.95 * radius, 0.6 * height), (0.5 * radius, height), (0.01, height)]
    heap = lathe(profile, center=(0, radius), sides=8, roundness=rng.uniform(1.6, 3.0))
    item = part(category, pick(rng, kit, fabrics=4, whites=1), heap)
    return Item((item,), (2 * radius, 2 * radius, height))


def plant(rng: np.random.Generator, kit: Kit) -> Item:
    """A pot with blades of leaves."""
    radius, height = rng.uniform(0.1, 0.2), rng.uniform(0.5, 1.2)
    pot = lathe(
        [(0.7 * radius, 0), (radius, 1.8 * radius), (0.01, 1.7 * radius)], center=(0, radius)
    )
    blades = []
    for angle in rng.uniform(0, 2 * np.pi, 9):
        tip = (0.3 * np.cos(angle), radius + 0.3 * np.sin(angle), height * rng.uniform(0.6, 1.0))
        blades.append(bar((0, radius, 1.5 * radius), tip, 0.03))
    green = pick(rng, kit, fabrics=1)._replace(color=(0.25, 0.36, 0.18), second=(0.16, 0.26, 0.12))
    leaves = part("plant", green, *blades, thin=True)
    return Item((part("plant", pick(rng, kit, woods=1, whites=1), pot), leaves), (0.5, 0.5, height))


def piano(rng: np.random.Generator, kit: Kit) -> Item:
    """An upright piano with its keyboard shelf."""
    x, height = rng.uniform(0.68, 0.76), rng.uniform(1.05, 1.25)
    wood = pick(rng, kit, woods=3, darks=2)
    body = box((-x, 0, 0.05), (x, 0.32, height))
    shelf = box((-x, 0.32, 0.6), (x, 0.6, 0.72))
    legs = [box((s * x - 0.05, 0.5, 0), (s * x + 0.05, 0.58, 0.6)) for s in (-0.93, 0.93)]
    keys = part(
        "piano", pick(rng, kit, whites=1), box((-x + 0.1, 0.4, 0.72), (x - 0.1, 0.58, 0.74))
    )
    return Item((part("piano", wood, body, shelf, *legs), keys), (2 * x, 0.6, height))
