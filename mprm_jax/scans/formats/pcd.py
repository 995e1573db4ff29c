"""PCD scans of the Point Cloud Library: ASCII, binary and binary_compressed.

The parser is our own: the packaged ones demand headers of version 0.7 with every line, reject
blanks that writers leave behind numbers, and accept cut files.

The codec of binary_compressed is LZF. Its stream is a row of tokens. A control byte below 32
announces that many bytes, plus one, to copy from the input. Else its upper three bits are a length
(7: one more byte adds to it), its lower five and the next byte a distance back in the output; the
copy is two bytes longer.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.scans.formats.cloud import (
    NORMAL_VECTORS,
    CloudFile,
    as_declared,
    cloud_from_columns,
)
from mprm_jax.scans.formats.notes import MORE_POINTS
from mprm_jax.types import Array

MAX_HEADER_LINES = 100
TYPES = {
    (kind, size): f"<{kind.lower()}{size}"
    for kind, sizes in (("F", "48"), ("I", "1248"), ("U", "1248"))
    for size in sizes
}
PACKED = ("rgb", "rgba")
GRAY = 0x010101  # the packed color of (1, 1, 1)
MAX_DIGITS = 10  # of a packed color
LITERAL_LIMIT = 32
LONG_MATCH = 7


class _Field(NamedTuple):
    """A column of the file; `count` values a point."""

    name: str  # "_" is padding
    dtype: np.dtype
    count: int


def read_pcd(path: Path) -> CloudFile:
    """Reads x y z, packed or separate colors, a label field, normals; organized clouds become flat.

    Non-finite points stay in the result.

    Raises:
      ValueError: the header is incomplete or the data are cut short.
    """
    with open(path, "rb") as file:
        header = _read_header(path, file)
        body = file.read()
    try:
        fields = _fields(header)
        num_points = _num_points(header)
        encoding = header["DATA"][0].lower()
        columns = _decode(body, encoding, fields, num_points)
    except KeyError as error:
        raise UserError(
            f"{path}: the PCD header has no line {error.args[0]}; export the scan again."
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: broken PCD file ({error}); copy or export it again.") from error
    cloud = cloud_from_columns(path, _split_colors(columns))
    if _holds_more(body, encoding, fields, num_points):
        cloud = cloud._replace(notes=(*cloud.notes, MORE_POINTS))
    return cloud


def lzf_decompress(data: bytes, size: int) -> bytes:
    """Decompresses an LZF stream.

    Args:
      data: the compressed stream.
      size: bytes the result must have.

    Raises:
      ValueError: the stream is cut short or does not give `size` bytes.
    """
    output = bytearray()
    position = 0
    try:
        while position < len(data):
            if len(output) > size:
                raise UserError(f"decompressed to more than {size} bytes")
            control = data[position]
            position += 1
            if control < LITERAL_LIMIT:
                end = position + control + 1
                output += data[position:end]
                position = end
                continue
            length = control >> 5
            if length == LONG_MATCH:
                length += data[position]
                position += 1
            distance = ((control & 31) << 8) + data[position] + 1
            position += 1
            _repeat(output, distance, length + 2)
    except IndexError as error:
        raise UserError("the compressed data end in the middle of a token") from error
    if len(output) != size:
        raise UserError(f"decompressed to {len(output)} of {size} bytes")
    return bytes(output)


def _read_header(path: Path, file) -> dict[str, list[str]]:
    header = {}
    for _ in range(MAX_HEADER_LINES):
        words = file.readline().decode("ascii", errors="replace").split()
        if words and not words[0].startswith("#"):
            header[words[0].upper()] = words[1:] or [""]
        if words and words[0].upper() == "DATA":
            return header
    raise UserError(f"{path}: no DATA line, so not a PCD file; check the suffix of the file.")


def _fields(header: Mapping[str, list[str]]) -> list[_Field]:
    names, sizes, kinds = header["FIELDS"], header["SIZE"], header["TYPE"]
    counts = header.get("COUNT", ["1"] * len(names))
    if not len(names) == len(sizes) == len(kinds) == len(counts):
        raise UserError("FIELDS, SIZE, TYPE and COUNT differ in length")
    fields = []
    for name, size, kind, count in zip(names, sizes, kinds, counts, strict=True):
        if (kind.upper(), size) not in TYPES:
            raise UserError(f"unknown TYPE {kind} of SIZE {size}")
        fields.append(_Field(name.lower(), np.dtype(TYPES[kind.upper(), size]), _number(count)))
    if not any(field.count for field in fields):
        raise UserError("no fields")
    return fields


def _num_points(header: Mapping[str, list[str]]) -> int:
    if "POINTS" in header:
        return _number(header["POINTS"][0])
    return _number(header["WIDTH"][0]) * _number(header.get("HEIGHT", ["1"])[0])


def _number(word: str) -> int:
    if not (word.isascii() and word.isdigit()):
        raise UserError(f"{word!r} where a number is expected")
    return int(word)


def _decode(
    body: bytes, encoding: str, fields: Sequence[_Field], num_points: int
) -> list[tuple[str, Array]]:
    """Turns the bytes after the header into named columns, each [num_points, count]."""
    if encoding == "ascii":
        return _decode_ascii(body, fields, num_points)
    point_size = sum(field.dtype.itemsize * field.count for field in fields)
    if encoding == "binary":
        data = _first_bytes(body, num_points * point_size)
        points = np.frombuffer(data, np.uint8).reshape(num_points, point_size)
        columns, start = [], 0
        for field in fields:
            end = start + field.dtype.itemsize * field.count
            block = np.ascontiguousarray(points[:, start:end])
            columns.append((field.name, block.view(field.dtype)))
            start = end
        return columns
    if encoding == "binary_compressed":
        packed_size, size = np.frombuffer(_first_bytes(body, 8), "<u4").tolist()
        if size != num_points * point_size:
            raise UserError(f"{size} bytes for {num_points} points of {point_size} bytes")
        data = lzf_decompress(_first_bytes(body[8:], packed_size), size)
        return _one_after_the_other(data, fields, num_points)
    raise UserError(f"unknown DATA {encoding}")


def _holds_more(body: bytes, encoding: str, fields: Sequence[_Field], num_points: int) -> bool:
    """Whether there are more points than the header promises."""
    if encoding == "ascii":
        return len(_lines(body)) > num_points
    point_size = sum(field.dtype.itemsize * field.count for field in fields)
    return encoding == "binary" and len(body) >= (num_points + 1) * point_size


def _lines(body: bytes) -> list[str]:
    return [line for line in body.decode("ascii").splitlines() if line and not line.isspace()]


def _decode_ascii(
    body: bytes, fields: Sequence[_Field], num_points: int
) -> list[tuple[str, Array]]:
    lines = _lines(body)
    if len(lines) < num_points:
        raise UserError(f"{len(lines)} of {num_points} points")
    del lines[num_points:]
    if not lines:
        return [(field.name, np.empty((0, field.count), field.dtype)) for field in fields]
    # float64 holds every 32-bit integer and the tiny floats that packed colors look like.
    table = np.loadtxt(lines, np.float64, comments=None, ndmin=2)
    if table.shape[1] < sum(field.count for field in fields):
        raise UserError(f"{table.shape[1]} numbers a line, too few for the fields")
    columns, start = [], 0
    for field in fields:
        values = table[:, start : start + field.count]
        if field.name in PACKED and field.count == 1:
            rounded = np.any(np.abs(values) >= 1) and (b"e" in body or b"E" in body)
            words = [line.split()[start] for line in lines] if rounded else None
            values = _written_colors(values[:, 0], words)[:, None]
        else:
            values = as_declared(values, field.dtype)
        columns.append((field.name, values))
        start += field.count
    return columns


def _written_colors(values: Array, words: list[str] | None) -> Array:
    """Packed colors [N] uint32 from the numbers of a text.

    A number of 1 or more is the color as a whole number. Others are floats whose bits are the
    color, as PCL writes them; of NaN, which it made of opaque colors, nothing is left but black.

    Args:
      words: the numbers as they are written, if some have lost digits as in 4.2108e+06. A gray
        that would be written so is taken for it.
    """
    # Floats from 2**32 on, and fractions, have bits of an opacity that no whole number has.
    whole = (np.abs(values) >= 1) & (np.abs(values) < 2**32)
    numbers = np.where(whole, values, 0)
    if words is not None:
        grays = np.round(numbers / GRAY) * GRAY
        numbers = np.where(np.abs(grays - numbers) <= _lost(words), grays, numbers)
    with np.errstate(over="ignore"):
        bits = np.where(np.isnan(values), 0, values).astype(np.float32).view(np.uint32)
    return np.where(whole, np.round(numbers).astype(np.int64) % 2**32, bits).astype(np.uint32)


def _lost(words: Sequence[str]) -> Array:
    """Half a unit of the last digit of each number with an exponent, 0 for others."""
    parts = [word.lower().partition("e") for word in words]
    digits = max((len(m.partition(".")[2]) for m, _, exponent in parts if exponent), default=0)
    places = [int(exponent) - digits if exponent else 0 for _, _, exponent in parts]
    return np.array([0.5 * 10.0 ** min(place, MAX_DIGITS) if place > 0 else 0 for place in places])


def _one_after_the_other(
    data: bytes, fields: Sequence[_Field], num_points: int
) -> list[tuple[str, Array]]:
    """Compressed files keep the fields one after the other, not the points."""
    columns, start = [], 0
    for field in fields:
        num_values = num_points * field.count
        values = np.frombuffer(data, field.dtype, num_values, start)
        columns.append((field.name, values.reshape(num_points, field.count)))
        start += values.nbytes
    return columns


def _first_bytes(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise UserError(f"{len(data)} of {size} bytes")
    return data[:size]


def _split_colors(columns: Sequence[tuple[str, Array]]) -> list[tuple[str, Array]]:
    """Makes three columns of a packed `rgb` or `rgba`; leaves out padding and other vectors."""
    split = []
    for name, values in columns:
        if name == "_" or values.shape[1] != 1:
            split += [(name, values)] if name in NORMAL_VECTORS else []
        elif name in PACKED and values.dtype.itemsize == 4:
            packed = np.ascontiguousarray(values[:, 0]).view(np.uint32)
            for shift, color in ((16, "red"), (8, "green"), (0, "blue")):
                split.append((color, (packed >> shift & 255).astype(np.uint8)))
        else:
            split.append((name, values[:, 0]))
    return split


def _repeat(output: bytearray, distance: int, length: int) -> None:
    """Appends `length` bytes that lie `distance` back; the copy may run into itself."""
    start = len(output) - distance
    if start < 0:
        raise IndexError("a match starts before the output")
    if distance >= length:
        output += output[start : start + length]
        return
    pattern = output[start:]
    output += (pattern * (length // distance + 1))[:length]
