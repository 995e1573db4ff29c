"""Data prepared for Pointcept: one folder of NumPy arrays per scene.

    root/train/scene0000_00/coord.npy       [N, 3] float, meters
    root/train/scene0000_00/color.npy       [N, 3] uint8; in every scene or in none
    root/train/scene0000_00/normal.npy      [N, 3] float, may be missing
    root/train/scene0000_00/segment20.npy   [N] or [N, 1] int, -1 ignored; or segment.npy
    root/Area_1/office_3/coord.npy ...      S3DIS: areas in place of splits

Classes come from `classes.txt` (one name per line) or `classes.json` (a list of names) in the
root; without one, `segment20.npy` means the 20 classes of ScanNet and folders `Area_*` mean the
13 of S3DIS.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from mprm_jax.errors import MissingError, UserError
from mprm_jax.reading import read_json
from mprm_jax.scans import s3dis, scannet
from mprm_jax.scans.formats.arrays import NUMBERS, read_array
from mprm_jax.scans.formats.cloud import require_whole_labels, to_labels, to_normals
from mprm_jax.scans.formats.colors import to_uint8_colors
from mprm_jax.scans.formats.notes import Note
from mprm_jax.scans.scene import Scene
from mprm_jax.scans.typed_files import read_class_list
from mprm_jax.types import IGNORED, Array

SPLITS = ("train", "val", "test")
NORMAL_FILE = "normal.npy"
SEGMENTS = ("segment20.npy", "segment.npy")  # the first that exists is read


class Pointcept:
    """Reads scenes in Pointcept's layout as they are."""

    name = "pointcept"
    optional: Collection[str] = ()

    def __init__(self, root: str | Path, classes: Sequence[str] | None = None, test_area: int = 5):
        """Finds the scenes.

        Args:
          root: the folder that holds `train`, `val` and `test`, or `Area_1` to `Area_6`.
          classes: names in index order; found as the module says if not given.
          test_area: of S3DIS, its rooms are the split "val".

        Raises:
          OSError: there are no scenes.
          ValueError: the classes are not known.
        """
        self.root = Path(root)
        rooms = s3dis.find_area_rooms(self.root, "coord.npy")
        if rooms:
            self._folders = rooms
            self.splits: Mapping[str, Sequence[str]] = s3dis.split_areas(
                self.root, rooms, test_area
            )
        else:
            self._folders, self.splits = _find_scenes(self.root)
        self._has_colors = any((path / "color.npy").is_file() for path in self._folders.values())
        self.classes: Sequence[str] = tuple(classes or self._find_classes(of_areas=bool(rooms)))

    def files(self, split: str, name: str) -> Sequence[str]:
        """Lists the arrays of a scene; coordinates are always among them, missing or not."""
        folder = self._folder(split, name)
        segment = _segment_path(folder)
        paths = [folder / "coord.npy"]
        paths += [folder / "color.npy"] if self._has_colors else []
        paths += [segment] if segment else []
        paths += [folder / NORMAL_FILE] if (folder / NORMAL_FILE).is_file() else []
        return [str(path) for path in paths]

    def said(self, split: str, name: str) -> str:
        return ""

    def read(self, split: str, name: str) -> Scene:
        """Reads coordinates and, where the data have them, colors, labels and normals."""
        folder = self._folder(split, name)
        coords = _load(folder / "coord.npy").astype(np.float64)
        _check_rows(folder / "coord.npy", coords, len(coords))
        if not np.isfinite(coords).all():
            raise UserError(f"{folder / 'coord.npy'}: a point is not finite; prepare it again.")
        colors, notes, labels, remarks = None, (), None, ()
        if self._has_colors:
            colors, notes = _read_colors(folder / "color.npy", coords)
        if segment := _segment_path(folder):
            labels, remarks = self._read_labels(segment, len(coords))
        normals, odd = None, ()
        if (folder / NORMAL_FILE).is_file():
            normals, odd = to_normals(_load(folder / NORMAL_FILE), len(coords))
        notes += remarks + odd
        return Scene(coords, colors, labels, None, None, notes, normals=normals)

    def _folder(self, split: str, name: str) -> Path:
        if name not in self.splits.get(split, ()):
            raise UserError(f"{name}: not in split {split!r} of {self.root}; check the name.")
        return self._folders[name]

    def _find_classes(self, of_areas: bool) -> Sequence[str]:
        names = self.root / "classes.txt"
        if names.is_file():
            return _read_text_classes(names)
        names = self.root / "classes.json"
        if names.is_file():
            return _read_json_classes(names)
        if any((folder / "segment20.npy").is_file() for folder in self._folders.values()):
            return scannet.CLASSES
        if of_areas:
            return s3dis.CLASSES
        raise UserError(
            f"{self.root}: the classes are not known; "
            "write their names, one per line in index order, to classes.txt in this folder."
        )

    def _read_labels(self, path: Path, num_points: int) -> tuple[Array, tuple[Note, ...]]:
        labels, notes = to_labels(_load(path))
        labels = require_whole_labels(path, labels)
        if len(labels) != num_points:
            raise UserError(
                f"{path}: {len(labels)} labels for {num_points} points; prepare the scene again."
            )
        if labels.max(initial=IGNORED) >= len(self.classes):
            raise UserError(
                f"{path}: label {labels.max()} but there are {len(self.classes)} classes; "
                f"list all classes in {self.root / 'classes.txt'}."
            )
        return np.maximum(labels, IGNORED), notes


