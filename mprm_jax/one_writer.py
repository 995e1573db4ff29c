"""One process at a time writes a folder; another one ends with one line, or waits for its turn."""

import contextlib
import errno
import json
import logging
import os
import pathlib
import platform
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mprm_jax.errors import UserError
from mprm_jax.reading import read_json
from mprm_jax.writing import explain_failed_write, write_whole

if TYPE_CHECKING:
    from filelock import FileLock

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"
WRITER_FILE = ".writer.json"  # who holds the lock, for the message to others
_POLL_SECONDS = 0.1
# What the system says of a disk without locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


class BusyError(UserError):
    """Another process is writing the folder; the text names it and the remedy."""


@contextlib.contextmanager
def only_writer(folder: pathlib.Path, remedy: str = "", *, wait: bool = False) -> Iterator[None]:
    """Makes a folder, and this process the only one that writes it, of those that ask.

    A folder in which nothing was written is gone afterwards, if it was not there before.

    The lock is one of the system: it ends with the process, however that ends, so a killed run
    does not keep others out. On a disk that has none this process goes on without, with a warning.

    Args:
      remedy: what else the user of a busy folder may do, for the message.
      wait: for the other process to end, and say so; what was read before may be old then.

    Raises:
      BusyError: another process is writing it.
      FailedWriteError: it cannot be made or written.
    """
    # Here, because it takes longer to load than what workers need of this package.
    from filelock import FileLock, Timeout

    # Not a soft lock where the disk has no other: that of a killed process would stay.
    lock = FileLock(folder / LOCK_FILE, poll_interval=_POLL_SECONDS, fallback_to_soft=False)
    is_new = not folder.exists()
    with explain_failed_write(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _acquire(lock, folder, timeout=0)
        except Timeout:
            busy = f"{folder}: is being written by {_writer(folder)}"
            if not wait:
                raise BusyError(f"{busy}; {remedy}.") from None
            logger.warning("%s; waiting for it to end", busy)
            _acquire(lock, folder, timeout=-1)
    try:
        write_whole(folder / WRITER_FILE, json.dumps(_myself()))
        yield
    finally:
        (folder / WRITER_FILE).unlink(missing_ok=True)
        # One who opened the file before sees that it is gone and opens another. Windows keeps it.
        with contextlib.suppress(OSError):
            (folder / LOCK_FILE).unlink(missing_ok=True)
        lock.release()
        if is_new:
            with contextlib.suppress(OSError):  # unless something came of it
                folder.rmdir()


def _acquire(lock: "FileLock", folder: pathlib.Path, timeout: float) -> None:
    try:
        lock.acquire(timeout)
    except TimeoutError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning(
            "%s: this disk has no locks (%s); see that no other process writes there",
            folder,
            error.strerror,
        )


def _myself() -> dict[str, str | int]:
    since = time.strftime("%Y-%m-%d %H:%M")
    return {"pid": os.getpid(), "host": platform.node(), "since": since}


def _writer(folder: pathlib.Path) -> str:
    """Who holds the lock; it may have got it just now, and not have said so yet."""
    try:
        found = read_json(folder / WRITER_FILE)
        return "another process (pid {pid} on host {host} since {since})".format(**found)
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
