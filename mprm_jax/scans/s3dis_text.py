"""Text of one S3DIS object as numbers, with the broken characters of the releases repaired.

Known: a control character inside a number of Area_5/office_19 (103.0?0000, first release) and one
more in Area_5/hallway_6 (aligned release). Others may lurk, so the repair is generic, as in
KPConv-PyTorch: a control character is deleted if its line then has as many fields as a sound
neighbor, else it stands for a blank.
"""

import logging
import re
from pathlib import Path

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.types import Array

logger = logging.getLogger(__name__)

NUM_FIELDS = 6  # x y z r g b
BROKEN = re.compile(r"[^\t\x20-\x7e]+")  # control and non-ASCII characters


def read_object(path: Path) -> Array:
    """Reads the [N, 6] float64 table x y z r g b; it is repaired only if parsing fails.

    Raises:
      ValueError: the file is empty or a line cannot be repaired.
    """
    if not path.stat().st_size:
        raise UserError(f"{path}: the file is empty; unpack the room again.")
    try:
        table = np.loadtxt(path, np.float64, comments=None, ndmin=2, encoding="latin-1")
    except ValueError:
        table = _read_repaired(path)
    if table.shape[1] != NUM_FIELDS or not np.isfinite(table).all():
        raise UserError(
            f"{path}: lines of {table.shape[1]} fields, not {NUM_FIELDS} finite numbers; "
            "unpack the room again."
        )
    return table


def repair_lines(lines: list[str]) -> tuple[list[str], list[int]]:
    """Repairs lines that hold broken characters.

    Args:
      lines: of one file, without line ends.

    Returns:
      The lines, and the 0-based numbers of those that were changed.
    """
    broken = [i for i, line in enumerate(lines) if BROKEN.search(line)]
    repaired = list(lines)
    for i in broken:
        num_fields = _fields_of_neighbor(lines, i)
        joined = BROKEN.sub("", lines[i])
        repaired[i] = joined if len(joined.split()) == num_fields else BROKEN.sub(" ", lines[i])
    return repaired, broken


def _fields_of_neighbor(lines: list[str], i: int) -> int:
    """Counts the fields of the nearest line before or after that is not broken."""
    for distance in range(1, len(lines)):
        for j in (i - distance, i + distance):
            if 0 <= j < len(lines) and lines[j].strip() and not BROKEN.search(lines[j]):
                return len(lines[j].split())
    return NUM_FIELDS


def _read_repaired(path: Path) -> Array:
    lines = path.read_bytes().decode("latin-1").replace("\r", "").split("\n")
    lines, changed = repair_lines(lines)
    for i in changed:
        logger.warning(
            "%s: line %d held a broken character, now read as '%s'", path, i + 1, lines[i]
        )
    try:
        return np.loadtxt(lines, np.float64, comments=None, ndmin=2)
    except ValueError as error:
        raise UserError(
            f"{path}: a line is broken beyond repair ({error}); unpack the room again."
        ) from error
