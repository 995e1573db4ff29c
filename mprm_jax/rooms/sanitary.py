"""Toilets, sinks, bathtubs and shower curtains."""

import numpy as np

from mprm_jax.rooms.materials import Kit, pick
from mprm_jax.rooms.parts import Item, Part, part, shifted
from mprm_jax.rooms.shapes import bar, box, cushion, cylinder, lathe, wavy_sheet
from mprm_jax.rooms.storage import cupboard
from mprm_jax.types import Array


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
