"""Text tables: XYZ, TXT and CSV, separated by blanks, tabs, commas or semicolons.

With a header line the columns are found by name, without one by `name_columns`. The header is the
last line above the table that names x, y and z; it may be a comment, after `#` or `//`. Another
line of as many words as there are columns is taken for a header that nobody understands.
"""

import codecs
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.scans.formats.cloud import (
    UNITS,
    CloudFile,
    cloud_from_columns,
    listed,
    names_coordinates,
)
from mprm_jax.scans.formats.columns import name_columns
from mprm_jax.scans.formats.notes import Note

QUOTE = '"'
COMMENTS = ("#", "//")
MAX_HEADER_LINES = 50  # that are looked at before the table is read
# Delimiters, and whether commas are decimal points, in the order in which they are tried.
WRITTEN = ((";", False), (",", False), (None, False), (";", True), (None, True))
DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
UNIT_OF_X = re.compile(r"\b(?:x|easting|east)\s*[\[(]\s*([a-z-]+)\s*[\])]", re.IGNORECASE)
OTHER_UNITS = ("mm", "cm", "dm", "km", "in", "inch", "ft", "feet", "us-ft")


class _Layout(NamedTuple):
    """How the lines of a table are written."""

    above: list[str]  # lines before the first row
    num_columns: int
    delimiter: str | None  # None for blanks and tabs
    decimal_comma: bool
    trailing: bool  # a delimiter stands behind the last number of a row


def read_text(path: Path) -> CloudFile:
    """Reads a table of points with or without a header line.

    Raises:
      ValueError: a line does not fit the others, or the columns cannot be told apart.
    """
    layout = _find_table(path)
    header, notes = _find_header(path, layout)
    try:
        with _open(path) as file:
            # comments=None: a '#' inside the data would silently cut its line.
            table = np.loadtxt(
                _rows(file, layout),
                np.float64,
                comments=None,
                delimiter=layout.delimiter,
                quotechar=QUOTE,
                ndmin=2,
            )
    except ValueError as error:
        raise UserError(
            f"{path}: broken table ({_reason(error)}); correct the row or export the scan again."
        ) from error
    columns, remarks = name_columns(path, header, table)
    if layout.decimal_comma:
        notes += (Note("commas inside numbers are taken for decimal points"),)
    return cloud_from_columns(path, columns, notes=notes + remarks)


def is_text_cloud(path: Path) -> bool:
    """Says whether the first lines of a text file look like a table of points."""
    try:
        _find_table(path)
    except ValueError:
        return False
    return True


def _open(path: Path) -> TextIO:
    """Opens a text of any encoding; numbers are ASCII in all of them, other words do not count."""
    with path.open("rb") as file:
        head = file.read(2)
    wide = head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return path.open(encoding="utf-16" if wide else "utf-8-sig", errors="replace")


def _find_table(path: Path) -> _Layout:
    """Finds the first row, and how the first rows are written: one may have no commas at all."""
    with _open(path) as file:
        lines = [line.strip() for line in itertools.islice(file, MAX_HEADER_LINES)]
    for number, line in enumerate(lines):
        if not line.startswith(COMMENTS) and (first := _row_layout([line])) is not None:
            rows = [row for row in lines[number:] if row]
            return (_row_layout(rows) or first)._replace(above=lines[:number])
    raise UserError(
        f"{path}: no line of at least three numbers at the start, so not a table of points; "
        "export the scan as 'x y z' or 'x y z r g b' lines."
    )


def _row_layout(rows: list[str]) -> _Layout | None:
    """How lines of numbers are written; None if one holds something else."""
    for delimiter, decimal_comma in WRITTEN:
        if delimiter is not None and delimiter not in rows[0]:
            continue
        plain = [DECIMAL_COMMA.sub(".", row) for row in rows] if decimal_comma else rows
        trailing = delimiter is not None and any(row.endswith(delimiter) for row in plain)
        words = [row.removesuffix(delimiter or "").split(delimiter) for row in plain]
        if len({len(row) for row in words}) == 1 and all(map(_are_numbers, words)):
            return _Layout([], len(words[0]), delimiter, decimal_comma, trailing)
    return None


def _are_numbers(words: list[str]) -> bool:
    try:
        return len([float(word.strip().strip(QUOTE)) for word in words]) >= 3
    except ValueError:
        return False


def _find_header(path: Path, layout: _Layout) -> tuple[list[str] | None, tuple[Note, ...]]:
    """The names of the columns in the lines above the table, the nearest first."""
    for line in reversed(layout.above):
        text = line
        for mark in COMMENTS:
            text = text.removeprefix(mark)
        for mark in dict.fromkeys((layout.delimiter, ",", ";", None)):
            words = _words(text, mark)
            if names_coordinates(words):
                return words, _of_unit(text)
            expected = mark == layout.delimiter and len(words) == layout.num_columns
            if expected and not line.startswith(COMMENTS):
                raise UserError(
                    f"{path}: the header names {listed(words)}, not x, y and z; "
                    "call the columns x y z red green blue label, or remove the line."
                )
    return None, ()


def _words(text: str, delimiter: str | None) -> list[str]:
    """Splits a header; units may hold blanks, and a delimiter may end the line."""
    words = UNITS.sub("", text).strip().split(delimiter)
    return [word.strip().strip(QUOTE) for word in (words[:-1] if words[-1:] == [""] else words)]


def _of_unit(header: str) -> tuple[Note, ...]:
    found = UNIT_OF_X.search(header)
    if found is None or found[1].lower() not in OTHER_UNITS:
        return ()
    text = f"its header says that x is in {found[1]}; only data.scale (predict: --scale) counts"
    return (Note(text, warns=True),)


def _reason(error: ValueError) -> str:
    """What NumPy says of a row, counted from 1, without its advice to programmers."""
    reason = str(error).partition(";")[0].strip(".")
    if reason.startswith("could not convert"):  # here it counts from 0
        reason = re.sub(r"row (\d+)", lambda row: f"row {int(row[1]) + 1}", reason)
    return reason.replace("at row", "in the table's row")


def _rows(file: TextIO, layout: _Layout) -> Iterator[str]:
    """The lines of the table as `loadtxt` reads them."""
    lines = itertools.islice(file, len(layout.above), None)
    if layout.decimal_comma:
        lines = (DECIMAL_COMMA.sub(".", line) for line in lines)
    if layout.trailing:
        lines = (line.rstrip().removesuffix(layout.delimiter) for line in lines)
    return lines
