"""NumPy files: NPZ archives of named arrays, and NPY tables laid out like text files."""

import io
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mprm_jax.errors import BROKEN_ARRAYS, UserError
from mprm_jax.scans.formats.cloud import (
    LABEL_NAMES,
    NORMAL_VECTORS,
    CloudFile,
    check_unpacked_size,
    cloud_from_columns,
    listed,
    to_labels,
    to_normals,
)
from mprm_jax.scans.formats.colors import to_uint8_colors
from mprm_jax.scans.formats.columns import name_columns
from mprm_jax.scans.formats.notes import Note
from mprm_jax.types import Array

COORD_KEYS = ("xyz", "coord", "coords", "points", "pos")
COLOR_KEYS = ("rgb", "color", "colors")
FACES_KEY = "faces"
ENCRYPTED = 1  # bit of the flags of a ZIP member
NUMBERS = "biuf"  # kinds of dtypes that are read
MAX_HEADER = 1 << 14  # bytes; NumPy itself reads none of more than 10 000
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    # Differs in the encoding of names, of which those that count are ASCII.
    (3, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: Path) -> CloudFile:
    """Reads coordinates, colors, labels, normals and faces by name, and no other arrays.

    Raises:
      ValueError: the file is broken, lacks coordinates, or its arrays differ in length.
    """
    if _begins_with(path, np.lib.format.MAGIC_PREFIX):
        raise UserError(f"{path}: a single array, not an archive; rename the file to .npy.")
    names, arrays, notes = _load_archive(path)
    coords = _pick(arrays, COORD_KEYS)
    if coords is None:
        raise UserError(
            f"{path}: none of {', '.join(COORD_KEYS)} among {listed(names)}; "
            "save the coordinates under one of these names."
        )
    coords = _table(path, "coordinates", coords).astype(np.float64)
    colors = _pick(arrays, COLOR_KEYS)
    if colors is not None:
        colors, remarks = to_uint8_colors(path, _rows(path, "colors", colors, coords), coords)
        notes += remarks
    labels, label_name = _pick(arrays, LABEL_NAMES), None
    if labels is not None:
        label_name = next(name for name in LABEL_NAMES if name in arrays)
        labels, remarks = to_labels(_same_length(path, "labels", labels.reshape(-1), coords))
        notes += remarks
    faces = arrays.get(FACES_KEY)
    if faces is not None:
        faces = _to_faces(path, _table(path, "faces", faces), len(coords))
    normals = _pick(arrays, NORMAL_VECTORS)
    if normals is not None:
        normals, remarks = to_normals(normals, len(coords))
        notes += remarks
    return CloudFile(coords, colors, labels, faces, label_name, notes, normals)


def read_npy(path: Path) -> CloudFile:
    """Reads a table [N, 3..7] with the columns of a text file, or records with named fields.

    Raises:
      ValueError: the file is broken or its columns cannot be told apart.
    """
    if _begins_with(path, b"PK"):
        raise UserError(f"{path}: an archive, not a single array; rename the file to .npz.")
    try:
        array = read_array(path)
    except ValueError as error:
        raise _unreadable(path, error) from error
    if array.dtype.names and array.ndim == 1:
        vectors = [name for name in array.dtype.names if name.lower() in NORMAL_VECTORS]
        names = [
            name
            for name in array.dtype.names
            if name in vectors or array.dtype[name].kind in NUMBERS
        ]
        return cloud_from_columns(path, [(name, array[name]) for name in names])
    if array.ndim != 2 or array.dtype.kind not in NUMBERS:
        raise UserError(
            f"{path}: {array.dtype} of shape {array.shape}, not numbers [points, columns]; "
            "save it as a table."
        )
    columns, notes = name_columns(path, None, array)
    return cloud_from_columns(path, columns, notes=notes)


