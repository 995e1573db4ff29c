"""Writes what people say while they look: `tags.csv`, `clicks.csv` and `classes.txt`.

The files belong to people, who also open them in editors. So each change reads them again, alters
one line, leaves all others as they are, and is on disk when it returns. A file that its reader
refuses is never written; see mprm_jax/evidence/tags.py and clicks.py.
"""

import contextlib
import hashlib
import math
import os
import pathlib
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mprm_jax.errors import UserError
from mprm_jax.evidence.clicks import (
    ANSWER,
    CLASS,
    POINT,
    ClickRow,
    ClickTable,
    read_clicks,
)
from mprm_jax.evidence.clicks import COLUMNS as CLICK_COLUMNS
from mprm_jax.evidence.tags import (
    GEOMETRY,
    NOT_CLASSES,
    SCENE,
    SECONDS,
    TAGS,
    UNSURE,
    TagRow,
    TagTable,
    read_tags,
)
from mprm_jax.scans.scan_files import CLASSES_FILE, CLICKS_FILE, TAGS_FILE
from mprm_jax.scans.typed_files import NUMBERED, ClassList, composed, read_class_list
from mprm_jax.tagging.csv_lines import CsvLines
from mprm_jax.types import MAX_CLASSES
from mprm_jax.writing import explain_failed_write, whole_file

NEW_TAGS = (SCENE, *GEOMETRY, TAGS, SECONDS, UNSURE)
NEW_CLICKS = (*CLICK_COLUMNS, SECONDS)
SAME_BALL = 1e-3  # meters; balls of the grid lie decimeters apart
MAX_NAME = 60  # letters of a class
_DECIMALS = 4  # of meters: tenths of a millimeter
_TRIES = 10  # against an editor that saves again and again
_NEXT_CLASSES = f".{CLASSES_FILE}.next"  # with a class whose column is being added
# A new class needs a label where `classes.txt` gives labels, one that no scan uses for anything.
_FREE_LABEL = 1_000_000


class Said(NamedTuple):
    """What someone said of a ball, or of a whole scan."""

    tags: frozenset[str]  # names of classes
    unsure: bool  # the person did not know
    seconds: float | None = None

    def agrees(self, other: "Said | None") -> bool:
        """Whether both say the same, whatever time it took."""
        return other is not None and (self.tags, self.unsure) == (other.tags, other.unsure)


class Evidence(NamedTuple):
    """All that the files say."""

    classes: tuple[str, ...]
    tags: TagTable
    clicks: ClickTable

    def said(self, scene: str) -> list[tuple[TagRow, Said]]:
        """The rows of a scene, and what each says."""
        sure, unsure = self.tags.rows.get(scene, ()), self.tags.unsure.get(scene, ())
        return [(row, Said(row.present, False, row.seconds)) for row in sure] + [
            (row, Said(row.present, True, row.seconds)) for row in unsure
        ]

    def of_ball(
        self, scene: str, ball: Sequence[float] | None, tolerance: float
    ) -> tuple[TagRow, Said] | None:
        """The row of a ball, of the whole scan for None, and what it says; None without one.

        Args:
          ball: x, y, z, radius in the unit of the scan file, as the tolerance.
        """
        same = (pair for pair in self.said(scene) if is_same_ball(pair[0].ball, ball, tolerance))
        return next(same, None)


class ChangedError(UserError):
    """The files say something else than whoever wants to change them saw."""


class _ChangedMeanwhileError(Exception):
    """Somebody else wrote the file between reading and writing: do it again."""


class _Contents(NamedTuple):
    """The files byte by byte; None for one that is not there."""

    tags: bytes | None
    clicks: bytes | None
    classes: bytes | None


