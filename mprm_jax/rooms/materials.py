"""Colors and textures, shared between classes so that color alone does not tell them apart."""

from typing import NamedTuple

import numpy as np

from mprm_jax.types import Array

PLAIN, WOOD, BLOTCHES, STRIPES, CHECKS = range(5)
_NUM_WAVES = 5
_BLOCK = 8192  # points whose waves fit into a core's cache

# sRGB in [0, 1]; from light to dark where the family has such an order.
_WOODS = ((0.80, 0.67, 0.48), (0.71, 0.53, 0.34), (0.58, 0.40, 0.25), (0.44, 0.29, 0.19))
_WOODS += ((0.33, 0.22, 0.15), (0.63, 0.53, 0.42), (0.52, 0.47, 0.41))
_WHITES = ((0.90, 0.89, 0.86), (0.84, 0.82, 0.77), (0.80, 0.78, 0.70), (0.77, 0.79, 0.80))
_METALS = ((0.66, 0.67, 0.68), (0.55, 0.55, 0.55), (0.45, 0.46, 0.48))
_DARKS = ((0.14, 0.14, 0.15), (0.21, 0.20, 0.20), (0.29, 0.27, 0.26))
_STONES = ((0.47, 0.45, 0.43), (0.68, 0.64, 0.57), (0.30, 0.30, 0.31), (0.79, 0.77, 0.72))
_FABRICS = ((0.55, 0.50, 0.43), (0.42, 0.41, 0.40), (0.30, 0.35, 0.45), (0.48, 0.29, 0.25))
_FABRICS += ((0.36, 0.42, 0.33), (0.73, 0.68, 0.59), (0.62, 0.46, 0.33), (0.24, 0.24, 0.28))
_FABRICS += ((0.66, 0.64, 0.62), (0.50, 0.42, 0.47), (0.80, 0.76, 0.69))
_PAINTS = (*_WHITES, (0.72, 0.66, 0.55), (0.62, 0.66, 0.66), (0.69, 0.58, 0.46))
_PAINTS += ((0.55, 0.58, 0.52), (0.60, 0.45, 0.37), (0.74, 0.72, 0.69), (0.45, 0.49, 0.55))


class Material(NamedTuple):
    """Two colors mixed by a solid texture, so that it needs no surface coordinates."""

    color: tuple[float, float, float]  # sRGB in [0, 1]
    second: tuple[float, float, float]
    texture: int  # PLAIN, WOOD, BLOTCHES, STRIPES or CHECKS
    period: float  # meters
    axis: tuple[float, float, float]  # unit direction in which wood and stripes change
    dropout: float = 0.0  # share of the surface a depth camera does not see (glass, mirrors)


class Kit(NamedTuple):
    """The few materials that one room is furnished with."""

    woods: tuple[Material, ...]
    whites: tuple[Material, ...]
    fabrics: tuple[Material, ...]
    metals: tuple[Material, ...]
    darks: tuple[Material, ...]
    stones: tuple[Material, ...]
    paints: tuple[Material, ...]


def make_kit(rng: np.random.Generator) -> Kit:
    """Draws the materials of one room; objects of all classes then draw from them."""
    return Kit(
        woods=tuple(_draw(rng, _WOODS, WOOD, 0.22) for _ in range(2)),
        whites=tuple(_draw(rng, _WHITES, PLAIN, 0.05) for _ in range(2)),
        fabrics=tuple(_draw_fabric(rng) for _ in range(4)),
        metals=(_draw(rng, _METALS, PLAIN, 0.08),),
        darks=(_draw(rng, _DARKS, PLAIN, 0.08),),
        stones=tuple(_draw(rng, _STONES, BLOTCHES, 0.25) for _ in range(2)),
        paints=tuple(_draw(rng, _PAINTS, PLAIN, 0.06) for _ in range(2)),
    )


def pick(rng: np.random.Generator, kit: Kit, **shares: float) -> Material:
    """Draws a material of a family with the given relative shares, e.g. woods=3, whites=1."""
    weights = np.array(list(shares.values()), float)
    family = getattr(kit, list(shares)[rng.choice(len(weights), p=weights / weights.sum())])
    return tinted(rng, family[rng.integers(len(family))], 0.05)


def tinted(rng: np.random.Generator, material: Material, amount: float) -> Material:
    """Returns a material with brightness and hue changed by up to `amount`."""
    change = 1 + amount * (2 * rng.uniform(-1, 1) + rng.uniform(-1, 1, 3)) / 2
    color, second = (tuple(np.clip(np.multiply(c, change), 0.02, 0.98)) for c in material[:2])
    return material._replace(color=color, second=second)


def texture_mix(
    points: Array, texture: Array, period: Array, axis: Array, rng: np.random.Generator
) -> Array:
    """Returns how much of the second color each point has.

    Args:
      points: [N, 3] meters.
      texture: [N] int, kind of texture.
      period: [N] meters.
      axis: [N, 3] unit directions.

    Returns:
      [N] in [0, 1].
    """
    scaled = points / period[:, None]
    rough = smooth_noise(scaled * 0.6, rng)
    phase = np.einsum("nd,nd->n", scaled, axis)
    wood = 0.5 + 0.5 * np.sin(2 * np.pi * (phase + 0.7 * rough))
    stripes = (np.mod(phase, 1.0) < 0.45).astype(float)
    checks = np.mod(np.floor(scaled + 0.01).sum(axis=1), 2.0)
    blotches = np.clip(0.5 + 0.9 * rough, 0, 1)
    choices = [0.2 * blotches, wood, blotches, stripes, checks]
    return np.choose(texture, choices)


def smooth_noise(points: Array, rng: np.random.Generator) -> Array:
    """Returns a smooth random function of place, about [-1, 1], of unit period: [N]."""
    waves = rng.normal(size=(3, _NUM_WAVES))
    waves *= 2 * np.pi * rng.uniform(0.5, 1.3, _NUM_WAVES) / np.linalg.norm(waves, axis=0)
    phases = rng.uniform(0, 2 * np.pi, _NUM_WAVES)
    total = np.zeros(len(points))
    for start in range(0, len(points), _BLOCK):
        block = slice(start, start + _BLOCK)
        x, y, z = np.ascontiguousarray(points[block].T)
        # Not a matrix product: BLAS would differ between machines and start threads.
        for (a, b, c), phase in zip(waves.T, phases, strict=True):
            total[block] += np.sin(a * x + b * y + c * z + phase)
    return total / 2.2


def _draw(rng: np.random.Generator, palette: tuple, texture: int, contrast: float) -> Material:
    """Draws a material from a palette."""
    color = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.85, 1.1)
    color = np.clip(color + rng.normal(0, 0.02, 3), 0.03, 0.97)
    second = np.clip(color * (1 - rng.uniform(0.3, 1.0) * contrast), 0.02, 0.98)
    axis = np.eye(3)[rng.integers(3)]
    return Material(tuple(color), tuple(second), texture, rng.uniform(0.1, 0.35), tuple(axis))


def _draw_fabric(rng: np.random.Generator) -> Material:
    """Draws plain, blotched, striped or checked cloth."""
    texture = int(rng.choice([PLAIN, BLOTCHES, STRIPES, CHECKS], p=[0.4, 0.3, 0.15, 0.15]))
    cloth = _draw(rng, _FABRICS, texture, 0.35)
    if texture in (STRIPES, CHECKS) and rng.random() < 0.4:
        other = np.array(_FABRICS[rng.integers(len(_FABRICS))])
        cloth = cloth._replace(second=tuple(0.5 * other + 0.5 * np.array(cloth.color)))
    return cloth