def read_array(path: Path) -> Array:
    """Reads an NPY file of numbers or records of them.

    Raises:
      ValueError: the file is broken, cut off, or holds Python objects; the path is not named.
    """
    try:
        with path.open("rb") as file:
            return _read_array(file, path.stat().st_size)
    except BROKEN_ARRAYS as error:
        raise UserError(" ".join(str(error).split())) from error


def _begins_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _unreadable(path: Path, error: BaseException) -> UserError:
    return UserError(
        f"{path}: not a readable NumPy file, or one with Python objects "
        f"({' '.join(str(error).split())}); save plain number arrays."
    )


def _read_array(file: BinaryIO, size: int) -> Array:
    """Reads an array from `size` bytes; holds its shape against them before it takes memory."""
    # A header that promises gigabytes of itself finds no more than this.
    head = io.BytesIO(file.read(MAX_HEADER))
    version = np.lib.format.read_magic(head)
    if version not in HEADERS:
        raise UserError(f"version {version} is not known")
    shape, is_fortran, dtype = HEADERS[version](head)
    if dtype.hasobject:
        raise UserError("it holds Python objects")
    count = 1
    for length in shape:
        if length < 0:
            raise UserError(f"shape {shape}")
        count *= length
    if not dtype.itemsize or count * dtype.itemsize > size:
        raise UserError(f"shape {shape} of {dtype} in {size} bytes")
    data = np.empty(count * dtype.itemsize, np.uint8)
    begin = np.frombuffer(head.read(len(data)), np.uint8)
    data[: len(begin)] = begin
    if len(begin) + file.readinto(data[len(begin) :]) < len(data):
        raise UserError(f"cut off: it promises {len(data)} bytes")
    return data.view(dtype).reshape(shape, order="F" if is_fortran else "C")


def _load_archive(path: Path) -> tuple[list[str], dict[str, Array], tuple[Note, ...]]:
    """The names of all arrays, and those arrays that count; anything else is not opened.

    Names are compared without case; of two that are alike the first counts.
    """
    wanted = {*COORD_KEYS, *COLOR_KEYS, *LABEL_NAMES, *NORMAL_VECTORS, FACES_KEY}
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members, twice = {}, {}
            for info in archive.infolist():
                key = info.filename.removesuffix(".npy").lower()
                (twice if key in members else members)[key] = info
            if any(info.flag_bits & ENCRYPTED for info in members.values()):
                raise UserError("it is encrypted")
            unpacked = sum(info.file_size for key, info in members.items() if key in wanted)
            check_unpacked_size(unpacked, path.stat().st_size)
            for key in sorted(wanted & members.keys()):
                with archive.open(members[key]) as file:
                    arrays[key] = _read_array(file, members[key].file_size)
                if arrays[key].dtype.kind not in NUMBERS:
                    raise UserError(f"{key} holds {arrays[key].dtype}, not numbers")
    except BROKEN_ARRAYS as error:
        raise _unreadable(path, error) from error
    alike = [key for key in twice if key in wanted]
    text = "two arrays are called {!r}, the first of them counts"
    return list(members), arrays, tuple(Note(text.format(key), warns=True) for key in alike)


def _pick(arrays: dict[str, Array], names: tuple[str, ...]) -> Array | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _table(path: Path, what: str, array: Array) -> Array:
    if array.ndim != 2 or array.shape[1] != 3:
        raise UserError(f"{path}: {what} of shape {array.shape}, not [N, 3]; save them as rows.")
    return array


def _rows(path: Path, what: str, array: Array, coords: Array) -> Array:
    return _same_length(path, what, _table(path, what, array), coords)


def _same_length(path: Path, what: str, array: Array, coords: Array) -> Array:
    if len(array) != len(coords):
        raise UserError(
            f"{path}: {len(coords)} points but {len(array)} {what}; save them together."
        )
    return array


def _to_faces(path: Path, faces: Array, num_points: int) -> Array:
    if not ((faces >= 0) & (faces < num_points) & (faces == np.floor(faces))).all():
        raise UserError(f"{path}: faces name points that do not exist; export them again.")
    return faces.astype(np.int32)
