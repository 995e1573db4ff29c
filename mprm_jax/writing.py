"""Writes files that are either whole or not there, and says in one line what went wrong."""

import contextlib
import errno
import itertools
import os
import pathlib
from collections.abc import Iterator

from mprm_jax.errors import UserError


class FailedWriteError(UserError, OSError):
    """A file could not be written; the text names file, reason and remedy."""


@contextlib.contextmanager
def whole_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A place to write to, which takes the place of `path` at the end; after an error it is gone.

    Raises:
      FailedWriteError: the disk is full or not writable.
    """
    partial = path.with_name(f".{path.name}.partial")
    with explain_failed_write(path):
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def explain_failed_write(path: pathlib.Path) -> Iterator[None]:
    """Turns the system's "No space left on device" into a line with file and remedy."""
    try:
        yield
    except FailedWriteError:
        raise  # of a file inside, which says it better
    except OSError as error:
        raise FailedWriteError(
            f"{path}: cannot be written ({error.strerror or error}); {_remedy(error)}, then run "
            "the same command again."
        ) from error


def _remedy(error: OSError) -> str:
    if error.errno == errno.ENAMETOOLONG:
        return "shorten the name"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "choose another place or make it writable"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free disk space or choose another place"
    return "choose another place"


def require_place(path: pathlib.Path) -> None:
    """Raises `FailedWriteError` if a file can hardly be written at a path; makes nothing.

    For commands that compute for long before they write.
    """
    place = path.absolute().parent
    while not place.exists():
        place = place.parent
    if path.is_dir():
        reason = "a folder of that name is there"
    elif not place.is_dir():
        reason = f"{place} is a file"
    elif not os.access(place, os.W_OK | os.X_OK):
        reason = f"{place} is not writable"
    else:
        return
    raise FailedWriteError(f"{path}: cannot be written ({reason}); choose another place.")


def free_name(path: pathlib.Path) -> pathlib.Path:
    """The path, or the first of path.1, path.2, ... that does not exist."""
    names = itertools.chain(
        [path], (path.with_name(f"{path.name}.{i}") for i in itertools.count(1))
    )
    return next(name for name in names if not name.exists())
