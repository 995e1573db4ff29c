"""Processes that share the work of the first one, leave signals to it, and end with it."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from mprm_jax.errors import UserError

_MOST_ON_WINDOWS = 61  # processes that one pool can wait for there


class LostWorkersError(UserError, ChildProcessError):
    """A process that shared the work is gone; the text names the work and the remedy."""


def make_pool(
    num_workers: int, initializer: Callable[..., None] | None = None, initargs: tuple = ()
) -> ProcessPoolExecutor:
    """Fresh processes; each runs `initializer(*initargs)` before its first task."""
    # Forking a process that may already run XLA's threads can deadlock.
    context = multiprocessing.get_context("spawn")
    if sys.platform == "win32":
        num_workers = min(num_workers, _MOST_ON_WINDOWS)
    return ProcessPoolExecutor(num_workers, context, _start, (initializer, initargs))


@contextlib.contextmanager
def explain_lost_workers(where: str, remedy: str) -> Iterator[None]:
    """Turns the loss of a process into a `LostWorkersError`; ends all others."""
    try:
        yield
    except BrokenProcessPool:
        # The pool asks them to end with a SIGTERM, which they ignore, and waits for them.
        for process in multiprocessing.active_children():
            process.kill()
        raise LostWorkersError(
            f"{where}: a worker process ended early, most likely for lack of memory; {remedy}."
        ) from None


def share_out(
    pool: ProcessPoolExecutor, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """Yields `function(item)` of all items, whichever is done first, and shuts the pool down."""
    try:
        for future in as_completed([pool.submit(function, item) for item in items]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start(initializer: Callable[..., None] | None, arguments: tuple) -> None:
    # Ctrl-C reaches every process of the terminal, the SIGTERM of SLURM every process of a job;
    # the first one decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _end_with_parent() -> None:
    """Workers of a process that was killed would wait for tasks for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
