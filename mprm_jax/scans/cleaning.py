"""Users' scans without what scanners leave in them: missing pixels and padding points."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.types import Array

logger = logging.getLogger(__name__)

# A scan wider than this is of a town, or not in meters.
MAX_INDOOR_WIDTH = 200.0
# No scanner sees this high; a room of 1 m in millimeters does.
MAX_INDOOR_HEIGHT = 1000.0
# Odd numbers of 64 mixed bits, one per axis.
HASH_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


class CleanCloud(NamedTuple):
    """The points that are left, and where they were in the file."""

    cloud: CloudFile
    rows: Array  # [N] int64 into the points of the file, ascending


def clean_cloud(path: str | Path, cloud: CloudFile) -> CleanCloud:
    """Drops points that are not finite and, from clouds without faces, repeated positions.

    A mesh keeps vertices that share a position: its faces meet there. What is dropped is logged.

    Args:
      path: named in the log and in errors.
      cloud: N points of a file.

    Raises:
      ValueError: no point is finite.
    """
    rows = np.flatnonzero(np.isfinite(cloud.coords).all(axis=1))
    if len(rows) < len(cloud.coords):
        num_dropped = len(cloud.coords) - len(rows)
        logger.warning("%s: %d points without a finite position do not count", path, num_dropped)
    if not len(rows):
        raise UserError(f"{path}: no point has a finite position; export the scan again.")
    if cloud.faces is None:
        first = first_of_equal_rows(cloud.coords[rows])
        if len(first) < len(rows):
            num_dropped = len(rows) - len(first)
            logger.warning("%s: %d points repeat a position and count once", path, num_dropped)
        rows = rows[first]
    return CleanCloud(select_points(cloud, rows), rows)


def first_of_equal_rows(rows: Array) -> Array:
    """Gives the ascending indices [M] of the first of equal rows in finite [N, 3] float64.

    Rows are brought together by one sorted hash, several times faster than by three columns; below
    it stands the row, because plain numbers are sorted several times faster than rows by them. Rows
    count as equal only if their values are; where hashes collide, all columns are compared.
    """
    index_bits = np.uint64(max(len(rows) - 1, 1).bit_length())
    hashes = np.zeros(len(rows), np.uint64)
    for column, factor in zip(rows.T, HASH_FACTORS, strict=True):
        bits = (column + 0.0).view(np.uint64)  # adding 0 turns -0 into 0
        hashes ^= (bits ^ (bits >> np.uint64(29))) * factor
    keys = (hashes & ~_low_bits(index_bits)) | np.arange(len(rows), dtype=np.uint64)
    keys.sort()
    alike = np.flatnonzero((keys[1:] ^ keys[:-1]) >> index_bits == 0)
    left, right = (
        (keys[which] & _low_bits(index_bits)).astype(int) for which in (alike, alike + 1)
    )
    is_first = np.ones(len(rows), bool)
    is_first[right] = differ = np.any(rows[left] != rows[right], axis=1)
    if differ.any():
        collided = np.unique(keys[alike[differ]] >> index_bits)
        some = (keys[np.isin(keys >> index_bits, collided)] & _low_bits(index_bits)).astype(int)
        is_first[some] = False
        is_first[some[np.unique(rows[some] + 0.0, axis=0, return_index=True)[1]]] = True
    return np.flatnonzero(is_first)


def _low_bits(count: np.uint64) -> np.uint64:
    return (np.uint64(1) << count) - np.uint64(1)


def select_points(cloud: CloudFile, rows: Array) -> CloudFile:
    """Keeps the given points [M], and the faces all of whose corners are kept."""
    faces = cloud.faces
    if faces is not None:
        new_index = np.full(len(cloud.coords), -1, np.int32)
        new_index[rows] = np.arange(len(rows))
        faces = new_index[faces]
        faces = faces[(faces >= 0).all(axis=1)]
    return cloud._replace(
        coords=cloud.coords[rows],
        colors=None if cloud.colors is None else cloud.colors[rows],
        labels=None if cloud.labels is None else cloud.labels[rows],
        normals=None if cloud.normals is None else cloud.normals[rows],
        faces=faces,
    )


def warn_of_millimeters(path: str | Path, coords: Array, remedy: str) -> None:
    """Logs that a scan spans more than scans in meters do, and what to add to a command then.

    Args:
      coords: [N, 3] taken for meters.
    """
    if looks_like_millimeters(coords):
        extent = " x ".join(f"{length:.0f}" for length in np.ptp(coords, axis=0))
        logger.warning("%s: spans %s m; if it is in millimeters, add %s", path, extent, remedy)


def looks_like_millimeters(coords: Array) -> bool:
    """Says whether [N, 3] coordinates are too large, and too whole or too high, for meters."""
    # Column by column: NumPy reduces [N, 3] over its rows many times slower.
    width, depth, height = (np.ptp(column) for column in coords.T)
    if max(width, depth) <= MAX_INDOOR_WIDTH:
        return False
    return bool(height > MAX_INDOOR_HEIGHT or np.array_equal(coords, np.round(coords)))
