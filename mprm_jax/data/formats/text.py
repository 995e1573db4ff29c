"""Text tables: XYZ, TXT and CSV, separated by blanks, tabs, commas or semicolons.

With a header line the columns are found by name. Without one, their number decides:

    3  x y z                    6  x y z r g b
    4  x y z label              7  x y z r g b label

A fourth of four columns that is not whole numbers is taken for an intensity and left out.
Lines that start with `#` or `//` are comments; one that names x, y and z is the header.
"""

import itertools
from pathlib import Path

import numpy as np

from mprm_jax.data.formats.cloud import CloudFile, cloud_from_columns
from mprm_jax.types import Array

LAYOUTS = {
    3: ("x", "y", "z"),
    4: ("x", "y", "z", "label"),
    6: ("x", "y", "z", "red", "green", "blue"),
    7: ("x", "y", "z", "red", "green", "blue", "label"),
}
COMMENTS = ("#", "//")
MAX_HEADER_LINES = 50


def read_text(path: Path) -> CloudFile:
    """Reads a table of points with or without a header line.

    Raises:
      ValueError: a line does not fit the others, or the columns cannot be told apart.
    """
    num_skipped, header, delimiter = _inspect(path)
    try:
        # comments=None: a '#' inside the data would silently cut its line.
        with open(path, encoding="utf-8-sig") as file:
            body = itertools.islice(file, num_skipped, None)
            table = np.loadtxt(body, np.float64, comments=None, delimiter=delimiter, ndmin=2)
    except ValueError as error:
        raise ValueError(
            f"{path}: broken table below line {num_skipped} ({error}); "
            "correct the line or export the scan again."
        ) from error
    return cloud_from_columns(path, name_columns(path, header, table))


def is_text_cloud(path: Path) -> bool:
    """Says whether the first lines of a text file look like a table of points."""
    try:
        _inspect(path)
    except ValueError:
        return False
    return True


def _inspect(path: Path) -> tuple[int, list[str] | None, str | None]:
    """Finds the lines to skip, the column names if there are any, and the delimiter."""
    header = None
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(itertools.islice(file, MAX_HEADER_LINES)):
            text = line.strip()
            for mark in COMMENTS:
                text = text.removeprefix(mark)
            delimiter = next((mark for mark in (",", ";") if mark in text), None)
            words = [word.strip().strip('"') for word in text.split(delimiter)]
            if {"x", "y", "z"} <= {word.lower() for word in words}:
                header = words
            elif not line.strip().startswith(COMMENTS) and _are_numbers(words):
                return number, header, delimiter
    raise ValueError(
        f"{path}: no line of at least three numbers at the start, so not a table of points; "
        "export the scan as 'x y z' or 'x y z r g b' lines."
    )


def _are_numbers(words: list[str]) -> bool:
    try:
        return len([float(word) for word in words]) >= 3
    except ValueError:
        return False


def name_columns(path: Path, header: list[str] | None, table: Array) -> dict[str, Array]:
    num_columns = table.shape[1]
    if header is not None:
        if len(header) != num_columns:
            raise ValueError(
                f"{path}: the header names {len(header)} columns, the lines have {num_columns}; "
                "correct the header."
            )
        return dict(zip(header, table.T, strict=True))
    if num_columns not in LAYOUTS:
        raise ValueError(
            f"{path}: {num_columns} columns without names; "
            "add a first line such as 'x y z red green blue label'."
        )
    columns = dict(zip(LAYOUTS[num_columns], table.T, strict=True))
    if num_columns == 4 and not np.array_equal(table[:, 3], np.floor(table[:, 3])):
        columns.pop("label")
    return columns
