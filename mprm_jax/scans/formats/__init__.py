"""Point cloud files of every kind users have, read into one type: `read_cloud(path)`."""

from pathlib import Path

import numpy as np

from mprm_jax.errors import MissingError, UserError
from mprm_jax.scans.formats.arrays import read_npy, read_npz
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.scans.formats.las import read_las
from mprm_jax.scans.formats.pcd import read_pcd
from mprm_jax.scans.formats.ply import read_ply
from mprm_jax.scans.formats.text import read_text

READERS = {
    ".ply": read_ply,
    ".las": read_las,
    ".laz": read_las,
    ".pcd": read_pcd,
    ".xyz": read_text,
    ".txt": read_text,
    ".csv": read_text,
    ".npz": read_npz,
    ".npy": read_npy,
}


def read_cloud(path: str | Path) -> CloudFile:
    """Reads a cloud or mesh; the suffix of the file tells its format.

    Raises:
      OSError: the file cannot be opened.
      ValueError: the format is unknown, or the file is broken, empty or lacks coordinates.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise UserError(
            f"{path}: unknown format {suffix or '(no suffix)'!r}; "
            f"convert the file to one of {' '.join(READERS)}."
        )
    if not path.is_file():
        raise MissingError(f"{path}: no such file; check the path or copy the file there.")
    if not path.stat().st_size:
        raise UserError(f"{path}: the file is empty; export it again.")
    try:
        # Any bits may stand where a number is expected.
        with np.errstate(invalid="ignore", over="ignore"):
            cloud = READERS[suffix](path)
    except MemoryError as error:
        raise UserError(f"{path}: too large for the memory; cut the scan into parts.") from error
    except OSError as error:
        if error.filename is not None:
            raise
        raise UserError(
            f"{path}: not a readable file ({error}); copy or export it again."
        ) from error
    if not len(cloud.coords):
        raise UserError(f"{path}: the file holds no points; export it again.")
    return cloud
