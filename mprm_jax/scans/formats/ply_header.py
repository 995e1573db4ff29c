"""The header of a PLY file, by one rule for everyone who opens one.

Careless writers are understood: any line ends, blanks behind words, lines in any order, comments of
any length and encoding. The counts of the elements are held against the size of the file.
"""

import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from mprm_jax.errors import UserError

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