class TagFiles:
    """The files of one data set; safe to use from several threads."""

    def __init__(
        self,
        folder: pathlib.Path,
        scenes: Mapping[str, str],
        *,
        classes: Sequence[str] | None = None,
        scale: float = 1.0,
    ):
        """Names the files; nothing is read yet.

        Args:
          folder: that holds them.
          scenes: how a new row calls each scan.
          classes: of a data set that fixes them; None if people name them.
          scale: meters per unit of the scan files.
        """
        self.folder, self.scale, self.scenes = folder, scale, tuple(scenes)
        self._scenes, self._fixed = scenes, None if classes is None else tuple(classes)
        self._tags, self._clicks = folder / TAGS_FILE, folder / CLICKS_FILE
        self._classes = folder / CLASSES_FILE
        self._changing = threading.Lock()
        self._last: tuple[_Contents, Evidence] | None = None

    def read(self) -> Evidence:
        """What the files say now.

        Raises:
          UserError: one of them is wrong.
        """
        return self._read()[1]

    def say(
        self, scene: str, ball: Sequence[float] | None, said: Said | None, before: Said | None
    ) -> None:
        """Writes what someone said of a ball; None takes it back.

        Args:
          ball: x, y, z, radius in the unit of the scan file; None for the whole scan.
          said: its seconds are added to those of before.
          before: what they saw; to say again what is there already is no conflict.

        Raises:
          ChangedError: the file says something else by now.
          UserError: the file is wrong, or cannot be written.
        """

        def change(contents: _Contents, evidence: Evidence) -> None:
            found = evidence.of_ball(scene, ball, self.tolerance)
            now = found[1] if found else None
            as_seen = before.agrees(now) if before else now is None
            as_meant = said.agrees(now) if said else now is None
            if not (as_seen or as_meant):
                raise ChangedError("this was changed elsewhere; look again, then say it again.")
            if not as_seen or (found is None and said is None):
                return
            _require_classes(evidence)
            table = CsvLines(contents.tags, NEW_TAGS)
            if said is None:
                table.remove(found[0].line)
            else:
                line = found[0].line if found else None
                whole = said._replace(seconds=_sum(said.seconds, now.seconds if now else None))
                table.put(line, self._tag_cells(table, scene, ball, whole, evidence.classes))
            self._write_tags(table.data(), contents, scene, ball, said)

        self._change(change)

    def click(
        self,
        scene: str,
        point: Sequence[float],
        class_name: str | None,
        answer: str,
        seconds: float | None,
    ) -> str:
        """Adds a line to `clicks.csv` and gives its id, see `click_ids`.

        Args:
          point: in the unit and frame of the scan file.
        """
        named = [""]

        def change(contents: _Contents, evidence: Evidence) -> None:
            _require_classes(evidence)
            table = CsvLines(contents.clicks, NEW_CLICKS)
            cells = dict(zip(POINT, map(self._number, point), strict=True))
            cells |= {SCENE: self._scenes[scene], CLASS: class_name or "", ANSWER: answer}
            table.put(None, cells | {SECONDS: _seconds(seconds)})
            self._write(self._clicks, table.data(), contents.clicks, self._check_clicks(evidence))
            named.extend(click_ids(self.read().clicks.rows.get(scene, ())))

        self._change(change)
        return named[-1]

    def unclick(self, scene: str, click: str) -> None:
        """Removes a line of `clicks.csv` by its id.

        Raises:
          ChangedError: it is not there.
        """

        def change(contents: _Contents, evidence: Evidence) -> None:
            rows = evidence.clicks.rows.get(scene, ())
            lines = dict(zip(click_ids(rows), (row.line for row in rows), strict=True))
            if click not in lines:
                raise ChangedError("this click is gone already; look again.")
            table = CsvLines(contents.clicks, NEW_CLICKS)
            table.remove(lines[click])
            self._write(self._clicks, table.data(), contents.clicks, self._check_clicks(evidence))

        self._change(change)

    def add_class(self, name: str) -> None:
        """Adds a class after the others; one that is there already stays as it is.

        Raises:
          UserError: the name cannot be written, or the data set fixes its classes.
        """
        name = composed(name).strip()

        def change(contents: _Contents, evidence: Evidence) -> None:
            if name in evidence.classes:
                return
            self._check_name(name, evidence.classes)
            columns = None
            if contents.tags is None and contents.classes is None:
                # Not classes.txt: it would say that labels in the scan files mean its classes.
                columns = CsvLines(None, (SCENE, *GEOMETRY, name, SECONDS, UNSURE)).data()
            elif contents.tags is not None:
                table = CsvLines(contents.tags, NEW_TAGS)
                if TAGS not in table.header:
                    table.add_columns([name], lambda is_unsure: "" if is_unsure else "0")
                    columns = table.data()
            self._write_class(name, columns, contents)

        self._change(change)

    @property
    def tolerance(self) -> float:
        """In the unit of the files: balls that differ by no more are one."""
        return SAME_BALL / self.scale

    def _read(self) -> tuple[_Contents, Evidence]:
        """The files, byte by byte and as their readers understand them."""
        contents = self._contents()
        for _ in range(_TRIES):
            if self._last is not None and self._last[0] == contents:
                return self._last
            try:
                evidence = self._parsed(contents)
            except FileNotFoundError:
                evidence = None  # somebody removed it just now
            again = self._contents()
            if again == contents and evidence is not None:
                self._last = (contents, evidence)
                return self._last
            contents = again
        raise UserError(f"{self.folder}: {TAGS_FILE} changes all the time; close other programs.")

    def _contents(self) -> _Contents:
        return _Contents(*map(_bytes, (self._tags, self._clicks, self._classes)))

    def _parsed(self, contents: _Contents) -> Evidence:
        classes = self._class_names(contents)
        tags = TagTable(classes or (), {}, {})
        if contents.tags is not None:
            tags = read_tags(self._tags, self._scenes, classes)
        clicks = ClickTable({})
        if contents.clicks is not None:
            if not tags.classes:
                raise UserError(
                    f"{self._clicks}: nothing says which classes there are; bring {TAGS_FILE} or "
                    f"{CLASSES_FILE} back."
                )
            clicks = read_clicks(self._clicks, self._scenes, tags.classes)
        return Evidence(tags.classes, tags, clicks)

    def _class_names(self, contents: _Contents) -> tuple[str, ...] | None:
        if self._fixed is not None or contents.classes is None:
            return self._fixed
        return read_class_list(self._classes).names

    def _change(self, change: Callable[[_Contents, Evidence], None]) -> None:
        """Makes a change to what the files say now, one at a time."""
        with self._changing:
            for _ in range(_TRIES):
                with contextlib.suppress(_ChangedMeanwhileError):
                    change(*self._read())
                    return
        raise UserError(f"{self.folder}: other programs write these files; close them.")

    def _tag_cells(
        self,
        table: CsvLines,
        scene: str,
        ball: Sequence[float] | None,
        said: Said,
        classes: Sequence[str],
    ) -> dict[str, str]:
        """The cells of a row by column; those of the place only count for a new row."""
        place = [""] * len(GEOMETRY) if ball is None else [self._number(value) for value in ball]
        cells = {SCENE: self._scenes[scene]} | dict(zip(GEOMETRY, place, strict=True))
        cells |= {SECONDS: _seconds(said.seconds), UNSURE: str(int(said.unsure))}
        if TAGS in table.header:
            # In the order of the classes, whatever the order of the keys.
            return cells | {TAGS: ";".join(name for name in classes if name in said.tags)}
        blank = "" if said.unsure else "0"
        return cells | {name: "1" if name in said.tags else blank for name in classes}

    def _number(self, value: float) -> str:
        """A length or place in the unit of the files, without digits that mean nothing."""
        decimals = max(0, _DECIMALS + math.floor(math.log10(self.scale)))
        return f"{value + 0.0:.{decimals}f}"

    def _check_name(self, name: str, classes: Sequence[str]) -> None:
        lowered = {known.lower(): known for known in classes}
        if self._fixed is not None:
            raise UserError("the classes of this data set are fixed; none can be added.")
        if len(classes) >= MAX_CLASSES:
            raise UserError(f"there are {len(classes)} classes, and no more can be told apart.")
        if name.lower() in lowered:
            raise UserError(f"there is a class {lowered[name.lower()]!r} already; take that.")
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise UserError(f"write a name of 1 to {MAX_NAME} letters.")
        if ";" in name or name.startswith("#") or NUMBERED.fullmatch(name):
            raise UserError(f"{name!r}: write a name without ; and # and no number before it.")
        if name.lower() in NOT_CLASSES:
            raise UserError(f"{name!r} is a column of {TAGS_FILE}; choose another name.")

    def _write_tags(
        self,
        data: bytes,
        contents: _Contents,
        scene: str,
        ball: Sequence[float] | None,
        said: Said | None,
    ) -> None:
        """Writes `tags.csv` if its reader finds there what was said."""

        def check(partial: pathlib.Path) -> None:
            table = read_tags(partial, self._scenes, self._class_names(contents))
            found = Evidence((), table, ClickTable({})).of_ball(scene, ball, self.tolerance)
            if not (said.agrees(found[1] if found else None) if said else found is None):
                raise UserError(
                    f"{self._tags}: cannot hold this answer; see that no class name has a ';' "
                    "and no scan a name that starts or ends with a blank."
                )

        self._write(self._tags, data, contents.tags, check)

    def _check_clicks(self, evidence: Evidence) -> Callable[[pathlib.Path], ClickTable]:
        return lambda partial: read_clicks(partial, self._scenes, evidence.classes)

    def _write_class(self, name: str, columns: bytes | None, contents: _Contents) -> None:
        """Adds a line to `classes.txt`, or a column to `tags.csv`, or both.

        The two belong together: killed between them, `finish_class` does the second.

        Args:
          columns: `tags.csv` with one more column, where it has columns.
        """
        if columns is not None and contents.classes is None:
            self._write(self._tags, columns, contents.tags, self._check_columns(None))
            return
        lines = _with_class(contents.classes, read_class_list(self._classes), name)
        if columns is None:
            self._write(self._classes, lines, contents.classes, read_class_list)
            return
        after = self._classes.with_name(_NEXT_CLASSES)
        with explain_failed_write(after):
            _write_synced(after, lines)
        classes = (*read_class_list(after).names,)
        try:
            self._write(self._tags, columns, contents.tags, self._check_columns(classes))
        except BaseException:
            after.unlink(missing_ok=True)
            raise
        finish_class(self.folder)

    def _check_columns(self, classes: Sequence[str] | None) -> Callable[[pathlib.Path], TagTable]:
        return lambda partial: read_tags(partial, self._scenes, classes)

    def _write(
        self,
        path: pathlib.Path,
        data: bytes,
        before: bytes | None,
        check: Callable[[pathlib.Path], object],
    ) -> None:
        """Puts a file in the place of an older one, on disk when this returns.

        Raises:
          FailedWriteError: disk full or not writable; the older one is still there.
          _ChangedMeanwhileError: it is no longer what it was.
        """
        target = path.resolve()  # a link stays one
        with whole_file(target) as partial:
            _write_synced(partial, data)
            if before is not None:
                shutil.copymode(target, partial)
            check(partial)
            if _bytes(path) != before:
                raise _ChangedMeanwhileError
        _sync_folder(target.parent)


