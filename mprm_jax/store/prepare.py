"""From a source to a complete store: checks every scene, prepares in parallel, resumes.

A scene whose folder is complete and whose files are unchanged is kept, so that an interrupted run
continues where it stopped. The manifest is written last; a store without one is not complete.
"""

import functools
import logging
import pathlib
import shutil
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from mprm_jax.config import DataConfig
from mprm_jax.errors import SCAN_ERRORS, MissingError, UserError, explain
from mprm_jax.machine import usable_cpus
from mprm_jax.one_writer import only_writer
from mprm_jax.progress import progress_bar
from mprm_jax.scans.formats.notes import Note, log_notes
from mprm_jax.scans.formats.ply import read_ply_header
from mprm_jax.scans.scan_files import listed
from mprm_jax.scans.scene import Source
from mprm_jax.store.manifest import (
    MANIFEST_FILE,
    BrokenScene,
    Manifest,
    SceneInfo,
    SceneRecord,
    Stamps,
    StoreSettings,
    read_manifest,
    require_settings,
    write_json,
)
from mprm_jax.store.prepared_scene import (
    finished_record,
    open_for_writing,
    prepare_scene,
    write_classes,
    write_scene,
)
from mprm_jax.store.scenes import NORMAL_FILE, SceneStore
from mprm_jax.types import MAX_CLASSES
from mprm_jax.worker_processes import explain_lost_workers, make_pool, share_out

logger = logging.getLogger(__name__)

_SCENES_PER_PROCESS = 4  # fewer do not pay for starting it
_SMALL_BYTES = 1 << 18
_SAID = "what people said"  # among the stamps of files
_NO_TRAINING = "check the path and the split lists."


class Job(NamedTuple):
    """What all scenes of a run share."""

    source: Source
    store: pathlib.Path
    settings: StoreSettings


class Task(NamedTuple):
    """One scene to prepare."""

    split: str
    scene: str
    files: Stamps  # source files as they are now

    @property
    def key(self) -> str:
        return f"{self.split}/{self.scene}"


class Outcome(NamedTuple):
    """What became of a task."""

    task: Task
    info: SceneInfo | None  # None for a broken scene
    reason: str  # why it is broken
    notes: tuple[Note, ...] = ()  # of its reader


class Prepared(NamedTuple):
    """A complete store, and how it came about."""

    store: SceneStore
    num_new: int  # scenes prepared by this run
    num_kept: int  # scenes found ready


class _Sorted(NamedTuple):
    """The scenes of a source by what has to be done for them."""

    kept: dict[str, SceneInfo]
    left_out: dict[str, BrokenScene]
    tasks: list[Task]


_worker_job: Job | None = None


def outcomes(job: Job, tasks: Sequence[Task], workers: int | None) -> Iterator[Outcome]:
    """Outcomes as they come; the order differs from run to run with more than one process.

    Args:
      workers: processes; 0 or 1 means this one, None chooses by cores and tasks.

    Raises:
      OSError: the store cannot be written, or a process was killed.
    """
    workers = _default_workers(len(tasks)) if workers is None else min(workers, len(tasks))
    if workers < 2:
        yield from (_outcome(job, task) for task in tasks)
        return
    remedy = "run mprm prepare with fewer --workers: finished scenes are kept"
    with explain_lost_workers(str(job.store), remedy):
        yield from share_out(make_pool(workers, _start_worker, (job,)), _worker_outcome, tasks)


def stamp_files(files: Sequence[str]) -> Stamps:
    """What tells one version of a file from another, for each that exists, by its last two parts.

    Small files count by content: tables that many scenes share are often written again unchanged.
    """
    stamps = {}
    for file in map(pathlib.Path, files):
        if file.is_file():
            status = file.stat()
            small = status.st_size <= _SMALL_BYTES
            version = _checksum(file, status.st_mtime_ns) if small else status.st_mtime_ns
            stamps["/".join(file.parts[-2:])] = (status.st_size, version)
    return stamps


def is_unchanged(now: Stamps, then: Stamps) -> bool:
    """Whether no file changed or was added, and people said the same; lost files do not count.

    A store stands for itself: deleting the scans, or their labels, does not make it stale. Neither
    do normals beside a scan that was prepared without: older versions did not read them.
    """
    files = all(
        stamp == then.get(name) or (name not in then and name.endswith(f"/{NORMAL_FILE}"))
        for name, stamp in now.items()
    )
    return files and then.get(_SAID) == now.get(_SAID)


