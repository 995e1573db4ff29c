"""Single points that people say something about: `clicks.csv`.

One row per point, in the unit and frame of the scan file:

    scene,x,y,z,class,answer
    office,1.20,0.35,0.44,chair,yes      the point is of the class
    office,2.05,1.10,0.71,table,no       it is not of the class
    office,0.10,3.00,1.90,,none          it is of none of the classes
    office,4.00,2.20,0.10,,unsure        asked, and not known: says nothing, is not asked again

A column `seconds` may follow, the time that the answer took. A scene is named as in `tags.csv`.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mprm_jax.errors import UserError
from mprm_jax.evidence.tags import SCENE, SECONDS, find_scene, read_seconds
from mprm_jax.scans.typed_files import CsvRow, read_csv_rows, suggest

POINT = ("x", "y", "z")
CLASS, ANSWER = "class", "answer"
YES, NO, NONE, UNSURE = ANSWERS = ("yes", "no", "none", "unsure")
COLUMNS = (SCENE, *POINT, CLASS, ANSWER)


class ClickRow(NamedTuple):
    """What someone said about one point."""

    line: int  # in the file
    point: tuple[float, float, float]  # unit and frame of the scan file
    class_name: str | None  # None for the answers "none" and "unsure"
    answer: str  # one of ANSWERS
    seconds: float | None  # that it took, if noted


class ClickTable(NamedTuple):
    """Everything `clicks.csv` says."""

    rows: Mapping[str, Sequence[ClickRow]]  # by scene, in the order of the file


def read_clicks(path: Path, scenes: Collection[str], classes: Sequence[str]) -> ClickTable:
    """Reads `clicks.csv`.

    Args:
      path: of the file.
      scenes: the scans that exist.
      classes: names of all classes.

    Raises:
      ValueError: a column is missing or unknown, or a line names an unknown scene or class, has a
        bad number or an unknown answer.
    """
    header, lines = read_csv_rows(path)
    missing = [name for name in COLUMNS if name not in header]
    spare = [name for name in header if name not in (*COLUMNS, SECONDS)]
    if missing or spare:
        wrong = f"no column {missing[0]!r}" if missing else f"column {spare[0]!r} is unknown"
        raise UserError(f"{path}: {wrong}; write the header '{','.join(COLUMNS)}'.")
    rows: dict[str, list[ClickRow]] = {}
    for line in lines:
        scene = find_scene(path, line, scenes)
        answer = line.cells[ANSWER]
        if answer not in ANSWERS:
            raise UserError(
                f"{path}: line {line.line} has the answer {answer!r}; {suggest(answer, ANSWERS)}"
            )
        name = _class(path, line, classes)
        row = ClickRow(line.line, _point(path, line), name, answer, read_seconds(path, line))
        rows.setdefault(scene, []).append(row)
    return ClickTable(rows)


def _class(path: Path, row: CsvRow, classes: Sequence[str]) -> str | None:
    name, answer = row.cells[CLASS], row.cells[ANSWER]
    if answer in (NONE, UNSURE):
        if name:
            raise UserError(
                f"{path}: line {row.line} answers {answer!r} and names class {name!r}; leave the "
                "class blank, or answer yes or no."
            )
        return None
    if name not in classes:
        raise UserError(
            f"{path}: line {row.line} names class {name!r}, which is none of this data set; "
            f"{suggest(name, classes)}"
        )
    return name


def _point(path: Path, row: CsvRow) -> tuple[float, float, float]:
    texts = [row.cells[name] for name in POINT]
    try:
        x, y, z = (float(text) for text in texts)
        if not all(map(math.isfinite, (x, y, z))):
            raise ValueError
    except ValueError:
        raise UserError(
            f"{path}: line {row.line} has x, y, z {', '.join(map(repr, texts))}; write three "
            "numbers."
        ) from None
    return x, y, z
