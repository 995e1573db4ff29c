"""Colors of classes on the page, which people with any color vision can tell apart.

Pictures and files have the colors of mprm_jax/palette.py, of which color-blind people confuse some.
"""

import functools

import numpy as np

from mprm_jax.types import Array

# What is on the page beside classes: its background, points without a label, marks.
TAKEN = ((20, 24, 26), (128, 128, 128), (255, 255, 255))
FIRST = (0, 114, 178)  # blue, which every kind of vision knows
_LEVELS = np.linspace(0, 255, 9)  # per channel, of the colors to choose from
_DARK, _LIGHT = 0.47, 0.85  # OKLab lightness: below, points vanish; above, they pass for marks
# What linear RGB becomes for people without red, green or blue cones.
# Source: Machado, Oliveira, Fernandes 2009, severity 1.0.
VISIONS = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
)
# Source: Ottosson 2020, "A perceptual color space for image processing".
_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


@functools.cache
def class_colors(num_classes: int) -> tuple[str, ...]:
    """Colors as "#rrggbb"; the first ones are the same whatever the number.

    Each is, of a grid, the one that looks least like all before it, to those who confuse them most.
    """
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness = seen(grid)[0][:, 0]
    grid = grid[(lightness > _DARK) & (lightness < _LIGHT)]
    chosen = [np.array(color, np.float64) for color in (*TAKEN, FIRST)]
    nearest = np.min([differences(grid, color) for color in chosen], axis=0)
    while len(chosen) - len(TAKEN) < num_classes:
        chosen.append(grid[nearest.argmax()])
        nearest = np.minimum(nearest, differences(grid, chosen[-1]))
    colors = np.round(chosen[len(TAKEN) :]).astype(int)[:num_classes]
    return tuple("#{:02x}{:02x}{:02x}".format(*color) for color in colors.tolist())


def differences(colors: Array, other: Array) -> Array:
    """How much colors [N, 3] in 0..255 differ from another, [N], to whom they differ least."""
    gaps = seen(colors) - seen(other[None])
    return np.linalg.norm(gaps, axis=2).min(axis=0)


def seen(colors: Array) -> Array:
    """Colors [N, 3] in 0..255 as each of VISIONS sees them, [4, N, 3] in OKLab."""
    share = np.asarray(colors, np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    views = np.clip(np.einsum("vij,nj->vni", np.array(VISIONS), linear), 0, 1)
    cones = np.cbrt(np.einsum("ij,vnj->vni", np.array(_TO_CONES), views))
    return np.einsum("ij,vnj->vni", np.array(_TO_LAB), cones)