def check_files(files: Sequence[str]) -> None:
    """Raises `ValueError` or `OSError` for a file that is missing, empty or a cut PLY."""
    for file in map(pathlib.Path, files):
        if not file.is_file():
            raise MissingError(f"{file}: missing; export or download it again.")
        size = file.stat().st_size
        if size == 0:
            raise UserError(f"{file}: empty; export or download it again.")
        if file.suffix.lower() == ".ply":
            _check_ply(file)


def prepare(
    source: Source,
    path: pathlib.Path,
    data: DataConfig,
    *,
    spec: str = "",
    tags: str = "auto",
    on_error: str = "stop",
    workers: int | None = None,
) -> Prepared:
    """Brings the store at `path` up to date with its source.

    Args:
      source: picklable, if more than one process is used.
      data: voxel size, ball radius and placement of seeds count.
      spec: the data set as the user named it, for the manifest.
      tags: "auto", or "archive:DIR" when `source` takes its tags from there; for the manifest.
      on_error: "stop" ends with the list of broken scenes; "continue" leaves them out.
      workers: processes; 0 or 1 means this one, None chooses by cores and scenes.

    Raises:
      ValueError: broken scenes, no scene to train on, or a store of other settings.
      OSError: the store cannot be written.
    """
    if on_error not in ("stop", "continue"):
        raise UserError(f"--on-error is {on_error!r}; choose stop or continue.")
    if len(source.classes) > MAX_CLASSES:
        raise UserError(
            f"{spec or source.name}: {len(source.classes)} classes; merge some, pseudo-labels are "
            f"stored in bytes and tell at most {MAX_CLASSES} apart."
        )
    if not source.splits.get("train"):
        raise UserError(f"{spec or source.name}: split train has no scene; {_NO_TRAINING}")
    _require_apart(source, path)
    job = Job(source, path, StoreSettings.of(data, tags))
    previous = _previous(job)
    open_for_writing(path)
    found = _sort(job, previous)
    if not found.tasks:  # as for all hosts but the first, which need not take turns
        return _complete(job, spec, previous, found, on_error, workers)
    with only_writer(path, wait=True):
        previous = _previous(job)  # again: another process may have been at work
        return _complete(job, spec, previous, _sort(job, previous), on_error, workers)


def _complete(
    job: Job,
    spec: str,
    previous: Manifest | None,
    found: _Sorted,
    on_error: str,
    workers: int | None,
) -> Prepared:
    """Prepares what is left to do and writes the manifest."""
    source, path = job.source, job.store
    if found.left_out:
        logger.warning(
            "%d broken scenes stay left out, as decided before; delete %s to try them again.",
            len(found.left_out),
            path / MANIFEST_FILE,
        )
    broken = _broken_files(job, found.tasks)
    _list(broken, source.optional)
    if broken.keys() - set(source.optional) and on_error == "stop":
        logger.info("reading the other scenes, to list all broken ones before stopping")
    if previous and any(task.key in previous.scenes for task in found.tasks):
        # From here on the arrays of a scene may be newer than what the manifest says of them.
        (path / MANIFEST_FILE).unlink()
        previous = None
    fresh, unread = _prepare_all(job, [t for t in found.tasks if t.key not in broken], workers)
    infos = found.kept | fresh
    unread |= _of_other_colors(infos, source.optional)
    _list(unread, source.optional)
    broken |= unread
    if on_error == "stop":
        _require_none({key: why for key, why in broken.items() if key not in source.optional})
    for key in broken:
        shutil.rmtree(path / key, ignore_errors=True)
    infos = {key: info for key, info in infos.items() if key not in broken}
    manifest = _manifest(job, spec, infos, found.left_out | _stamped(source, broken))
    if manifest != previous:
        write_classes(path, manifest.classes)
        write_json(manifest, path / MANIFEST_FILE)
    _remark(manifest, fresh)
    return Prepared(SceneStore(path), len(fresh.keys() - broken.keys()), len(found.kept))


