"""Prepares scenes one after the other, in this process or spread over several."""

import logging
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mprm_jax.errors import SCAN_ERRORS, explain
from mprm_jax.machine import usable_cpus
from mprm_jax.scans.formats.notes import Note
from mprm_jax.scans.scene import Source
from mprm_jax.store.manifest import SceneInfo, SceneRecord, Stamps, StoreSettings
from mprm_jax.store.preparation import prepare_scene
from mprm_jax.store.scene_files import write_scene
from mprm_jax.worker_processes import explain_lost_workers, make_pool, spread

_SCENES_PER_PROCESS = 4  # fewer do not pay for starting it


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
    remedy = "run experiments/prepare.py with fewer --workers: finished scenes are kept"
    with explain_lost_workers(str(job.store), remedy):
        yield from spread(make_pool(workers, _start_worker, (job,)), _worker_outcome, tasks)


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


_worker_job: Job | None = None


def _start_worker(job: Job) -> None:
    global _worker_job
    _worker_job = job
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


def _worker_outcome(task: Task) -> Outcome:
    return _outcome(_worker_job, task)
