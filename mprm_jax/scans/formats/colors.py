"""Colors of any range as bytes: which range a file keeps them in, told from all of its values."""

from pathlib import Path

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.scans.formats.notes import Note
from mprm_jax.types import Array

ROUNDING = 1e-3  # colors of a [0, 1] range may exceed it by this after averaging
# Share of the values that may lie beyond [0, 1], as those of photographs and splats do.
MAX_OVERSHOOT = 0.1
LARGEST_BYTE, LARGEST_WORD = 255, 65535
# Share of the values above 255 from which they have 16 bits; those of real scans are all above it.
MIN_WORDS = 0.5
UNIT, BYTES, WORDS = "[0, 1]", "8 bits", "16 bits"
# Source: Kerbl et al. 2023, released code, SH2RGB: the constant of degree 0.
HARMONIC = 0.28209479177387814
BLACK = Note(
    "all colors are 0, as if the scan had none; export it with colors, or prepare all scans and "
    "train without them (data.colors=none)",
    warns=True,
)


def to_uint8_colors(path: Path, colors: Array, coords: Array) -> tuple[Array, tuple[Note, ...]]:
    """Converts colors to [N, 3] uint8, and notes which range was taken for that of the file.

    Values that lie a little beyond the range are clipped. Of 16 bits the high byte is kept. Rows
    without a position become black.

    Args:
      path: named in errors.
      colors: [N, 3] any number type.
      coords: [N, 3]; a row that is not finite need not have a color.

    Raises:
      ValueError: a color of a real point is not finite, far below 0 or above 65535.
    """
    real = np.isfinite(coords).all(axis=1)
    if colors.dtype == np.uint8:
        return colors, _of_black(colors[real])
    wide = colors if colors.dtype.kind in "iu" else colors.astype(np.float64)
    values = np.where(real[:, None], wide, 0)
    known = color_range(values) if np.isfinite(values).all() else None
    low, high = values.min(initial=0), values.max(initial=0)
    if known is None or (known != UNIT and (low < 0 or high > LARGEST_WORD)):
        raise UserError(
            f"{path}: colors {'outside 0..255' if np.isfinite(values).all() else 'not finite'}; "
            "export them as bytes, or remove the color columns. Columns that hold something "
            "else, such as normals, need their names in a first line."
        )
    largest = {UNIT: 1, BYTES: LARGEST_BYTE, WORDS: LARGEST_WORD}[known]
    beyond = int(np.count_nonzero((values < -ROUNDING) | (values > largest + ROUNDING)))
    if known == UNIT:
        values = np.clip(values, 0, 1) * 255
    elif known == WORDS:
        values = values // 256
    clipped = Note(f"{{count}} color values beyond {known} are clipped", beyond, warns=True)
    notes = (Note(f"colors are taken for {known}"), *((clipped,) if beyond else ()))
    converted = np.round(np.minimum(values, LARGEST_BYTE)).astype(np.uint8)
    return converted, _of_black(converted[real]) or notes


def color_range(values: Array) -> str:
    """UNIT, BYTES or WORDS: the range of finite color values, of any shape.

    Never a single value decides: [0, 1] are fractions of which few lie beyond, 16 bits are values
    of which most are above 255. Zeros say nothing. Whole numbers up to 1 count as [0, 1] if they
    are floats, since bytes would be as good as black.

    Args:
      values: of any number type; integers are no fractions.
    """
    told = values[values != 0]
    if not told.size:
        return BYTES
    if told.dtype.kind == "f":
        beyond = np.mean((told < -ROUNDING) | (told > 1 + ROUNDING))
        fractions = bool(np.any(told != np.floor(told)))
        if beyond == 0 or (fractions and beyond < MAX_OVERSHOOT):
            return UNIT
    return WORDS if np.mean(told > LARGEST_BYTE) > MIN_WORDS else BYTES


def harmonics_to_colors(
    path: Path, harmonics: Array, coords: Array
) -> tuple[Array, tuple[Note, ...]]:
    """Gives the [N, 3] uint8 colors of Gaussian splats, seen from no direction in particular.

    Args:
      harmonics: [N, 3], the coefficients of degree 0 of red, green and blue.

    Raises:
      ValueError: a coefficient of a real point is not finite.
    """
    real = np.isfinite(coords).all(axis=1)
    values = np.where(real[:, None], harmonics, 0).astype(np.float64)
    if not np.isfinite(values).all():
        raise UserError(f"{path}: a color f_dc_0 to f_dc_2 is not finite; export the scan again.")
    colors = np.round(np.clip(0.5 + HARMONIC * values, 0, 1) * 255).astype(np.uint8)
    colors[~real] = 0
    return colors, (Note("colors are those of its spherical harmonics f_dc_0 to f_dc_2"),)


def _of_black(colors: Array) -> tuple[Note, ...]:
    return (BLACK,) if len(colors) and not colors.any() else ()
