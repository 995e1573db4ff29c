"""What people type beside their scans: names of scenes and classes, small CSV files.

`classes.txt` has one class per line, in index order. Lines are names, or a point label and a name:

    wall                 1 floor
    floor                2 wall
    shower curtain       5 AGV

With plain names the label of a point is the index of its class, from 0. With `label name` lines,
other labels are unannotated points. Empty lines and lines that start with `#` are skipped.
"""

import csv
import difflib
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.types import IGNORED, Array

# File systems take 255; what is written for a scene adds a dot, a suffix and ".partial".
MAX_BYTES = 200
_DIGEST = 8  # hexadecimal digits
MAX_LISTED = 40  # names in an error message
# What Windows refuses in the name of a file, or takes for a device: learn.microsoft.com, "Naming
# Files, Paths, and Namespaces".
_REFUSED = re.compile(r'[<>:"|?*\\/\x00-\x1f]|[. ](?=[. ]*\Z)')
_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE)
NUMBERED = re.compile(r"(-?\d+)\s+(\S.*)")


class CsvRow(NamedTuple):
    """One line of a table; cells are stripped of outer blanks."""

    line: int  # 1-based, in the file
    cells: dict[str, str]  # by column name


class ClassList(NamedTuple):
    """Names in index order and the point label that files use for each."""

    names: tuple[str, ...]
    labels: tuple[int, ...]


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC).

    The same name is typed composed and stored decomposed, or the reverse, from system to system.
    """
    return unicodedata.normalize("NFC", text)


def read_typed(path: Path) -> str:
    """The text of a file that people write: UTF-8 with or without a mark, composed here.

    Raises:
      UserError: it is not UTF-8.
    """
    try:
        return composed(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        # As spreadsheets call it.
        form = "CSV UTF-8" if path.suffix.lower() == ".csv" else "UTF-8"
        raise UserError(f"{path}: not UTF-8 text ({error}); save it as {form}.") from error


def scene_name(path: str) -> str:
    """The name of the scan at a path without suffix, relative to the folder of scans.

    Folders are joined by "_", which also stands for what some system does not take in the name of
    a file; a name too long for a file ends in a short hash of the whole.
    """
    name = _REFUSED.sub("_", composed(path))
    if _DEVICE.match(name):
        name = f"_{name}"
    whole = name.encode("utf-8", "surrogateescape")
    if len(whole) <= MAX_BYTES:
        return name
    kept = whole[: MAX_BYTES - _DIGEST - 1].decode("utf-8", "ignore")
    return f"{kept}~{hashlib.sha256(whole).hexdigest()[:_DIGEST]}"


def read_csv_rows(path: Path) -> tuple[list[str], list[CsvRow]]:
    """Reads a comma-separated UTF-8 table with a header; empty lines are skipped.

    Returns:
      Column names in order, and the rows.

    Raises:
      ValueError: the file is empty, not UTF-8, separated by semicolons, names a column twice, or
        a line has more or fewer cells than the header.
    """
    reader = csv.reader(read_typed(path).splitlines(keepends=True))
    try:
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise UserError(
            f"{path}: line {reader.line_num} is no line of a table ({error}); save it as CSV UTF-8."
        ) from error
    lines = [(line, row) for line, row in lines if any(row)]
    if not lines:
        raise UserError(f"{path}: the file is empty; write a header line and one row per tag.")
    header = lines[0][1]
    if len(header) == 1 and ";" in header[0]:
        raise UserError(f"{path}: separated by semicolons; save it with commas.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice or not all(header):
        raise UserError(
            f"{path}: column {(twice or [''])[0]!r} is there twice or has no name; "
            "give every column its own name."
        )
    for line, row in lines[1:]:
        if len(row) != len(header):
            raise UserError(
                f"{path}: line {line} has {len(row)} cells but the header has {len(header)}; "
                "fill or remove cells."
            )
    return header, [CsvRow(line, dict(zip(header, row, strict=True))) for line, row in lines[1:]]


def read_class_list(path: Path) -> ClassList:
    """Reads `classes.txt`.

    Raises:
      ValueError: the file is not UTF-8, there is no class, only some lines have a label, or
        something is there twice.
    """
    lines = [line.strip() for line in read_typed(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    matches = [NUMBERED.fullmatch(line) for line in lines]
    if not lines:
        raise UserError(f"{path}: no classes; write one name per line.")
    if any(matches) and not all(matches):
        plain = lines[matches.index(None)]
        raise UserError(
            f"{path}: {plain!r} has no label, other lines have one; "
            "write 'label name' on every line or on none."
        )
    if all(matches):
        names = [match[2] for match in matches]
        labels = [int(match[1]) for match in matches]
    else:
        names, labels = lines, list(range(len(lines)))
    for values in (names, labels):
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise UserError(f"{path}: {twice[0]!r} is there twice; remove one line.")
    return ClassList(tuple(names), tuple(labels))


def to_class_indices(labels: Array, classes: ClassList) -> Array:
    """Converts point labels [N] of a file to [N] int32 class indices, IGNORED where not listed."""
    known = np.array(classes.labels)
    order = np.argsort(known)
    slots = np.minimum(np.searchsorted(known, labels, sorter=order), len(known) - 1)
    indices = order[slots]
    return np.where(known[indices] == labels, indices, IGNORED).astype(np.int32)


def suggest(name: str, names: Sequence[str]) -> str:
    """Words the nearest names for an error message: "did you mean 'door'?"."""
    lowered = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=3)
    if near:
        return f"did you mean {' or '.join(repr(lowered[known]) for known in near)}?"
    return "valid are " + ", ".join(names[:MAX_LISTED]) + ", ..." * (len(names) > MAX_LISTED)
