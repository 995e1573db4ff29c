"""PLY clouds and meshes, ASCII or binary; their headers by one rule for everyone who opens one.

The parser is our own: the packaged one demands headers and numbers to the letter of the standard,
which many writers miss, and trusts the counts of lists.

Careless writers are understood: any line ends, blanks behind words, lines in any order, comments of
any length and encoding. The counts of the elements are held against the size of the file.
"""

import io
import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.scans.formats.cloud import CloudFile, as_declared, cloud_from_columns
from mprm_jax.scans.formats.notes import MORE_POINTS
from mprm_jax.types import Array

BLOCK = 1 << 16  # bytes read at a time, until the header ends
MAX_HEADER = 1 << 24  # bytes; far above that of any writer
START = re.compile(rb"(?:\xef\xbb\xbf)?ply[ \t]*(\r\n|\n|\r)")
# The end of a header, by the line end of its first line.
ENDS = {
    b"\n": re.compile(rb"[\r\n]end_header[ \t\r]*\n"),
    b"\r\n": re.compile(rb"[\r\n]end_header[ \t]*\r?\n"),
    b"\r": re.compile(rb"[\r\n]end_header[ \t]*\r"),
}
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
ASCII_BYTES = 2  # of the shortest number and what separates it from the next
LISTS = ("vertex_indices", "vertex_index")
# What we write: the types of vertex properties, and a face.
WRITTEN_TYPES = {"<f8": "double", "<f4": "float", "|u1": "uchar", "<i4": "int"}
TRIANGLE = np.dtype([("count", "u1"), ("vertex_indices", "<i4", (3,))])
_LOOK_BYTES = 1 << 12  # behind the last element


class PlyProperty(NamedTuple):
    """A column of an element; with `count_type`, each row has a list of values."""

    name: str
    type: np.dtype  # in the byte order of the file
    count_type: np.dtype | None


class PlyElement(NamedTuple):
    """A table of `count` rows."""

    name: str
    count: int
    properties: tuple[PlyProperty, ...]

    @property
    def has_lists(self) -> bool:
        return any(prop.count_type is not None for prop in self.properties)


class PlyHeader(NamedTuple):
    """What lies where in a PLY file."""

    is_text: bool
    elements: tuple[PlyElement, ...]
    size: int  # bytes before the first row


class _Column(NamedTuple):
    """The values of a property, those of its lists one after the other."""

    values: Array
    counts: Array | None  # [rows] int64, lengths of the lists; None for one value a row


def read_ply_header(path: Path) -> PlyHeader:
    """Reads the header, and makes sure that the file is as long as it says at least.

    Raises:
      OSError: the file cannot be opened.
      ValueError: it is no PLY file, its header is broken, or the file was cut off; the path is not
        named.
    """
    with path.open("rb") as file:
        lines, size = _header_lines(file)
    header = _parse(lines, size)
    least = size + sum(element.count * _row_bytes(header, element) for element in header.elements)
    # The last number of a text need not be followed by anything.
    actual = path.stat().st_size + header.is_text
    if actual < least:
        raise UserError(
            f"{path.stat().st_size} bytes, its header promises at least {least}: it was cut off"
        )
    return header


def read_ply(path: Path) -> CloudFile:
    """Reads x y z, colors, a label property, normals and faces; polygons become fans of triangles.

    Numbers of a text count as they are written, whatever type its header gives them.

    Raises:
      ValueError: the file is truncated, not a PLY, or its faces name vertices it does not have.
    """
    try:
        header = read_ply_header(path)
        vertex = next((e for e in header.elements if e.name == "vertex"), None)
        found, is_more = ({}, False) if vertex is None else _read(path, header)
    except ValueError as error:
        raise UserError(
            f"{path}: not a readable PLY file ({error}); copy or export it again."
        ) from error
    if vertex is None:
        raise UserError(f"{path}: the PLY file has no vertex element; export the scan again.")
    columns = [(name, column.values) for name, column in found["vertex"] if column.counts is None]
    faces = _faces(path, found.get("face", []), vertex.count)
    cloud = cloud_from_columns(path, columns, faces)
    return cloud._replace(notes=(*cloud.notes, MORE_POINTS)) if is_more else cloud


def ply_header(vertex: np.dtype, num_vertices: int, num_triangles: int | None) -> bytes:
    """Returns the header of a binary file with records of type `vertex`, then TRIANGLE.

    Args:
      vertex: little-endian, its types are in WRITTEN_TYPES.
      num_triangles: None for a cloud without faces.
    """
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {num_vertices}"]
    lines += [f"property {WRITTEN_TYPES[vertex[name].str]} {name}" for name in vertex.names]
    if num_triangles is not None:
        lines += [f"element face {num_triangles}", "property list uchar int vertex_indices"]
    return "\n".join([*lines, "end_header", ""]).encode("ascii")


