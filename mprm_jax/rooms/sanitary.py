"""Furniture with water: of bathrooms and kitchens."""

import numpy as np

from mprm_jax.rooms.clutter import box_of_things
from mprm_jax.rooms.materials import Kit, pick
from mprm_jax.rooms.shapes import (
    Item,
    Part,
    bar,
    box,
    boxes,
    cushion,
    cylinder,
    lathe,
    part,
    shifted,
    wavy_sheet,
)
from mprm_jax.rooms.storage import cupboard
from mprm_jax.types import Array

_HEIGHT = 0.9  # meters, working height


def toilet(rng: np.random.Generator, kit: Kit) -> Item:
    """A bowl with a seat, an open or closed lid, and a tank behind."""
    white = pick(rng, kit, whites=5, stones=0.5)
    rim, tank = rng.uniform(0.38, 0.44), rng.uniform(0.72, 0.85)
    width, x = rng.uniform(0.36, 0.4), rng.uniform(0.18, 0.24)
    profile = [(0.12, 0.0), (0.11, 0.16), (width / 2, rim - 0.06), (width / 2, rim)]
    bowl = [(0.62 * width / 2, rim), (0.45 * width / 2, rim - 0.1), (0.01, rim - 0.16)]
    stretch, center = 1.28, (0.0, 0.44)
    quads = [box((-x, 0, rim - 0.02), (x, 0.19, tank)), box((-0.1, 0.1, 0), (0.1, 0.4, rim - 0.05))]
    quads.append(box((-x - 0.01, -0.0, tank), (x + 0.01, 0.2, tank + 0.03)))
    if rng.random() < 0.45:
        quads.append(
            lathe([*profile, (0.01, rim + 0.02)], center=center, stretch=stretch, sides=12)
        )
    else:
        quads.append(lathe(profile + bowl, center=center, stretch=stretch, sides=12))
        quads.append(cushion((-0.19, 0.19, rim), (0.19, 0.25, rim + 0.4), softness=0.3))
    return Item((part("toilet", white, *quads),), (0.5, 0.72, tank + 0.03))


def bathtub(rng: np.random.Generator, kit: Kit) -> Item:
    """A hollow tub with a rim and a straight front."""
    length, depth, height = rng.uniform(1.4, 1.75), rng.uniform(0.68, 0.82), rng.uniform(0.42, 0.58)
    white = pick(rng, kit, whites=5, stones=0.5)
    x, y = length / 2, depth / 2
    rim = rng.uniform(0.05, 0.09)
    outer = box((-x, 0, 0), (x, depth, height), without=("top", "bottom", "back"))
    hollow = basin((0, y), (x - rim, y - rim), height, depth=height - 0.1)
    quads = [outer, hollow, _rim((-x, x), (0, depth), (x - rim, y - rim), height)]
    parts = [part("bathtub", white, *quads)]
    tap = faucet((x - 0.12, y, height), reach=-0.16, sideways=True)
    return Item((*parts, part("bathtub", pick(rng, kit, metals=1), tap)), (length, depth, height))


def shower_curtain(rng: np.random.Generator, kit: Kit, length: float) -> Item:
    """Cloth on a rod along the front of a bathtub, drawn to one side or closed."""
    cloth = pick(rng, kit, whites=2, fabrics=3)
    span = length * (rng.uniform(0.3, 0.55) if rng.random() < 0.6 else rng.uniform(0.7, 0.95))
    side, top = rng.choice([-1, 1]), rng.uniform(1.85, 2.05)
    low, high = sorted((side * length / 2, side * (length / 2 - span)))
    sheet = wavy_sheet(low, high, rng.uniform(0.15, 0.3), top, waves=span / 0.16, depth=0.035)
    rod = bar((-length / 2, 0, top + 0.03), (length / 2, 0, top + 0.03), 0.014)
    parts = [part("shower curtain", cloth, sheet, thin=True)]
    parts.append(part("shower curtain rod", pick(rng, kit, metals=1), rod))
    return Item(tuple(shifted(tuple(parts), (0, 0.05, 0))), (length, 0.1, top))


def pedestal_sink(rng: np.random.Generator, kit: Kit) -> Item:
    """A basin on a column at the wall."""
    white = pick(rng, kit, whites=5, stones=0.5, metals=0.5)
    half, depth, height = rng.uniform(0.24, 0.32), rng.uniform(0.42, 0.5), rng.uniform(0.78, 0.88)
    y = depth / 2
    shell = lathe(
        [(0.3 * half, height - 0.2), (0.9 * half, height - 0.08), (half, height)],
        center=(0, y), stretch=y / half, sides=12, roundness=3.0,
    )  # fmt: skip
    bowl = basin((0, y), (half, y), height, depth=0.14)
    quads = [shell, bowl, faucet((0, 0.06, height), reach=0.12)]
    if rng.random() < 0.7:
        quads.append(cylinder((0, y), 0.08, 0, height - 0.12))
    return Item((part("sink", white, *quads),), (2 * half, depth, height))


