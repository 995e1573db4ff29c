"""Which scans a prediction reads and which files it writes, so that none is overwritten."""

import collections
import pathlib
from collections.abc import Collection
from typing import NamedTuple

from mprm_jax.errors import MissingError, UserError
from mprm_jax.scans.formats.labeled import WRITERS, legend_path
from mprm_jax.scans.scan_files import scan_files
from mprm_jax.writing import require_place

PLY = ".ply"
COLORED = ".colored.ply"


class ScanJob(NamedTuple):
    """One scan to label."""

    source: pathlib.Path
    target: pathlib.Path
    colored: pathlib.Path | None  # PLY in the colors of the classes, if wanted


class ScanJobs(NamedTuple):
    """All scans to label, and those that cannot be, whatever is in them."""

    jobs: list[ScanJob]
    refused: dict[pathlib.Path, str]  # why the labels of a scan cannot be written


def scan_jobs(
    scans: pathlib.Path, output: pathlib.Path, format_name: str | None, *, colored: bool
) -> ScanJobs:
    """Finds the scans; nothing is written yet.

    Args:
      scans: a file, or a folder whose scans keep their places below `output`.
      format_name: of the files to write, such as "laz"; that of the scan if None, else PLY where
        labels cannot be written so.
      colored: also write a PLY in the colors of the classes.

    Raises:
      OSError: there are no scans, or no place to write to.
      UserError: the only scan would be overwritten, or another file that is no prediction.
    """
    sources, root = _sources(scans, output)
    require_place(output / "*")
    jobs = []
    for source in sources:
        suffix = source.suffix.lower() if format_name is None else f".{format_name}"
        target = output / source.relative_to(root).with_suffix(suffix if suffix in WRITERS else PLY)
        jobs.append(ScanJob(source, target, target.with_suffix(COLORED) if colored else None))
    own = {_identity(source) for source in sources if source.exists()}
    times = collections.Counter(path for job in jobs for path in _written(job))
    found = ScanJobs([], {})
    for job in jobs:
        try:
            for path in _written(job):
                _check_target(path, own, times[path])
            found.jobs.append(job)
        except UserError as error:
            if len(jobs) == 1:
                raise
            found.refused[job.source] = str(error)
    return found


def _written(job: ScanJob) -> list[pathlib.Path]:
    return [path for path in (job.target, job.colored) if path is not None]


def _check_target(path: pathlib.Path, own: Collection[tuple[int, int]], times: int) -> None:
    """Raises `UserError` if a file is not to be written, `times` is how often it would be."""
    require_place(path)
    if times > 1:
        raise UserError(f"{path}: would hold two predictions; rename one of the scans.")
    if path.exists() and _identity(path) in own:
        raise UserError(f"{path}: is a scan itself; choose another --output or --format.")
    if path.exists() and not legend_path(path).exists():
        raise UserError(f"{path}: exists and is no earlier prediction; choose another --output.")


def _identity(path: pathlib.Path) -> tuple[int, int]:
    """The same for all names of a file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _sources(scans: pathlib.Path, output: pathlib.Path) -> tuple[list[pathlib.Path], pathlib.Path]:
    """The scans, and the folder that their places are relative to."""
    if not scans.exists():
        raise MissingError(f"{scans}: no such file or folder; give a scan, or many of them.")
    if not scans.is_dir():
        return [scans], scans.parent
    own, given = output.resolve(), scans.resolve()
    if own == given:
        raise UserError(f"{output}: is the folder of the scans; choose another --output.")
    found = scan_files(scans)
    if own.is_relative_to(given):
        found = [path for path in found if not path.resolve().is_relative_to(own)]
    if not found:
        raise MissingError(f"{scans}: no scans besides the predictions in {output}.")
    return list(found), scans
