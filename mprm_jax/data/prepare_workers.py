"""Prepares scenes one after the other, in this process or spread over several."""

import logging
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from mprm_jax.data.manifest import SceneInfo, SceneRecord, Stamps, StoreSettings
from mprm_jax.data.preparation import prepare_scene
from mprm_jax.data.scene import Source
from mprm_jax.data.scene_files import write_scene

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
    # Forking a process that may already run XLA's threads can deadlock.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (job,))
    try:
        for future in as_completed([pool.submit(_worker_outcome, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool:
        raise ChildProcessError(
            f"{job.store}: a worker process ended early, most likely for lack of memory; "
            "run again with fewer --workers: finished scenes are kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _default_workers(num_tasks: int) -> int:
    return min(os.cpu_count() or 1, num_tasks // _SCENES_PER_PROCESS)


def _outcome(job: Job, task: Task) -> Outcome:
    num_classes = len(job.source.classes)
    try:
        scene = job.source.read(task.split, task.scene)
        prepared = prepare_scene(scene, job.settings, num_classes)
    except (ValueError, OSError) as error:
        return Outcome(task, None, _reason(error))
    except MemoryError:
        return Outcome(task, None, "too large for the memory; use fewer workers or split it.")
    classes = tuple(job.source.classes)
    record = SceneRecord(job.settings, classes, task.files, prepared.info)
    write_scene(job.store / task.split / task.scene, prepared, record)
    return Outcome(task, prepared.info, "")


def _reason(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return " ".join(str(error).split())


_worker_job: Job | None = None


def _start_worker(job: Job) -> None:
    global _worker_job
    _worker_job = job
    # Ctrl-C reaches every process of the terminal; only the first shall speak.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


def _end_with_parent() -> None:
    """Workers of a process that was killed would wait for tasks for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _worker_outcome(task: Task) -> Outcome:
    return _outcome(_worker_job, task)