def _find_scenes(root: Path) -> tuple[dict[str, Path], dict[str, list[str]]]:
    folders = {
        split: sorted(path for path in (root / split).glob("*") if path.is_dir())
        for split in SPLITS
    }
    if not any(folders.values()):
        raise MissingError(
            f"{root}: no scene folders in train, val or test, and no Area_1 to Area_6; "
            "give the folder that holds them, as in --data pointcept:/path/to/data."
        )
    by_name = {path.name: path for paths in folders.values() for path in paths}
    if len(by_name) < sum(map(len, folders.values())):
        names = [path.name for paths in folders.values() for path in paths]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{root}: scene {twice} is in two splits; remove it from one.")
    return by_name, {split: [path.name for path in paths] for split, paths in folders.items()}


def _segment_path(folder: Path) -> Path | None:
    paths = [folder / name for name in SEGMENTS]
    return next((path for path in paths if path.is_file()), None)


def _read_text_classes(path: Path) -> Sequence[str]:
    classes = read_class_list(path)
    if classes.labels != tuple(range(len(classes.names))):
        raise UserError(
            f"{path}: labels {', '.join(map(str, classes.labels))}; Pointcept numbers classes from "
            "0 without gaps, list the names in that order."
        )
    return classes.names


def _read_json_classes(path: Path) -> list[str]:
    try:
        names = read_json(path)
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); write a list.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: not a list of class names; write one in index order.")
    return names


def _read_colors(path: Path, coords: Array) -> tuple[Array, tuple[Note, ...]]:
    colors = _load(path)
    _check_rows(path, colors, len(coords))
    return to_uint8_colors(path, colors, coords)


def _load(path: Path) -> Array:
    if not path.is_file():
        raise MissingError(f"{path}: no such file; prepare the scene again.")
    try:
        array = read_array(path)
    except ValueError as error:
        raise UserError(
            f"{path}: not a readable NumPy array ({error}); prepare the scene again."
        ) from error
    if array.dtype.kind not in NUMBERS:
        raise UserError(f"{path}: holds {array.dtype}, not numbers; prepare the scene again.")
    return array


def _check_rows(path: Path, rows: Array, num_points: int) -> None:
    if rows.shape != (num_points, 3) or not num_points:
        raise UserError(
            f"{path}: shape {rows.shape} where ({num_points}, 3) is expected; "
            "prepare the scene again."
        )