def triangle_records(faces: Array) -> Array:
    """Returns the records of triangles [F, 3]: [F] TRIANGLE."""
    records = np.empty(len(faces), TRIANGLE)
    records["count"], records["vertex_indices"] = 3, faces
    return records


def _header_lines(file: BinaryIO) -> tuple[list[str], int]:
    """The lines after the first and before the last, and the size of all."""
    head = file.read(BLOCK)
    start = START.match(head)
    if start is None:
        raise UserError("no PLY header")
    ends, searched = ENDS[start[1]], 0
    while (end := ends.search(head, searched)) is None:
        searched = max(0, len(head) - BLOCK)
        block = file.read(len(head))
        if not block or len(head) > MAX_HEADER:
            raise UserError("no PLY header: the line end_header is missing")
        head += block
    text = head[start.end() : end.start()].decode("utf-8", errors="replace")
    return re.split(r"[\r\n]+", text), end.end()


def _parse(lines: list[str], size: int) -> PlyHeader:
    order, elements, properties = None, [], []
    for line in lines:
        match line.split():
            case ["format", name, *_] if name in ORDERS:
                order = ORDERS[name]
            case ["element", name, count] if count.isascii() and count.isdigit():
                properties.append([])
                elements.append(PlyElement(name, int(count), ()))
            case ["property", *words] if order is not None and elements:
                properties[-1].append(_property(words, order or "<", line))
            case [] | ["comment" | "obj_info", *_]:
                pass
            case _:
                raise UserError(f"its header has a line {line[:60]!r}")
    if order is None:
        raise UserError("its header has no line that begins with format")
    if len({element.name for element in elements}) < len(elements):
        raise UserError("its header has two elements of one name")
    complete = [
        element._replace(properties=tuple(of_element))
        for element, of_element in zip(elements, properties, strict=True)
    ]
    return PlyHeader(order == "", tuple(complete), size)


def _property(words: list[str], order: str, line: str) -> PlyProperty:
    match words:
        case ["list", count, kind, name] if TYPES.get(count, "f")[0] != "f" and kind in TYPES:
            return PlyProperty(name, np.dtype(order + TYPES[kind]), np.dtype(order + TYPES[count]))
        case [kind, name] if kind in TYPES:
            return PlyProperty(name, np.dtype(order + TYPES[kind]), None)
    raise UserError(f"its header has a line {line[:60]!r}")


def _row_bytes(header: PlyHeader, element: PlyElement) -> int:
    """The bytes of the shortest row: lists may be empty."""
    if header.is_text:
        return ASCII_BYTES * max(1, len(element.properties))
    return sum((prop.count_type or prop.type).itemsize for prop in element.properties)


def _read(path: Path, header: PlyHeader) -> tuple[dict[str, list[tuple[str, _Column]]], bool]:
    """The named columns of each element, in the order of the file, and whether data follow them."""
    found = {}
    with path.open("rb") as file:
        file.seek(header.size)
        text = io.TextIOWrapper(file, "ascii", errors="replace") if header.is_text else None
        for element in header.elements:
            columns = _read_binary(file, element) if text is None else _read_text(text, element)
            names = [prop.name for prop in element.properties]
            found[element.name] = list(zip(names, columns, strict=True))
        rest = file.read(_LOOK_BYTES) if text is None else text.read(_LOOK_BYTES)
    return found, bool(rest.strip())


def _read_text(file: TextIO, element: PlyElement) -> list[_Column]:
    rows = itertools.islice((line for line in file if not line.isspace()), element.count)
    if element.has_lists:
        return _split_lists(rows, element)
    first = next(rows, None)
    table = np.empty((0, len(element.properties)))
    if first is not None and element.properties:
        table = np.loadtxt(itertools.chain([first], rows), np.float64, comments=None, ndmin=2)
    if element.properties and len(table) < element.count:
        raise UserError(f"{len(table)} of {element.count} rows of element {element.name}")
    if table.shape[1] != len(element.properties):
        raise UserError(f"{table.shape[1]} numbers a row of element {element.name}")
    return [
        _Column(as_declared(table[:, i], prop.type), None)
        for i, prop in enumerate(element.properties)
    ]


def _split_lists(rows: Iterable[str], element: PlyElement) -> list[_Column]:
    """Columns of rows, parts of which are as long as the word before them says."""
    words_of: list[list[str]] = [[] for _ in element.properties]
    counts: list[list[int]] = [[] for _ in element.properties]
    num_rows = 0
    for words in map(str.split, rows):
        num_rows, start = num_rows + 1, 0
        for i, prop in enumerate(element.properties):
            count = 1
            if prop.count_type is not None:
                count, start = _length_of_list(words[start : start + 1]), start + 1
            if start + count > len(words):
                raise UserError(f"a row of element {element.name} is too short")
            words_of[i] += words[start : start + count]
            counts[i].append(count)
            start += count
    if num_rows < element.count:
        raise UserError(f"{num_rows} of {element.count} rows of element {element.name}")
    return [
        _Column(
            as_declared(np.array(words_of[i], np.str_).astype(np.float64), prop.type),
            None if prop.count_type is None else np.array(counts[i], np.int64),
        )
        for i, prop in enumerate(element.properties)
    ]


