"""Looks at the files of a scan before reading them: are they there, whole, and unchanged."""

import functools
import pathlib
import zlib
from collections.abc import Sequence

from mprm_jax.data.manifest import Stamps
from mprm_jax.errors import MissingError, UserError

_SMALL_BYTES = 1 << 18
_HEADER_BYTES = 1 << 24  # more is no header any more
_LINE_BYTES = 1 << 16


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
            _check_ply_size(file, size)


def _check_ply_size(path: pathlib.Path, size: int) -> None:
    """A binary file holds at least one byte per property of its elements."""
    header = _ply_header(path)
    if header is None:
        raise UserError(f"{path}: no PLY header; export or download it again.")
    if b"format binary" not in header:
        return
    least, count = len(header), 0
    for line in header.split(b"\n"):
        words = line.split()
        if words[:1] == [b"element"] and len(words) == 3 and words[2].isdigit():
            count = int(words[2])
        elif words[:1] == [b"property"] and len(words) >= 3:
            least += count * _PLY_BYTES.get(words[1].decode("ascii", "replace"), 1)
    if size < least:
        raise UserError(
            f"{path}: {size} bytes, its header promises at least {least}; "
            "it was cut off: export or download it again."
        )


def _ply_header(path: pathlib.Path) -> bytes | None:
    """The lines before `end_header`, however many comments there are; None without an end."""
    header = bytearray()
    with path.open("rb") as stream:
        if stream.read(3) != b"ply":
            return None
        for line in iter(lambda: stream.readline(_LINE_BYTES), b""):
            if line.strip() == b"end_header":
                return bytes(header)
            header += line
            if len(header) > _HEADER_BYTES:
                return None
    return None


_PLY_BYTES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8", "list"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "float", "int32", "uint32", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}
