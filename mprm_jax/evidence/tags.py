"""Class tags that people give whole scans or balls in them: `tags.csv`.

One row per tagged scan or ball, in one of two forms. Either every class has a column of 0 and 1:

    scene,x,y,z,radius,wall,floor,chair
    office,,,,,1,1,1
    hall,2.0,1.5,1.0,2.0,1,1,0

or a column `tags` lists names, separated by semicolons, and `classes.txt` names all classes:

    scene,tags
    office,wall;floor;chair

A row with x, y, z and radius filled tags the ball of that center, in the unit and frame of the
scan file; one with all four blank tags the whole scan. The four columns may be left out. A class
that is not tagged is known to be absent; a ball with none holds nothing of any class. A scene is
named by its path without suffix, relative to the folder; `floor1/office.ply`, `floor1/office` and
`floor1_office` are the same.

Two more columns may be there, which `mprm tag` writes: `seconds`, the time that the row took; and
`unsure`, where 1 says that the person did not know. Such a row counts as if it were not there.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mprm_jax.errors import UserError
from mprm_jax.scans.scan_files import typed_scene
from mprm_jax.scans.typed_files import CsvRow, read_csv_rows, scene_name, suggest

GEOMETRY = ("x", "y", "z", "radius")
SCENE = "scene"
TAGS = "tags"
SECONDS = "seconds"
UNSURE = "unsure"
NOT_CLASSES = (SCENE, TAGS, *GEOMETRY, SECONDS, UNSURE)  # columns


class TagRow(NamedTuple):
    """The classes of one ball, or of a whole scan if `ball` is None."""

    line: int  # in the file
    ball: tuple[float, float, float, float] | None  # x, y, z, radius; unit of the scan file
    present: frozenset[str]  # names of classes
    seconds: float | None = None  # that it took, if noted


class TagTable(NamedTuple):
    """Everything `tags.csv` says."""

    classes: tuple[str, ...]  # in index order
    rows: Mapping[str, Sequence[TagRow]]  # by scene
    unsure: Mapping[str, Sequence[TagRow]]  # by scene; these say nothing


def read_tags(
    path: Path, scenes: Collection[str], classes: Sequence[str] | None = None
) -> TagTable:
    """Reads `tags.csv`.

    Args:
      path: of the file.
      scenes: the scans that exist.
      classes: names in index order, from `classes.txt`; else the columns are the classes.

    Raises:
      ValueError: the columns fit neither form, or a line names an unknown scene or class, holds a
        bad number, or repeats another line.
    """
    header, lines = read_csv_rows(path)
    columns = _class_columns(path, header, classes)
    names = tuple(classes or columns)
    rows: dict[str, list[TagRow]] = {}
    unsure: dict[str, list[TagRow]] = {}
    for line in lines:
        scene, is_unsure = find_scene(path, line, scenes), _is_unsure(path, line)
        present: list[str] = []
        if not is_unsure:
            present = _listed(path, line, names) if TAGS in header else _ticked(path, line, columns)
        row = TagRow(line.line, _ball(path, line), frozenset(present), read_seconds(path, line))
        others = (*rows.get(scene, ()), *unsure.get(scene, ()))
        same = [other for other in others if other.ball == row.ball]
        if same:
            raise UserError(
                f"{path}: line {row.line} tags the same part of {scene!r} as line {same[0].line}; "
                "remove one."
            )
        if row.ball is None and not present and not is_unsure:
            raise UserError(
                f"{path}: line {row.line} gives scene {scene!r} no class; "
                "set at least one, or remove the line."
            )
        (unsure if is_unsure else rows).setdefault(scene, []).append(row)
    return TagTable(names, rows, unsure)


def read_seconds(path: Path, row: CsvRow) -> float | None:
    """The time in the column `seconds` of a line; None without one.

    Raises:
      ValueError: it is no time.
    """
    text = row.cells.get(SECONDS, "")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UserError(
            f"{path}: line {row.line} has {text!r} seconds; write a number of 0 or more, or leave "
            "the cell blank."
        )
    return seconds


def find_scene(path: Path, row: CsvRow, scenes: Collection[str]) -> str:
    """Finds the scene that the column `scene` of a line names.

    Raises:
      ValueError: there is no such scan.
    """
    name = row.cells[SCENE]
    flat = next((known for known in (scene_name(name), typed_scene(name)) if known in scenes), None)
    if flat is None:
        raise UserError(
            f"{path}: line {row.line} names scene {name!r}, which is no scan in this folder; "
            f"{suggest(name, sorted(scenes))}"
        )
    return flat


def _class_columns(path: Path, header: list[str], classes: Sequence[str] | None) -> list[str]:
    """Checks the header and gives its class columns, in order."""
    if SCENE not in header:
        raise UserError(f"{path}: no column 'scene'; name the scan of each row in one.")
    some = [name for name in GEOMETRY if name in header]
    if some and len(some) < len(GEOMETRY):
        raise UserError(
            f"{path}: columns {', '.join(some)} without the others of x, y, z, radius; "
            "add them or remove these."
        )
    columns = [name for name in header if name not in NOT_CLASSES]
    if TAGS in header:
        if columns:
            raise UserError(
                f"{path}: column {columns[0]!r} beside 'tags'; "
                "give either a column 'tags' or a column per class."
            )
        if classes is None:
            raise UserError(
                f"{path}: a column 'tags' needs {path.parent / 'classes.txt'}; "
                "write all class names there, one per line."
            )
        return []
    if not columns:
        raise UserError(f"{path}: no class columns; add one per class, or a column 'tags'.")
    if classes is not None:
        _check_classes(path, columns, classes)
    return columns


def _check_classes(path: Path, columns: Sequence[str], classes: Sequence[str]) -> None:
    unknown = [name for name in columns if name not in classes]
    if unknown:
        raise UserError(
            f"{path}: class {unknown[0]!r} is not in classes.txt; {suggest(unknown[0], classes)}"
        )
    missing = [name for name in classes if name not in columns]
    if missing:
        raise UserError(
            f"{path}: class {missing[0]!r} of classes.txt has no column; "
            "add it, with 1 where the class occurs and 0 elsewhere."
        )


def _ticked(path: Path, row: CsvRow, columns: Sequence[str]) -> list[str]:
    for name in columns:
        if row.cells[name] not in ("0", "1"):
            raise UserError(
                f"{path}: line {row.line} has {row.cells[name]!r} for class {name!r}; write 1 if "
                "it occurs, else 0."
            )
    return [name for name in columns if row.cells[name] == "1"]


def _is_unsure(path: Path, row: CsvRow) -> bool:
    text = row.cells.get(UNSURE, "")
    if text not in ("", "0", "1"):
        raise UserError(
            f"{path}: line {row.line} has {text!r} in column {UNSURE!r}; write 1 if the person did "
            "not know, else 0."
        )
    return text == "1"


def _listed(path: Path, row: CsvRow, classes: Sequence[str]) -> list[str]:
    names = [name.strip() for name in row.cells[TAGS].split(";") if name.strip()]
    for name in names:
        if name not in classes:
            raise UserError(
                f"{path}: line {row.line} names class {name!r}, which is not in classes.txt; "
                f"{suggest(name, classes)}"
            )
    return names


def _ball(path: Path, row: CsvRow) -> tuple[float, float, float, float] | None:
    texts = [row.cells.get(name, "") for name in GEOMETRY]
    if not any(texts):
        return None
    try:
        x, y, z, radius = (float(text) for text in texts)
    except ValueError as error:
        raise UserError(
            f"{path}: line {row.line} has x, y, z, radius {', '.join(map(repr, texts))}; "
            "write four numbers, or leave all four blank for a tag of the whole scan."
        ) from error
    if not all(map(math.isfinite, (x, y, z, radius))) or radius <= 0:
        raise UserError(
            f"{path}: line {row.line} has a ball at {x:g}, {y:g}, {z:g} of radius {radius:g}; "
            "write finite numbers and a radius above 0."
        )
    return x, y, z, radius
