"""What the columns of a table without names mean, told from their number and their values.

    3  x y z                    6  x y z r g b
    4  x y z label              7  x y z r g b label, or x y z intensity r g b

Whatever is not certain is noted, and where the values say nothing, names are asked for. Labels are
whole numbers of few kinds; a fourth of four columns that is not so is taken for an intensity. Of
seven columns the first layout counts if the last column can be a label and those before it colors
of one range.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.scans.formats.colors import color_range
from mprm_jax.scans.formats.notes import Note
from mprm_jax.types import Array

COORDS = ("x", "y", "z")
COLORS = ("red", "green", "blue")
LAYOUTS = {
    3: COORDS,
    4: (*COORDS, "label"),
    6: (*COORDS, *COLORS),
    7: (*COORDS, *COLORS, "label"),
}
WITH_INTENSITY = {4: (*COORDS, "intensity"), 7: (*COORDS, "intensity", *COLORS)}
MAX_KINDS = 64  # labels in a column; colors and intensities have more
REMEDY = "add a first line such as 'x y z red green blue label'."


def name_columns(
    path: Path, header: Sequence[str] | None, table: Array
) -> tuple[list[tuple[str, Array]], tuple[Note, ...]]:
    """Names the columns of a table [N, C], and notes the layout where nobody named it.

    Args:
      path: named in errors.
      header: names in the file, if there are any.

    Raises:
      ValueError: the header does not fit, or the columns cannot be told apart.
    """
    num_columns = table.shape[1]
    if header is not None:
        if len(header) != num_columns:
            raise UserError(
                f"{path}: the header names {len(header)} columns, the lines have {num_columns}; "
                "correct the header."
            )
        return list(zip(header, table.T, strict=True)), ()
    if num_columns not in LAYOUTS:
        raise UserError(f"{path}: {num_columns} columns without names; {REMEDY}")
    names = _layout(path, table)
    text = f"{num_columns} columns without names are taken for {' '.join(names)}"
    notes = () if num_columns == 3 else (Note(text),)
    return list(zip(names, table.T, strict=True)), notes


def _layout(path: Path, table: Array) -> tuple[str, ...]:
    num_columns = table.shape[1]
    real = table[np.isfinite(table[:, :3]).all(axis=1)]
    if num_columns == 4:
        return (LAYOUTS if _are_labels(real[:, 3]) else WITH_INTENSITY)[4]
    if num_columns == 7:
        if _are_colors(real[:, 3:6]) and _are_labels(real[:, 6]):
            return LAYOUTS[7]
        if _are_colors(real[:, 4:7]):
            return WITH_INTENSITY[7]
        raise UserError(
            f"{path}: 7 columns without names, neither 'x y z r g b label' nor "
            f"'x y z intensity r g b'; {REMEDY}"
        )
    return LAYOUTS[num_columns]


def _are_labels(column: Array) -> bool:
    """Whether values [N] are whole numbers of few kinds; NaN is no label."""
    kinds = np.unique(column[~np.isnan(column)])
    return len(kinds) <= MAX_KINDS and np.array_equal(kinds, np.floor(kinds))


def _are_colors(columns: Array) -> bool:
    """Whether three columns [N, 3] can be colors: none negative, all of one range."""
    if not np.isfinite(columns).all() or columns.min(initial=0) < 0:
        return False
    # Zeros and ones may be of any range.
    ranges = {color_range(column) for column in columns.T if not np.isin(column, (0, 1)).all()}
    return len(ranges) <= 1
