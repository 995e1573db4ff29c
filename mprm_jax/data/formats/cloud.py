"""What a point cloud file holds, put together from named columns.

Column names are compared without case, and with CloudCompare's prefix `scalar_` removed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mprm_jax.types import Array

COORD_NAMES = ("x", "y", "z")
ROUNDING = 1e-3  # colors of a [0, 1] range may exceed 1 by this after averaging
COLOR_NAMES = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
)
LABEL_NAMES = (
    "label",
    "labels",
    "class",
    "classification",
    "class_id",
    "segment",
    "segment20",
    "semantic",
    "semantic_label",
)


class CloudFile(NamedTuple):
    """One file as it is: no point is dropped, moved or scaled; `None` where the file has nothing.

    Coordinates may be non-finite: an organized depth frame marks missing pixels that way.
    """

    coords: Array  # [N, 3] float64, unit of the file
    colors: Array | None  # [N, 3] uint8
    labels: Array | None  # [N] int32 as stored, see `to_labels`; what they mean is not known here
    faces: Array | None  # [F, 3] int32 into coords
    label_name: str | None  # name of the column the labels come from


def cloud_from_columns(
    path: Path, columns: Mapping[str, Array], faces: Array | None = None
) -> CloudFile:
    """Picks coordinates, colors and labels from the columns [N] of a table, by their names.

    Raises:
      ValueError: there is no x, y or z column, or a column holds impossible values.
    """
    named = {_plain_name(name): column for name, column in columns.items()}
    missing = [name for name in COORD_NAMES if name not in named]
    if missing:
        raise ValueError(
            f"{path}: no column {', '.join(missing)} among {', '.join(columns) or 'none'}; "
            "export the scan with its coordinates."
        )
    coords = np.stack([named[name] for name in COORD_NAMES], axis=1).astype(np.float64)
    colors = None
    for names in COLOR_NAMES:
        if all(name in named for name in names):
            stacked = np.stack([named[name] for name in names], axis=1)
            colors = to_uint8_colors(path, stacked, coords)
            break
    label_name = next((name for name in LABEL_NAMES if name in named), None)
    labels = None if label_name is None else to_labels(named[label_name])
    return CloudFile(coords, colors, labels, faces, label_name)


def to_uint8_colors(path: Path, colors: Array, coords: Array) -> Array:
    """Converts colors to [N, 3] uint8, whichever range the file keeps them in.

    The largest value decides: up to 1 in floats means [0, 1], up to 255 means bytes, and above
    that 16-bit values, of which the high byte is kept. Rows without a position become black.

    Args:
      path: named in errors.
      colors: [N, 3] any number type.
      coords: [N, 3]; a row that is not finite need not have a color.

    Raises:
      ValueError: a color of a real point is negative, not finite or above 65535.
    """
    if colors.dtype == np.uint8:
        return colors
    real = np.isfinite(coords).all(axis=1)
    values = np.where(real[:, None], colors, 0).astype(np.float64)
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise ValueError(
            f"{path}: colors outside 0..255; export them as bytes, or remove the color columns."
        )
    largest = values.max(initial=0)
    if largest <= 1 + ROUNDING and np.issubdtype(colors.dtype, np.floating):
        values = np.minimum(values, 1) * 255
    elif largest > 255:
        values = np.floor(values / 256)
    return np.round(values).astype(np.uint8)


def to_labels(labels: Array) -> Array:
    """Converts a label column, [N] or [N, 1] of any number type, to [N] int32.

    Where one is not a whole number of 32 bits they stay as they are; who needs labels calls
    `require_whole_labels`, who needs none does not mind.
    """
    flat = labels.reshape(-1)
    return flat.astype(np.int32) if _are_whole(flat).all() else flat


def require_whole_labels(path: Path, labels: Array) -> Array:
    """The labels [N] of a file, int32.

    Raises:
      ValueError: a label is not a whole number of 32 bits.
    """
    whole = _are_whole(labels)
    if not whole.all():
        raise ValueError(
            f"{path}: label {labels[~whole][0]} is not a whole number; "
            "rename the column if it holds something else."
        )
    return labels.astype(np.int32)


def _are_whole(labels: Array) -> Array:
    wide = labels.astype(np.float64)
    return np.isfinite(wide) & (wide == np.floor(wide)) & (np.abs(wide) < 2**31)


def _plain_name(name: str) -> str:
    return name.strip().lower().removeprefix("scalar_")