def click_ids(rows: Sequence[ClickRow]) -> list[str]:
    """A name for each click of a scan that stays when others come and go."""
    ids: list[str] = []
    for row in rows:
        text = repr((row.point, row.class_name, row.answer))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        ids.append(f"{digest}-{sum(known.startswith(digest) for known in ids)}")
    return ids


def is_same_ball(
    left: Sequence[float] | None, right: Sequence[float] | None, tolerance: float
) -> bool:
    """Whether two balls (x, y, z, radius) are one; None is the whole scan."""
    if left is None or right is None:
        return left is right
    return all(abs(a - b) <= tolerance for a, b in zip(left, right, strict=True))


def finish_class(folder: pathlib.Path) -> None:
    """Adds the line of a class whose column is in `tags.csv` already; does nothing twice."""
    after, classes = folder / _NEXT_CLASSES, folder / CLASSES_FILE
    if not after.is_file():
        return
    with explain_failed_write(classes):
        names, known = read_class_list(after).names, read_class_list(classes).names
        header = CsvLines((folder / TAGS_FILE).read_bytes(), NEW_TAGS).header
        if names[:-1] == known and names[-1] in header:
            after.replace(classes.resolve())
            _sync_folder(folder)
        after.unlink(missing_ok=True)


def _require_classes(evidence: Evidence) -> None:
    if not evidence.classes:
        raise UserError("there is no class yet; add one, then say what is here.")


def _with_class(data: bytes, names: ClassList, name: str) -> bytes:
    """`classes.txt` with one more line; comments and order stay."""
    newline = b"\r\n" if b"\r\n" in data else b"\n"
    if names.labels != tuple(range(len(names.labels))) or _is_numbered(data):
        name = f"{max(max(names.labels) + 1, _FREE_LABEL)} {name}"
    ended = data if data.endswith(b"\n") else data + newline
    return ended + name.encode() + newline


def _is_numbered(data: bytes) -> bool:
    """Whether `classes.txt` gives labels."""
    lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    return all(NUMBERED.fullmatch(line) for line in lines if line and not line.startswith("#"))


def _sum(*seconds: float | None) -> float | None:
    known = [value for value in seconds if value is not None]
    return sum(known) if known else None


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"


def _bytes(path: pathlib.Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write_synced(path: pathlib.Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: pathlib.Path) -> None:
    """Makes a new name in a folder last; systems that cannot do so do it by themselves."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
