"""Which scans a prediction reads and which files it writes, so that none is overwritten."""

import pathlib
from typing import NamedTuple

from mprm_jax.data.folder import find_scans
from mprm_jax.data.formats.labeled import WRITERS, legend_path
from mprm_jax.errors import MissingError, UserError
from mprm_jax.writing import require_place

PLY = ".ply"
COLORED = ".colored.ply"


class ScanJob(NamedTuple):
    """One scan to label."""

    source: pathlib.Path
    target: pathlib.Path
    colored: pathlib.Path | None  # PLY in the colors of the classes, if wanted


def scan_jobs(
    scans: pathlib.Path, output: pathlib.Path, format_name: str | None, *, colored: bool
) -> list[ScanJob]:
    """Finds the scans; nothing is written yet.

    Args:
      scans: a file, or a folder whose scans keep their places below `output`.
      format_name: of the files to write, such as "laz"; that of the scan if None, else PLY where
        labels cannot be written so.
      colored: also write a PLY in the colors of the classes.

    Raises:
      OSError: there are no scans, or no place to write to.
      ValueError: a scan would be overwritten, or another file that is no prediction.
    """
    sources, root = _sources(scans, output)
    jobs = []
    for source in sources:
        suffix = source.suffix.lower() if format_name is None else f".{format_name}"
        target = output / source.relative_to(root).with_suffix(suffix if suffix in WRITERS else PLY)
        jobs.append(ScanJob(source, target, target.with_suffix(COLORED) if colored else None))
    written = [path for job in jobs for path in (job.target, job.colored) if path is not None]
    for path in written:
        require_place(path)
        if written.count(path) > 1:
            raise UserError(f"{path}: would hold two predictions; rename one of the scans.")
        if path.exists() and any(path.samefile(source) for source in sources):
            raise UserError(f"{path}: is a scan itself; choose another --output or --format.")
        if path.exists() and not legend_path(path).exists():
            raise UserError(
                f"{path}: exists and is no earlier prediction; choose another --output."
            )
    return jobs


def _sources(scans: pathlib.Path, output: pathlib.Path) -> tuple[list[pathlib.Path], pathlib.Path]:
    """The scans, and the folder that their places are relative to."""
    if not scans.exists():
        raise MissingError(f"{scans}: no such file or folder; give a scan, or many of them.")
    if not scans.is_dir():
        return [scans], scans.parent
    own, given = output.resolve(), scans.resolve()
    if own == given:
        raise UserError(f"{output}: is the folder of the scans; choose another --output.")
    found = find_scans(scans).values()
    if own.is_relative_to(given):
        found = [path for path in found if not path.resolve().is_relative_to(own)]
    if not found:
        raise MissingError(f"{scans}: no scans besides the predictions in {output}.")
    return list(found), scans
