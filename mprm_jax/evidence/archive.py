"""The released sub-cloud labels of MPRM: one `<scene>.npy` a scan, a ball with 21 bits per row.

Columns: x, y, z of the center in the frame of the scan file; a bit for unannotated points; a bit
for each of the 20 ScanNet classes. Source: mprm `subcloud_label.tar.gz`, read in its unpacked form.
"""

import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mprm_jax.errors import MissingError, UserError, explain_damage
from mprm_jax.scans.scannet import CLASSES
from mprm_jax.scans.scene import Scene, Source, WeakLabels
from mprm_jax.scans.typed_files import composed
from mprm_jax.types import Array

NUM_COLUMNS = 3 + 1 + len(CLASSES)


class ArchiveLabels(NamedTuple):
    """Tags of the non-empty balls of one scan."""

    centers: Array  # [S, 3] float64, meters
    unannotated: Array  # [S] bool, the ball holds points of none of the classes
    tags: Array  # [S, 20] bool


def archive_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The file of each scene in an unpacked archive, sorted by scene.

    Raises:
      FileNotFoundError: no folder, or none of its files is a `.npy`.
    """
    files = {composed(path.stem): path for path in sorted(folder.glob("*.npy"))}
    if not files:
        raise MissingError(
            f"{folder}: no <scene>.npy files; unpack subcloud_label.tar.gz and name its folder."
        )
    return files


def read_archive(path: pathlib.Path) -> ArchiveLabels:
    """The labels of one scan.

    Raises:
      ValueError: not an [n, 24] array of coordinates and bits.
    """
    explained = explain_damage(path, "unpack the archive again", "not an array file")
    with explained, path.open("rb") as file:
        rows = np.lib.format.read_array(file, allow_pickle=False)
    if rows.ndim != 2 or rows.shape[1] != NUM_COLUMNS or len(rows) == 0:
        raise UserError(
            f"{path}: shape {rows.shape}, expected (n, {NUM_COLUMNS}): x, y, z, an unannotated "
            f"bit, {len(CLASSES)} class bits; is this a file of the released archive?"
        )
    if rows.dtype.kind not in "fiub" or not np.isfinite(rows).all():
        raise UserError(f"{path}: values of type {rows.dtype} are not all finite numbers.")
    bits = rows[:, 3:]
    if not np.isin(bits, (0, 1)).all():
        raise UserError(f"{path}: columns 4 to {NUM_COLUMNS} must be 0 or 1.")
    bits = bits.astype(bool)
    return ArchiveLabels(rows[:, :3].astype(np.float64), bits[:, 0], bits[:, 1:])


def count_grid_seeds(centers: Array) -> int:
    """Balls of the full grid whose filled ones are given, from the distinct values per axis.

    Exact unless a whole plane of the grid is empty.
    """
    return int(np.prod([len(np.unique(axis.round(6))) for axis in centers.T]))


class ArchiveTags:
    """A source whose tags come from the released archive instead of its point labels.

    Scans of the test split may lack a file; they then have no tags.
    """

    def __init__(self, source: Source, folder: pathlib.Path, radius: float):
        """Joins a source with the tags in `folder`; balls have `radius` meters.

        Raises:
          ValueError: the source has other classes.
          FileNotFoundError: no archive in `folder`.
        """
        if tuple(source.classes) != CLASSES:
            raise UserError(
                f"--tags archive:{folder}: the archive has the {len(CLASSES)} ScanNet classes, "
                f"{source.name} has {len(source.classes)} others; use its own tags."
            )
        self._files = archive_files(folder)
        self.source, self.folder, self.radius = source, folder, radius
        self.name: str = source.name
        self.classes: Sequence[str] = source.classes
        self.splits: Mapping[str, Sequence[str]] = source.splits
        self.optional: Collection[str] = source.optional

    def files(self, split: str, name: str) -> Sequence[str]:
        path = self._path(split, name)
        own = [] if path is None else [str(path)]
        return [*self.source.files(split, name), *own]

    def said(self, split: str, name: str) -> str:
        return self.source.said(split, name)

    def read(self, split: str, name: str) -> Scene:
        scene = self.source.read(split, name)
        path = self._path(split, name)
        if path is None:
            return scene._replace(weak_labels=None)
        labels = read_archive(path)
        radii = np.full(len(labels.centers), self.radius, np.float32)
        return scene._replace(weak_labels=WeakLabels(labels.centers, radii, labels.tags))

    def _path(self, split: str, name: str) -> pathlib.Path | None:
        missing = None if split == "test" else self.folder / f"{name}.npy"
        return self._files.get(composed(name), missing)
