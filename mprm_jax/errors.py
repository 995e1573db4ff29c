"""Errors that a user can mend; a command ends with their one line, all others show a traceback."""

import contextlib
import errno
import pathlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator

# The system says these of a disk or of the machine, often without naming a file.
_SURROUNDINGS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPIPE),
)
# What NumPy and the modules below it raise on garbled arrays and archives of anyone; the runtime
# error of an archive that is encrypted apart, which is of the kind that XLA raises, too.
BROKEN_ARRAYS = (
    *(ValueError, EOFError, SyntaxError, OverflowError, RecursionError, NotImplementedError),
    *(tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error),
)
# Of our own files, in which nothing else than what is read can be amiss.
_DAMAGE = (*BROKEN_ARRAYS, KeyError, TypeError, RuntimeError)
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"  # the status that XLA gives, whatever the device


class UserError(ValueError):
    """Data, settings or surroundings are wrong; the text names what, the reason and the remedy."""


class MissingError(UserError, FileNotFoundError):
    """A file or folder is not there; the text names it and the remedy."""


# How one scan of many may fail without keeping the others from being done. Overflow and Unicode
# errors are those of libraries that meet values beyond the types of a format.
SCAN_ERRORS = (UserError, OSError, MemoryError, OverflowError, UnicodeError)


def one_line(error: BaseException) -> str | None:
    """What to tell a user who can mend an error; None for others, which show a traceback."""
    if isinstance(error, UserError):
        return _flat(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, OSError) and error.errno in _SURROUNDINGS:
        return f"{error.strerror}; mend that, then run the same command again."
    if isinstance(error, MemoryError):
        return f"not enough memory{_detail(error)}; use a machine with more, or smaller scans."
    if is_device_out_of_memory(error):
        return (
            f"the memory of the device is too small ({_flat(error)[:120]}); train with a smaller "
            "pyramid.bucket_points, or with pyramid.memory_gb a little below what the device has."
        )
    return None


def explain(error: BaseException) -> str:
    """Why a scan was left out, in one line, whatever the error."""
    return one_line(error) or f"{type(error).__name__}: {_flat(error)}"


def is_device_out_of_memory(error: BaseException) -> bool:
    """Whether XLA found no memory; such an error is `jax.errors.JaxRuntimeError`."""
    return isinstance(error, RuntimeError) and _flat(error).startswith(_OUT_OF_MEMORY)


@contextlib.contextmanager
def explain_damage(path: pathlib.Path, remedy: str, what: str = "damaged") -> Iterator[None]:
    """Turns what NumPy raises on a file that is gone, cut or garbled into one line.

    Raises:
      MissingError: there is no such file.
      UserError: it is not what was written.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise MissingError(f"{path}: missing; {remedy}.") from None
    except MemoryError as error:
        raise UserError(
            f"{path}: {what}, or too large for the memory{_detail(error)}; if it is whole, use a "
            f"machine with more; else {remedy}."
        ) from None
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise UserError(f"{path}: {what} ({error}); {remedy}.") from None


def _flat(error: BaseException) -> str:
    return " ".join(str(error).split())


def _detail(error: BaseException) -> str:
    return f" ({_flat(error).rstrip('.')})" if str(error) else ""