def vanity(rng: np.random.Generator, kit: Kit) -> Item:
    """A bathroom cabinet under a counter with one or two basins."""
    width, depth, height = rng.uniform(0.7, 1.5), rng.uniform(0.48, 0.58), rng.uniform(0.78, 0.88)
    x, stone = width / 2, pick(rng, kit, stones=3, whites=3)
    radius = rng.uniform(0.17, 0.2)
    centers = [-x / 2, x / 2] if width > 1.2 and rng.random() < 0.6 else [rng.uniform(-0.1, 0.1)]
    white = pick(rng, kit, whites=4, stones=0.5)
    category = "bathroom vanity" if rng.random() < 0.6 else "bathroom cabinet"
    parts = cupboard(rng, kit, category, (width - 0.02, depth - 0.03, height - 0.04))
    plate = box((-x, 0, height - 0.04), (x, depth, height))
    splash = box((-x, 0, height), (x, 0.02, height + 0.1))
    parts.append(
        part("bathroom counter" if rng.random() < 0.7 else "counter", stone, plate, splash)
    )
    for center in centers:
        # The basin stands on the counter, so that the plate needs no round hole.
        lip = [(0.6 * radius, height), (radius, height + 0.09)]
        bowl = [
            (0.9 * radius, height + 0.09),
            (0.5 * radius, height + 0.01),
            (0.01, height + 0.005),
        ]
        quads = lathe(lip + bowl, center=(center, depth / 2), sides=12, roundness=2.5)
        tap = faucet((center, 0.06, height), reach=0.13)
        parts.append(part("sink", white, quads, tap))
    return Item(tuple(parts), (width, depth, height + 0.1))


def towel(rng: np.random.Generator, kit: Kit) -> Item:
    """A towel on a rail, outside the 20 classes."""
    half, height = rng.uniform(0.2, 0.35), rng.uniform(0.5, 0.75)
    cloth = wavy_sheet(-half, half, 0.0, height, waves=2, depth=0.012) + np.array([0, 0.06, 0])
    rail = bar((-half - 0.08, 0.06, height), (half + 0.08, 0.06, height), 0.012)
    parts = [part("towel", pick(rng, kit, fabrics=3, whites=2), cloth, thin=True)]
    return Item((*parts, part("", pick(rng, kit, metals=1), rail)), (2 * half, 0.08, height))


def mirror(rng: np.random.Generator, kit: Kit) -> Item:
    """A framed mirror, of which a depth camera sees little."""
    half, height = rng.uniform(0.25, 0.6), rng.uniform(0.6, 1.0)
    glass = pick(rng, kit, metals=1, paints=2)._replace(dropout=0.55)
    pane = box((-half, 0, 0), (half, 0.025, height), without=("back",))
    return Item((part("mirror", glass, pane),), (2 * half, 0.03, height))


def basin(
    center: tuple[float, float], half: tuple[float, float], top: float, *, depth: float
) -> Array:
    """Returns the inner surface of a rounded basin, open above."""
    profile = [(1.0, top), (0.88, top - 0.25 * depth), (0.78, top - 0.9 * depth)]
    profile += [(0.6, top - depth), (0.005, top - depth)]
    profile = [(half[0] * share, z) for share, z in profile]
    return lathe(profile, center=center, stretch=half[1] / half[0], sides=12, roundness=5.0)


def faucet(foot: tuple[float, float, float], *, reach: float, sideways: bool = False) -> Array:
    """Returns a bent pipe that ends `reach` meters in front of (or beside) its foot."""
    x, y, z = foot
    tip = (x + reach, y, z + 0.17) if sideways else (x, y + reach, z + 0.17)
    return np.concatenate([bar(foot, (x, y, z + 0.2), 0.015), bar((x, y, z + 0.19), tip, 0.013)])


def tub_with_curtain(rng: np.random.Generator, kit: Kit, *, curtain: bool) -> Item:
    """A bathtub along the wall, with or without a shower curtain in front."""
    tub = bathtub(rng, kit)
    if not curtain:
        return tub
    length, depth, _ = tub.size
    hung = shower_curtain(rng, kit, length)
    parts = (*tub.parts, *shifted(hung.parts, (0, depth - 0.08, 0)))
    return Item(parts, (length, depth, hung.size[2]))


def shower(rng: np.random.Generator, kit: Kit) -> Item:
    """A flat shower tray behind a curtain."""
    length, depth = rng.uniform(0.85, 1.2), rng.uniform(0.8, 0.95)
    tray = box((-length / 2, 0, 0), (length / 2, depth, 0.1))
    hung = shower_curtain(rng, kit, length)
    base: list[Part] = [part("", pick(rng, kit, whites=3, stones=1), tray)]
    parts = base + shifted(hung.parts, (0, depth - 0.05, 0))
    return Item(tuple(parts), (length, depth, hung.size[2]))


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


def _rim(
    xs: tuple[float, float], ys: tuple[float, float], half: tuple[float, float], z: float
) -> Array:
    """Returns the flat ring between a rectangle and a rounded opening in its middle."""
    middle_x, middle_y = (xs[0] + xs[1]) / 2, (ys[0] + ys[1]) / 2
    inner = lathe([(half[0], z)] * 2, center=(middle_x, middle_y), stretch=half[1] / half[0],
                  sides=12, roundness=5.0)[:, 0]  # fmt: skip
    outer = np.clip(
        np.array([middle_x, middle_y, z]) + 3.0 * (inner - [middle_x, middle_y, z]),
        [xs[0], ys[0], z], [xs[1], ys[1], z],
    )  # fmt: skip
    following = np.roll(np.arange(len(inner)), -1)
    return np.stack([outer, outer[following], inner[following], inner], axis=1)


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
