"""PCD scans of the Point Cloud Library: ASCII, binary and binary_compressed.

The parser is our own: the packaged ones demand headers of version 0.7 with every line, reject
blanks that writers leave behind numbers, and accept cut files.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mprm_jax.data.formats.cloud import CloudFile, cloud_from_columns
from mprm_jax.data.formats.lzf import lzf_decompress
from mprm_jax.types import Array

MAX_HEADER_LINES = 100
KINDS = {"F": "f", "I": "i", "U": "u"}


def read_pcd(path: Path) -> CloudFile:
    """Reads x y z, packed or separate colors and a label field; organized clouds become flat.

    Non-finite points stay in the result.

    Raises:
      ValueError: the header is incomplete or the data are cut short.
    """
    with open(path, "rb") as file:
        header = _read_header(path, file)
        body = file.read()
    try:
        dtype = _point_dtype(header)
        num_points = _num_points(header)
        points = _decode(body, header["DATA"][0].lower(), dtype, num_points)
    except KeyError as error:
        raise ValueError(
            f"{path}: the PCD header has no line {error.args[0]}; export the scan again."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: broken PCD file ({error}); copy or export it again.") from error
    return cloud_from_columns(path, _columns(points))


def _read_header(path: Path, file) -> dict[str, list[str]]:
    header = {}
    for _ in range(MAX_HEADER_LINES):
        words = file.readline().decode("ascii", errors="replace").split()
        if words and not words[0].startswith("#"):
            header[words[0].upper()] = words[1:] or [""]
        if words and words[0].upper() == "DATA":
            return header
    raise ValueError(f"{path}: no DATA line, so not a PCD file; check the suffix of the file.")


def _point_dtype(header: Mapping[str, list[str]]) -> np.dtype:
    """Gives the type of one point; padding fields (`_`) get a name that is never looked up."""
    fields, sizes, kinds = header["FIELDS"], header["SIZE"], header["TYPE"]
    counts = header.get("COUNT", ["1"] * len(fields))
    if not len(fields) == len(sizes) == len(kinds) == len(counts):
        raise ValueError("FIELDS, SIZE, TYPE and COUNT differ in length")
    parts = []
    for i, (field, size, kind, count) in enumerate(zip(fields, sizes, kinds, counts, strict=True)):
        if kind.upper() not in KINDS:
            raise ValueError(f"unknown TYPE {kind}")
        name = field.lower() if field != "_" else f"_padding{i}"
        shape = (int(count),) if int(count) != 1 else ()
        parts.append((name, f"<{KINDS[kind.upper()]}{int(size)}", shape))
    try:
        return np.dtype(parts)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _num_points(header: Mapping[str, list[str]]) -> int:
    if "POINTS" in header:
        return int(header["POINTS"][0])
    return int(header["WIDTH"][0]) * int(header.get("HEIGHT", ["1"])[0])


def _decode(body: bytes, encoding: str, dtype: np.dtype, num_points: int) -> Array:
    """Turns the bytes after the header into [num_points] records."""
    if encoding == "ascii":
        return _decode_ascii(body, dtype, num_points)
    if encoding == "binary":
        return np.frombuffer(_first_bytes(body, num_points * dtype.itemsize), dtype)
    if encoding == "binary_compressed":
        packed_size, size = np.frombuffer(_first_bytes(body, 8), "<u4")
        if size != num_points * dtype.itemsize:
            raise ValueError(f"{size} bytes for {num_points} points of {dtype.itemsize} bytes")
        packed = _first_bytes(body[8:], int(packed_size))
        return _from_columns(lzf_decompress(packed, int(size)), dtype, num_points)
    raise ValueError(f"unknown DATA {encoding}")


def _decode_ascii(body: bytes, dtype: np.dtype, num_points: int) -> Array:
    lines = body.decode("ascii").splitlines()[:num_points]
    if len(lines) < num_points:
        raise ValueError(f"{len(lines)} of {num_points} points")
    if not lines:
        return np.empty(0, dtype)
    # float64 holds every 32-bit integer and the tiny floats that packed colors look like.
    table = np.loadtxt(lines, np.float64, comments=None, ndmin=2)
    records = np.empty(len(table), dtype)
    start = 0
    for name in dtype.names:
        width = int(np.prod(dtype[name].shape, dtype=int))
        if start + width > table.shape[1]:
            raise ValueError(f"{table.shape[1]} numbers a line, too few for the fields")
        values = table[:, start : start + width].reshape((len(table), *dtype[name].shape))
        if dtype[name].base.kind != "f" and not np.isfinite(values).all():
            raise ValueError(f"field {name} is not a whole number everywhere")
        records[name] = values.astype(dtype[name].base)
        start += width
    return records


def _from_columns(data: bytes, dtype: np.dtype, num_points: int) -> Array:
    """Compressed files keep the fields one after the other, not the points."""
    records = np.empty(num_points, dtype)
    start = 0
    for name in dtype.names:
        end = start + num_points * dtype[name].itemsize
        records[name] = np.frombuffer(data[start:end], dtype[name].base).reshape(
            records[name].shape
        )
        start = end
    return records


def _first_bytes(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise ValueError(f"{len(data)} of {size} bytes")
    return data[:size]


def _columns(points: Array) -> dict[str, Array]:
    """Splits records into columns and a packed `rgb` or `rgba` into three."""
    columns = {name: points[name] for name in points.dtype.names if not points[name].ndim > 1}
    for name in ("rgb", "rgba"):
        if name in columns and columns[name].dtype.itemsize == 4:
            packed = np.ascontiguousarray(columns.pop(name)).view(np.uint32)
            for shift, color in ((16, "red"), (8, "green"), (0, "blue")):
                columns[color] = (packed >> shift & 255).astype(np.uint8)
    return columns