def _default_workers(num_tasks: int) -> int:
    return min(usable_cpus(), num_tasks // _SCENES_PER_PROCESS)


def _outcome(job: Job, task: Task) -> Outcome:
    num_classes = len(job.source.classes)
    try:
        scene = job.source.read(task.split, task.scene)
        prepared = prepare_scene(scene, job.settings, num_classes)
    except MemoryError:
        return Outcome(task, None, "too large for the memory; use fewer workers or split it.")
    except SCAN_ERRORS as error:
        return Outcome(task, None, explain(error))
    classes = tuple(job.source.classes)
    record = SceneRecord(job.settings, classes, task.files, prepared.info)
    write_scene(job.store / task.split / task.scene, prepared, record)
    return Outcome(task, prepared.info, "", scene.notes)


def _start_worker(job: Job) -> None:
    global _worker_job
    _worker_job = job
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


def _worker_outcome(task: Task) -> Outcome:
    return _outcome(_worker_job, task)


def _stamps(source: Source, split: str, scene: str) -> Stamps:
    """Of the files of a scene, and of what people said of it if they did."""
    stamps = stamp_files(source.files(split, scene))
    if said := source.said(split, scene):
        stamps[_SAID] = (len(said), zlib.crc32(said.encode()))
    return stamps


@functools.lru_cache(maxsize=16)
def _checksum(file: pathlib.Path, _changed: int) -> int:
    """Of a small file; remembered, because thousands of scenes may share a table of tags."""
    return zlib.crc32(file.read_bytes())


def _check_ply(path: pathlib.Path) -> None:
    try:
        read_ply_header(path)
    except ValueError as error:
        raise UserError(f"{path}: {error}: export or download it again.") from error


def _require_apart(source: Source, store: pathlib.Path) -> None:
    """Raises `UserError` if the files of the store would lie among those of the scans."""
    place = store.resolve()
    for split, names in source.splits.items():
        for name in names:
            for file in map(pathlib.Path, source.files(split, name)):
                if file.resolve().parent == place:
                    raise UserError(
                        f"{store}: holds the scans themselves, such as {file.name}; choose another "
                        "--store."
                    )


def _previous(job: Job) -> Manifest | None:
    """The manifest of an earlier run; refuses one of other settings, or classes but added ones."""
    if not (job.store / MANIFEST_FILE).is_file():
        return None
    manifest = read_manifest(job.store)
    require_settings(job.store, manifest, job.settings)
    known, classes = manifest.classes, tuple(job.source.classes)
    if manifest.name != job.source.name or known != classes[: len(known)]:
        raise UserError(
            f"{job.store}: holds {manifest.name} with {len(known)} classes, not "
            f"{job.source.name} with these {len(classes)} classes; "
            "choose another --store or delete this one."
        )
    if known != classes:  # added while tagging
        added = ", ".join(classes[len(known) :])
        logger.info("%s: classes were added (%s); preparing all again", job.store, added)
    return manifest


def _sort(job: Job, previous: Manifest | None) -> _Sorted:
    found = _Sorted({}, {}, [])
    known = previous.broken if previous else {}
    classes = tuple(job.source.classes)
    scenes_of = job.source.splits.items()
    scenes = [(split, scene) for split, names in scenes_of for scene in names]
    with progress_bar(len(scenes), "scenes", "looking for changes", delay=1.0) as bar:
        for split, scene in scenes:
            bar.update()
            task = Task(split, scene, _stamps(job.source, split, scene))
            record = finished_record(job.store / task.key)
            if task.key in known and is_unchanged(task.files, known[task.key].files):
                found.left_out[task.key] = known[task.key]
            elif (
                record is not None
                and (record.settings, record.classes) == (job.settings, classes)
                and is_unchanged(task.files, record.files)
            ):
                found.kept[task.key] = record.info
            else:
                found.tasks.append(task)
    return found


def _broken_files(job: Job, tasks: Sequence[Task]) -> dict[str, str]:
    """Scenes whose files are missing, empty or cut off, with the reason."""
    broken = {}
    with progress_bar(len(tasks), "scenes", "checking files", delay=1.0) as bar:
        for task in tasks:
            try:
                check_files(job.source.files(task.split, task.scene))
            except SCAN_ERRORS as error:
                broken[task.key] = explain(error)
            bar.update()
    return broken


def _prepare_all(
    job: Job, tasks: Sequence[Task], workers: int | None
) -> tuple[dict[str, SceneInfo], dict[str, str]]:
    """Prepares scenes; those that cannot be are returned with the reason."""
    infos, broken, notes = {}, {}, {}
    if not tasks:
        return infos, broken
    logger.info("preparing %d scenes of %s in %s", len(tasks), job.source.name, job.store)
    with progress_bar(len(tasks), "scenes", "preparing") as bar:
        for outcome in outcomes(job, tasks, workers):
            if outcome.info is None:
                broken[outcome.task.key] = outcome.reason
            else:
                infos[outcome.task.key] = outcome.info
                notes[outcome.task.key] = outcome.notes
            bar.update()
    log_notes(job.source.name, dict(sorted(notes.items())))
    return infos, broken


def _of_other_colors(infos: Mapping[str, SceneInfo], optional: Collection[str]) -> dict[str, str]:
    """Scenes without colors in a data set that has them, or of files nobody named the reverse."""
    named = [info for key, info in infos.items() if key not in optional] or list(infos.values())
    if any(info.has_colors for info in named):
        why = (
            "it has no colors, other scenes do; export it with colors, or leave them out "
            "everywhere with --set data.colors=none."
        )
        return {key: why for key, info in infos.items() if not info.has_colors}
    why = "it has colors, but none of the scenes that were named has."
    return {key: why for key, info in infos.items() if info.has_colors}


def _list(broken: Mapping[str, str], optional: Collection[str]) -> None:
    for key in sorted(broken.keys() - set(optional)):
        logger.error("broken scene %s: %s", key, broken[key])
    passed = sorted(broken.keys() & set(optional))
    if passed:
        logger.warning("%d files that nobody named are passed over:", len(passed))
    for key in passed:
        logger.warning("  %s: %s", key, broken[key])


def _require_none(broken: Mapping[str, str]) -> None:
    if broken:
        key, reason = min(broken.items())
        what = f"{len(broken)} broken scenes, e.g. " if len(broken) > 1 else ""
        raise UserError(
            f"{what}{key}: {reason} Mend it, or leave such scenes out with "
            "mprm prepare --on-error continue."
        )


def _stamped(source: Source, broken: Mapping[str, str]) -> dict[str, BrokenScene]:
    return {
        key: BrokenScene(reason, _stamps(source, *key.split("/", 1)))
        for key, reason in broken.items()
    }


def _manifest(
    job: Job, spec: str, infos: Mapping[str, SceneInfo], broken: Mapping[str, BrokenScene]
) -> Manifest:
    """Scenes in the order of the source, whatever order the processes finished in."""
    splits = {
        split: tuple(scene for scene in scenes if f"{split}/{scene}" in infos)
        for split, scenes in job.source.splits.items()
    }
    if not splits.get("train"):
        raise UserError(
            f"{job.source.name}: split train has no readable scene "
            f"({len(infos)} elsewhere, {len(broken)} broken); {_NO_TRAINING}"
        )
    order = [f"{split}/{scene}" for split, scenes in splits.items() for scene in scenes]
    return Manifest(
        spec=spec,
        name=job.source.name,
        classes=tuple(job.source.classes),
        settings=job.settings,
        splits=splits,
        scenes={key: infos[key] for key in order},
        broken=broken,
    )


def _remark(manifest: Manifest, fresh: Mapping[str, SceneInfo]) -> None:
    """Says what is unusual about the scenes just prepared."""
    if fresh and not any(info.has_colors for info in fresh.values()):
        logger.warning("%s has no colors; they are stored as 0.", manifest.name)
    clicked = {key: info for key, info in fresh.items() if info.clicks}
    outside = {key: info.clicks_outside for key, info in clicked.items() if info.clicks_outside}
    if outside:
        logger.warning(
            "%d of %d clicks name a class that a ball around them, or their scene, is not tagged "
            "with; the click counts, and the ball is taken to be tagged so: %s",
            sum(outside.values()),
            sum(info.clicks for info in clicked.values()),
            listed([f"{key} ({count})" for key, count in sorted(outside.items())]),
        )
    untagged = [s for s in manifest.splits["train"] if not manifest.scenes[f"train/{s}"].has_tags]
    if untagged:
        num_clicked = sum(manifest.scenes[f"train/{scene}"].clicks > 0 for scene in untagged)
        logger.warning(
            "%d of %d training scenes have no tags and give no balls%s, e.g. %s.",
            len(untagged),
            len(manifest.splits["train"]),
            f"; {num_clicked} of them have clicks, which count" if num_clicked else "",
            untagged[0],
        )
