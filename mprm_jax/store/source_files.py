"""Looks at the files of a scan before reading them: are they there, whole, and unchanged."""

import functools
import pathlib
import zlib
from collections.abc import Sequence

from mprm_jax.errors import MissingError, UserError
from mprm_jax.scans.formats.ply_header import read_ply_header
from mprm_jax.store.manifest import Stamps

_SMALL_BYTES = 1 << 18


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


@functools.lru_cache(maxsize=16)
def _checksum(file: pathlib.Path, _changed: int) -> int:
    """Of a small file; remembered, because thousands of scenes may share a table of tags."""
    return zlib.crc32(file.read_bytes())


def is_unchanged(now: Stamps, then: Stamps) -> bool:
    """Whether no file changed or was added; files that are gone do not count.

    A store stands for itself: deleting the scans, or their labels, does not make it stale.
    """
    return all(then.get(name) == stamp for name, stamp in now.items())


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


def _check_ply(path: pathlib.Path) -> None:
    try:
        read_ply_header(path)
    except ValueError as error:
        raise UserError(f"{path}: {error}: export or download it again.") from error
