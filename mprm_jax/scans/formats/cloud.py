"""What a point cloud file holds, put together from named columns.

Column names are compared without case, units in brackets, and CloudCompare's prefix `scalar_`.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.scans.formats.colors import harmonics_to_colors, to_uint8_colors
from mprm_jax.scans.formats.notes import Note
from mprm_jax.types import Array

COORD_NAMES = (
    ("x", "easting", "east"),
    ("y", "northing", "north"),
    ("z", "elevation", "height", "altitude"),
)
COLOR_NAMES = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("rf", "gf", "bf"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
)
HARMONICS = ("f_dc_0", "f_dc_1", "f_dc_2")
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
NORMAL_NAMES = (
    ("nx", "ny", "nz"),
    ("normal_x", "normal_y", "normal_z"),  # of the Point Cloud Library
    ("normalx", "normaly", "normalz"),  # of PDAL and CloudCompare in LAS
)
NORMAL_VECTORS = ("normal", "normals")  # one column of three numbers a point
NO_LABEL = -(2**31)  # where a file has NaN; no label of a file, see `_are_whole`
FLOAT_LOSS = 1e-3  # of the unit of the file: what rounding to a smaller float may change
MAX_RATIO = 100  # far above that of real scans
SMALL_BYTES = 1 << 26  # what any file may unpack to
MAX_LISTED = 12  # names in a message
WRONG_NORMALS = Note(
    "normals that are not signed numbers, three for each point, do not count", warns=True
)
UNITS = re.compile(r"[\[(][^\[\]()]*[\])]")


class CloudFile(NamedTuple):
    """One file as it is: no point is dropped, moved or scaled; `None` where the file has nothing.

    Coordinates may be non-finite: an organized depth frame marks missing pixels that way.
    """

    coords: Array  # [N, 3] float64, unit of the file
    colors: Array | None  # [N, 3] uint8
    labels: Array | None  # [N] int32 as stored, see `to_labels`; what they mean is not known here
    faces: Array | None  # [F, 3] int32 into coords
    label_name: str | None  # name of the column the labels come from
    notes: tuple[Note, ...] = ()  # what was taken for granted or is odd
    normals: Array | None = None  # [N, 3] float32, see `to_normals`


def cloud_from_columns(
    path: Path,
    columns: Iterable[tuple[str, Array]],
    faces: Array | None = None,
    notes: tuple[Note, ...] = (),
) -> CloudFile:
    """Picks coordinates, colors, labels and normals from the columns of a table, by their names.

    Of two columns with one name the first counts. Columns are [N], those of `NORMAL_VECTORS` may be
    [N, 3].

    Raises:
      ValueError: there is no x, y or z column, or a column holds impossible values.
    """
    columns = list(columns)
    named: dict[str, Array] = {}
    twice: dict[str, None] = {}
    for name, column in columns:
        plain = plain_name(name)
        if plain in named:
            twice.setdefault(plain)
        named.setdefault(plain, column)
    for name in itertools.islice(twice, MAX_LISTED):
        notes += (Note(f"two columns are called {name!r}, the first of them counts", warns=True),)
    found = [next((name for name in names if name in named), None) for names in COORD_NAMES]
    missing = [names[0] for names, name in zip(COORD_NAMES, found, strict=True) if name is None]
    if missing:
        raise UserError(
            f"{path}: no column {', '.join(missing)} among "
            f"{listed([name for name, _ in columns])}; export the scan with its coordinates, "
            "under these names."
        )
    coords = np.stack([named[name] for name in found], axis=1).astype(np.float64)
    colors, remarks = _pick_colors(path, named, coords)
    label_name = next((name for name in LABEL_NAMES if name in named), None)
    labels, more = (None, ()) if label_name is None else to_labels(named[label_name])
    normals, odd = _pick_normals(named, len(coords))
    notes += remarks + more + odd
    return CloudFile(coords, colors, labels, faces, label_name, notes, normals)


def check_unpacked_size(unpacked: int, packed: int) -> None:
    """Raises `ValueError` for bytes that unpack to more than any scan: they would fill the memory.

    The file is not named.
    """
    if unpacked > max(MAX_RATIO * packed, SMALL_BYTES):
        raise UserError(f"{packed} bytes would unpack to {unpacked}")


def listed(names: Sequence[str]) -> str:
    """Names for an error message, not all of very many."""
    return ", ".join(names[:MAX_LISTED]) + ", ..." * (len(names) > MAX_LISTED) or "none"


def plain_name(name: str) -> str:
    """`X [m]` -> `x`, `scalar_Label` -> `label`."""
    return UNITS.sub("", name).strip().lower().removeprefix("scalar_")


def names_coordinates(names: Iterable[str]) -> bool:
    """Says whether words name x, y and z, as the header of a table does."""
    plain = {plain_name(name) for name in names}
    return all(plain.intersection(axis) for axis in COORD_NAMES)


def _pick_colors(
    path: Path, named: dict[str, Array], coords: Array
) -> tuple[Array | None, tuple[Note, ...]]:
    for names in COLOR_NAMES:
        if all(name in named for name in names):
            stacked = np.stack([named[name] for name in names], axis=1)
            return to_uint8_colors(path, stacked, coords)
    if all(name in named for name in HARMONICS):
        return harmonics_to_colors(path, np.stack([named[name] for name in HARMONICS], 1), coords)
    return None, ()


def _pick_normals(
    named: dict[str, Array], num_points: int
) -> tuple[Array | None, tuple[Note, ...]]:
    for names in NORMAL_NAMES:
        if all(name in named for name in names):
            return to_normals(np.stack([named[name] for name in names], axis=1), num_points)
    for name in NORMAL_VECTORS:
        if name in named and named[name].ndim == 2:
            return to_normals(named[name], num_points)
    return None, ()


def as_declared(values: Array, dtype: np.dtype) -> Array:
    """Gives float64 numbers of a text the type that its header names, where that holds them.

    Others count as they are written: -1 under unsigned, coordinates far from 0 under float.
    """
    if dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            narrow = values.astype(dtype)
            lost = np.any(np.abs(narrow - values) > FLOAT_LOSS)
        return values if lost else narrow
    limits = np.iinfo(dtype)
    fits = (values >= limits.min) & (values <= limits.max) & (values == np.floor(values))
    return values.astype(dtype) if fits.all() else values


def to_labels(labels: Array) -> tuple[Array, tuple[Note, ...]]:
    """Converts a label column, [N] or [N, 1] of any number type, to [N] int32.

    NaN means that nobody labeled the point and becomes NO_LABEL. Where another one is not a whole
    number of 32 bits they stay as they are; who needs labels calls `require_whole_labels`, who
    needs none does not mind.
    """
    flat = labels.reshape(-1)
    missing = np.isnan(flat) if flat.dtype.kind == "f" else np.zeros(len(flat), bool)
    filled = np.where(missing, NO_LABEL, flat) if missing.any() else flat
    if not (_are_whole(filled) | missing).all():
        return flat, ()
    text = "{count} points whose label is NaN count as not labeled"
    notes = (Note(text, int(missing.sum())),) if missing.any() else ()
    return filled.astype(np.int32), notes


def require_whole_labels(path: Path, labels: Array) -> Array:
    """The labels [N] of a file, int32; NO_LABEL may be among them.

    Raises:
      ValueError: a label is not a whole number of 32 bits.
    """
    whole = _are_whole(labels) | (labels == NO_LABEL)
    if not whole.all():
        raise UserError(
            f"{path}: label {labels[~whole][0]} is not a whole number; "
            "rename the column if it holds something else."
        )
    return labels.astype(np.int32)


def to_normals(normals: Array, num_points: int) -> tuple[Array | None, tuple[Note, ...]]:
    """Scales normals to length 1, [N, 3] float32; rows that are 0 or not finite become 0.

    A scan is as good without them: wrong ones are left out with a note, not refused. Zeros alone,
    as Gaussian splats have them, are none.

    Args:
      normals: any array; [N, 3] of a signed type if it means normals.
      num_points: N.
    """
    if normals.shape != (num_points, 3) or normals.dtype.kind not in "if":
        return None, (WRONG_NORMALS,)
    with np.errstate(invalid="ignore", over="ignore"):
        columns = np.array(normals.T, np.float64, order="C")
    # Of the largest part first: the square of a float64 may be beyond float64.
    largest = np.abs(columns).max(axis=0, initial=0)
    usable = np.isfinite(largest) & (largest > 0)
    if not usable.any():
        return None, ()
    columns = np.where(usable[None], columns, 0) / np.where(usable, largest, 1)[None]
    columns /= np.where(usable, np.sqrt(np.sum(np.square(columns), axis=0)), 1)[None]
    return np.ascontiguousarray(columns.T, np.float32), ()


def _are_whole(labels: Array) -> Array:
    wide = labels.astype(np.float64)
    return np.isfinite(wide) & (wide == np.floor(wide)) & (np.abs(wide) < 2**31)
