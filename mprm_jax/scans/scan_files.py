"""Finds the scans below a folder: links are followed, what this program wrote is passed over.

What is passed over is counted in the log, never an error: people keep poses, features and results
beside their scans.
"""

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mprm_jax.errors import MissingError, UserError
from mprm_jax.progress import progress_bar
from mprm_jax.reading import read_json
from mprm_jax.scans.formats import READERS
from mprm_jax.scans.formats.labeled import LEGEND_SUFFIX, WRITERS, legend_path
from mprm_jax.scans.formats.text import is_text_cloud, read_text
from mprm_jax.scans.typed_files import composed, scene_name

logger = logging.getLogger(__name__)

TAGS_FILE = "tags.csv"
CLICKS_FILE = "clicks.csv"
QUESTIONS_FILE = "questions.csv"
CLASSES_FILE = "classes.txt"
SPLITS_FILE = "splits.csv"
MAX_LISTED = 10  # names in a line of the log

_OWN_FILES = (TAGS_FILE, CLICKS_FILE, QUESTIONS_FILE, CLASSES_FILE, SPLITS_FILE)
# Folders this program wrote: a JSON file in them, and what it says at least.
_OWN_FOLDERS = {
    "manifest.json": {"classes", "settings", "scenes", "format"},  # of a store
    "scene.json": {"classes", "settings", "files", "info"},  # in a store not yet complete
    "export.json": {"classes", "settings", "scenes", "format"},
    ".begun.json": {"classes", "settings", "scenes", "format"},
    "data.json": {"stage", "classes", "fingerprint"},  # of a run
    "rooms.json": {"version", "seed", "size"},  # of the embedded data set
}
_PREDICTED = b"confidence"  # a field of every prediction, spelled out near its start or end
_LOOK_BYTES = 1 << 16


class _Passed(NamedTuple):
    """What was passed over on the way, for the log."""

    outputs: list[Path]  # folders and files that this program wrote
    prose: list[Path]  # text files that are no tables of points
    closed: list[Path]  # folders that may not be read
    dangling: list[Path]  # links that lead nowhere


def scan_files(root: Path) -> list[Path]:
    """All scans below a folder, in order of their paths; what is passed over is logged.

    Raises:
      MissingError: there is no such folder, or no scan in it.
    """
    if not root.is_dir():
        raise MissingError(f"{root}: no such folder; give the one that holds the scans.")
    passed = _Passed([], [], [], [])
    files = list(_walk(root, passed))
    scans = []
    with progress_bar(len(files), "files", "looking at files", delay=1.0) as bar:
        for path in files:
            if _is_scan(path, passed):
                scans.append(path)
            bar.update()
    for what, paths in (
        ("written by this program", passed.outputs),
        ("not a table of points", passed.prose),
        ("may not be read", passed.closed),
        ("links that lead nowhere", passed.dangling),
    ):
        if paths:
            names = [str(path.relative_to(root)) for path in paths]
            logger.info("%s: %d skipped, %s: %s", root, len(paths), what, listed(names))
    if not scans:
        raise MissingError(f"{root}: no scans; put some there, as {' '.join(READERS)}.")
    return sorted(scans)


def name_scans(root: Path, files: Sequence[Path], typed: Collection[str] | None) -> dict[str, Path]:
    """The scans by scene name, in order of their paths.

    Args:
      root: what the names are relative to.
      typed: names as people wrote them in `tags.csv` and `splits.csv`; None without these files.

    Raises:
      UserError: two scans have one name that is written there, or there are no such files.
    """
    wanted = {composed(name).replace("\\", "/") for name in typed or ()}
    flat = {typed_scene(name) for name in wanted}
    scans: dict[str, Path] = {}
    spare = []
    for path in files:
        relative = path.relative_to(root)
        name = scene_name(relative.with_suffix("").as_posix())
        other = scans.setdefault(name, path)
        if other is path:
            continue
        exact, other_exact = (
            composed(one.relative_to(root).as_posix()) in wanted for one in (path, other)
        )
        if exact == other_exact and (typed is None or name in flat):
            raise UserError(
                f"{path}: has the same scene name {name!r} as {other}; rename or remove one of "
                f"them, or name the right one with its suffix in {TAGS_FILE}."
            )
        scans[name] = path if exact else other
        spare.append(str((other if exact else path).relative_to(root)))
    if spare:
        logger.warning(
            "%s: %d scans passed over, others have the same name: %s",
            root,
            len(spare),
            listed(spare),
        )
    return scans


def typed_scene(name: str) -> str:
    """The scene that someone means who writes `floor1/office.ply` or `floor1_office`."""
    is_file = Path(name).suffix.lower() in READERS
    return scene_name(name[: -len(Path(name).suffix)] if is_file else name)


def listed(names: Sequence[str]) -> str:
    """Some names for a line of the log."""
    return ", ".join(names[:MAX_LISTED]) + " ..." * (len(names) > MAX_LISTED)


def _walk(root: Path, passed: _Passed) -> Iterator[Path]:
    """Files that may be scans; each folder once, linked ones last, in the order of their paths."""
    seen, waiting, linked = set(), [root], []
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.pop(0)
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except PermissionError:
            passed.closed.append(folder)
            continue
        names = {entry.name for entry in entries}
        if folder != root and _is_output(folder, names):
            passed.outputs.append(folder)
            continue
        folders = []
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith((".", "__")) or entry.name in _OWN_FILES:
                continue
            if entry.is_dir():
                (linked if entry.is_symlink() else folders).append(path)
            elif path.suffix.lower() in READERS:
                yield from _candidate(path, entry, names, passed)
        waiting += reversed(folders)


def _candidate(
    path: Path, entry: os.DirEntry, names: Collection[str], passed: _Passed
) -> Iterator[Path]:
    if entry.is_symlink() and not path.exists():
        passed.dangling.append(path)
    elif path.name.endswith(LEGEND_SUFFIX) or _is_prediction(path, names):
        passed.outputs.append(path)
    elif entry.is_file():
        yield path


def _is_scan(path: Path, passed: _Passed) -> bool:
    """Whether a file means to be a scan: of those that hold any text, `.txt` and `.csv`, a table.

    Whether others hold what they should is found when they are read.
    """
    if READERS[path.suffix.lower()] is not read_text or path.suffix.lower() == ".xyz":
        return True
    try:
        if is_text_cloud(path):
            return True
        passed.prose.append(path)
    except PermissionError:
        return True  # whoever needs it will say so
    return False


def _is_output(folder: Path, names: Collection[str]) -> bool:
    return any(
        name in names and keys <= _keys(folder / name) for name, keys in _OWN_FOLDERS.items()
    )


def _keys(path: Path) -> set[str]:
    try:
        values = read_json(path)
    except (ValueError, OSError):
        return set()
    return set(values) if isinstance(values, dict) else set()


def _is_prediction(path: Path, names: Collection[str]) -> bool:
    if path.suffix.lower() not in WRITERS or legend_path(path).name not in names:
        return False
    # A scan may lie beside its prediction in another format, and share the legend.
    with path.open("rb") as file:
        start = file.read(_LOOK_BYTES)
        file.seek(max(0, path.stat().st_size - _LOOK_BYTES))
        return _PREDICTED in start or _PREDICTED in file.read()
