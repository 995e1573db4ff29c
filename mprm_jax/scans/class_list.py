"""The classes of a folder of scans, from `classes.txt`.

One class per line, in index order. Lines are names, or a point label and a name:

    wall                 1 floor
    floor                2 wall
    shower curtain       5 AGV

With plain names the label of a point is the index of its class, from 0. With `label name` lines,
other labels are unannotated points. Empty lines and lines that start with `#` are skipped.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.scans.names import read_typed
from mprm_jax.types import IGNORED, Array

MAX_LISTED = 40  # names in an error message
NUMBERED = re.compile(r"(-?\d+)\s+(\S.*)")


class ClassList(NamedTuple):
    """Names in index order and the point label that files use for each."""

    names: tuple[str, ...]
    labels: tuple[int, ...]


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
