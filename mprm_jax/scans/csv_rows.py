"""Small CSV files that people write by hand, as rows with line numbers for error messages."""

import csv
from pathlib import Path
from typing import NamedTuple

from mprm_jax.errors import UserError
from mprm_jax.scans.names import read_typed


class CsvRow(NamedTuple):
    """One line of a table; cells are stripped of outer blanks."""

    line: int  # 1-based, in the file
    cells: dict[str, str]  # by column name


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