def _length_of_list(words: list[str]) -> int:
    if not words or not (words[0].isascii() and words[0].isdigit()):
        raise UserError(f"{' '.join(words) or 'nothing'!r} is not the length of a list")
    return int(words[0])


def _read_binary(file: BinaryIO, element: PlyElement) -> list[_Column]:
    if not element.properties:
        return []
    if element.has_lists:
        start = file.tell()
        data = file.read()
        columns, size = _alike(data, element) or _one_by_one(data, element, element.count)
        file.seek(start + size)
        return columns
    dtype = _row_type(element, [1 for _ in element.properties])
    data = file.read(element.count * dtype.itemsize)
    if len(data) < element.count * dtype.itemsize:
        raise UserError(f"{len(data)} bytes hold no {element.count} rows of {element.name}")
    rows = np.frombuffer(data, dtype)
    return [_Column(rows[f"value{i}"].reshape(-1), None) for i in range(len(element.properties))]


def _row_type(element: PlyElement, counts: list[int]) -> np.dtype:
    """The record of a row whose lists have these lengths; numbers stand for the names."""
    parts = []
    for i, prop in enumerate(element.properties):
        if prop.count_type is not None:
            parts.append((f"count{i}", prop.count_type))
        parts.append((f"value{i}", prop.type, (counts[i],)))
    return np.dtype(parts)


def _alike(data: bytes, element: PlyElement) -> tuple[list[_Column], int] | None:
    """Columns of rows whose lists are all as long as those of the first row, and their size.

    None where they are not. Meshes of triangles are so, and a loop over their faces takes long.
    """
    if not element.count:
        return _one_by_one(data, element, 0)
    first, _ = _one_by_one(data, element, 1)
    lengths = [1 if column.counts is None else int(column.counts[0]) for column in first]
    dtype = _row_type(element, lengths)
    if len(data) < element.count * dtype.itemsize:
        return None
    rows = np.frombuffer(data, dtype, element.count)
    columns = []
    for i, column in enumerate(first):
        counts = None if column.counts is None else rows[f"count{i}"].astype(np.int64)
        if counts is not None and np.any(counts != lengths[i]):
            return None
        columns.append(_Column(rows[f"value{i}"].reshape(-1), counts))
    return columns, rows.nbytes


def _one_by_one(data: bytes, element: PlyElement, num_rows: int) -> tuple[list[_Column], int]:
    """Columns of the first rows, whatever the lengths of their lists, and the size of the rows."""
    pieces: list[list[bytes]] = [[] for _ in element.properties]
    counts: list[list[int]] = [[] for _ in element.properties]
    orders = [
        "big" if (prop.count_type or prop.type).str.startswith(">") else "little"
        for prop in element.properties
    ]
    offset = 0
    for _ in range(num_rows):
        for i, prop in enumerate(element.properties):
            count = 1
            if prop.count_type is not None:
                head = data[offset : offset + prop.count_type.itemsize]
                if len(head) < prop.count_type.itemsize:
                    raise UserError(f"the rows of element {element.name} go beyond the file")
                count = int.from_bytes(head, orders[i], signed=prop.count_type.kind == "i")
                offset += len(head)
            end = offset + count * prop.type.itemsize
            if not offset <= end <= len(data):
                raise UserError(f"the rows of element {element.name} go beyond the file")
            pieces[i].append(data[offset:end])
            counts[i].append(count)
            offset = end
    columns = [
        _Column(
            np.frombuffer(b"".join(pieces[i]), prop.type),
            None if prop.count_type is None else np.array(counts[i], np.int64),
        )
        for i, prop in enumerate(element.properties)
    ]
    return columns, offset


def _faces(path: Path, columns: list[tuple[str, _Column]], num_vertices: int) -> Array | None:
    """Fans of triangles [F, 3] int32; None where there are none."""
    polygons = [column for name, column in columns if name in LISTS and column.counts is not None]
    if not polygons:
        return None
    corners, counts = polygons[0]
    wrong = ~((corners >= 0) & (corners < num_vertices) & (corners == np.floor(corners)))
    if wrong.any():
        raise UserError(
            f"{path}: a face names vertex {corners[wrong][0]} of {num_vertices}; "
            "export the mesh again."
        )
    num_triangles = np.maximum(counts - 2, 0)
    if not num_triangles.any():
        return None
    first = np.repeat(np.cumsum(counts) - counts, num_triangles)
    within = np.arange(num_triangles.sum()) - np.repeat(
        np.cumsum(num_triangles) - num_triangles, num_triangles
    )
    triangles = np.stack([first, first + within + 1, first + within + 2], axis=1)
    return corners[triangles].astype(np.int32)
