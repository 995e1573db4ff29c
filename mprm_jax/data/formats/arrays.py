"""NumPy files: NPZ archives of named arrays, and NPY tables laid out like text files."""

import zipfile
from pathlib import Path

import numpy as np

from mprm_jax.data.formats.cloud import (
    LABEL_NAMES,
    CloudFile,
    cloud_from_columns,
    to_labels,
    to_uint8_colors,
)
from mprm_jax.data.formats.text import name_columns
from mprm_jax.types import Array

COORD_KEYS = ("xyz", "coord", "coords", "points", "pos")
COLOR_KEYS = ("rgb", "color", "colors")


def read_npz(path: Path) -> CloudFile:
    """Reads coordinates, colors, labels and faces by the names of the arrays.

    Raises:
      ValueError: the file is broken, lacks coordinates, or its arrays differ in length.
    """
    arrays = _load(path)
    if not isinstance(arrays, dict):
        raise ValueError(f"{path}: a single array, not an archive; rename the file to .npy.")
    coords = _pick(arrays, COORD_KEYS)
    if coords is None:
        raise ValueError(
            f"{path}: none of {', '.join(COORD_KEYS)} among {', '.join(arrays) or 'no arrays'}; "
            "save the coordinates under one of these names."
        )
    coords = _table(path, "coordinates", coords).astype(np.float64)
    colors = _pick(arrays, COLOR_KEYS)
    if colors is not None:
        colors = to_uint8_colors(path, _rows(path, "colors", colors, coords), coords)
    labels, label_name = _pick(arrays, LABEL_NAMES), None
    if labels is not None:
        label_name = next(name for name in LABEL_NAMES if name in arrays)
        labels = to_labels(_same_length(path, "labels", labels.reshape(-1), coords))
    faces = arrays.get("faces")
    if faces is not None:
        faces = _table(path, "faces", faces).astype(np.int32)
        if faces.size and (faces.min() < 0 or faces.max() >= len(coords)):
            raise ValueError(f"{path}: faces name points that do not exist; export them again.")
    return CloudFile(coords, colors, labels, faces, label_name)


def read_npy(path: Path) -> CloudFile:
    """Reads a table [N, 3..7] with the columns of a text file, or records with named fields.

    Raises:
      ValueError: the file is broken or its columns cannot be told apart.
    """
    array = _load(path)
    if isinstance(array, dict):
        raise ValueError(f"{path}: an archive, not a single array; rename the file to .npz.")
    if array.dtype.names:
        return cloud_from_columns(path, {name: array[name] for name in array.dtype.names})
    if array.ndim != 2:
        raise ValueError(f"{path}: shape {array.shape}, not [points, columns]; save it as a table.")
    return cloud_from_columns(path, name_columns(path, None, array))


def _load(path: Path) -> dict[str, Array] | Array:
    try:
        # Opened here: np.load leaves a file open that is not an archive after all.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            return {name.lower(): loaded[name] for name in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: not a readable NumPy file, or one with Python objects ({error}); "
            "save plain number arrays."
        ) from error


def _pick(arrays: dict[str, Array], names: tuple[str, ...]) -> Array | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _table(path: Path, what: str, array: Array) -> Array:
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"{path}: {what} of shape {array.shape}, not [N, 3]; save them as rows.")
    return array


def _rows(path: Path, what: str, array: Array, coords: Array) -> Array:
    return _same_length(path, what, _table(path, what, array), coords)


def _same_length(path: Path, what: str, array: Array, coords: Array) -> Array:
    if len(array) != len(coords):
        raise ValueError(
            f"{path}: {len(coords)} points but {len(array)} {what}; save them together."
        )
    return array
