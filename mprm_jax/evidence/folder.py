"""A folder of anyone's scans, with the tags people gave them.

    root/office.ply, root/floor1/hall.laz ...   scans of any readable format, nested or not
    root/tags.csv                               class tags; see mprm_jax/evidence/tags.py
    root/classes.txt                            optional; see mprm_jax/scans/typed_files.py
    root/splits.csv                             optional: 'scene,split' with train, val or test

A scan is named by its relative path without suffix, folders joined by "_". Tagged scans are the
split "train" and the others "test", where they need not be scans at all, unless `splits.csv` says
otherwise. Point labels in the files are read only with a `classes.txt`, which says what they mean.
"""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.evidence.tags import SCENE, TagRow, TagTable, find_scene, read_tags
from mprm_jax.scans.cleaning import clean_cloud, warn_of_millimeters
from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.cloud import require_whole_labels
from mprm_jax.scans.scan_files import (
    CLASSES_FILE,
    SPLITS_FILE,
    TAGS_FILE,
    listed,
    name_scans,
    scan_files,
)
from mprm_jax.scans.scene import Scene, WeakLabels
from mprm_jax.scans.typed_files import (
    ClassList,
    read_class_list,
    read_csv_rows,
    suggest,
    to_class_indices,
)
from mprm_jax.types import Array

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


class Folder:
    """Reads a folder of scans; `classes` is empty if neither tags nor a class list are there."""

    name = "folder"

    def __init__(self, root: str | Path, scale: float = 1.0):
        """Finds the scans and reads the tags.

        Args:
          root: the folder.
          scale: meters per unit of the scan files, 0.001 for millimeters; also of the balls in
            `tags.csv`.

        Raises:
          OSError: there are no scans.
          ValueError: two scans have one name, the scale is no scale, or `tags.csv`, `classes.txt`
            or `splits.csv` is wrong.
        """
        if not (math.isfinite(scale) and scale > 0):
            raise UserError(f"data.scale is {scale}; give meters per unit of the scans, above 0.")
        self.root = Path(root)
        self.scale = scale
        self._scans = name_scans(self.root, scan_files(self.root), _typed_names(self.root))
        logger.info("%s: a unit of the scans is taken for %g m (data.scale)", root, scale)
        self._class_list = self._read_class_list()
        self._tags = self._read_tags()
        self.classes: Sequence[str] = self._tags.classes
        self.splits: Mapping[str, Sequence[str]] = self._find_splits()
        by_tags = self._tags.rows and not (self.root / SPLITS_FILE).is_file()
        self.optional: Collection[str] = {f"test/{x}" for x in self.splits["test"] if by_tags}

    def require_tags(self) -> None:
        """Raises `ValueError` if training has no scan because none is tagged."""
        if not self.splits["train"] and not (self.root / SPLITS_FILE).is_file():
            raise UserError(
                f"{self.root / TAGS_FILE}: no scan is tagged, so there is nothing to train on; "
                "write a line for each scan there, under a header such as 'scene,wall,floor'."
            )

    def files(self, split: str, name: str) -> Sequence[str]:
        """Lists the scan, and the files beside it that decide how it is read."""
        beside = [self.root / CLASSES_FILE, self.root / TAGS_FILE]
        paths = [self._scan(split, name), *(path for path in beside if path.is_file())]
        return [str(path) for path in paths]

    def read(self, split: str, name: str) -> Scene:
        """Reads a scan without missing pixels and repeated points, in meters, with its tags."""
        path = self._scan(split, name)
        cloud = clean_cloud(path, read_cloud(path)).cloud
        coords = cloud.coords * self.scale
        warn_of_millimeters(path, coords, "--set data.scale=0.001")
        labels = None
        if cloud.labels is not None and self._class_list is not None:
            whole = require_whole_labels(path, cloud.labels)
            labels = to_class_indices(whole, self._class_list)
        rows = self._tags.rows.get(name)
        weak_labels = self._weak_labels(path, coords, rows) if rows else None
        return Scene(coords, cloud.colors, labels, cloud.faces, weak_labels, cloud.notes)

    def _scan(self, split: str, name: str) -> Path:
        if name not in self.splits.get(split, ()):
            raise UserError(f"{name}: not in split {split!r} of {self.root}; check the name.")
        return self._scans[name]

    def _read_class_list(self) -> ClassList | None:
        path = self.root / CLASSES_FILE
        return read_class_list(path) if path.is_file() else None

    def _read_tags(self) -> TagTable:
        names = self._class_list.names if self._class_list else None
        path = self.root / TAGS_FILE
        if not path.is_file():
            logger.info("%s: no %s, so people tagged no scan", self.root, TAGS_FILE)
            return TagTable(names or (), {})
        return read_tags(path, self._scans, names)

    def _find_splits(self) -> dict[str, list[str]]:
        untagged = [name for name in self._scans if name not in self._tags.rows]
        if untagged and self._tags.rows:
            logger.warning(
                "%s: %d scans have no tags: %s", self.root, len(untagged), listed(untagged)
            )
        path = self.root / SPLITS_FILE
        if not path.is_file():
            tagged = [name for name in self._scans if name in self._tags.rows]
            return {"train": tagged, "val": [], "test": untagged}
        splits = _read_splits(path, self._scans, self._tags.rows)
        simulated = [name for name in splits["train"] if name not in self._tags.rows]
        if simulated and self._class_list:
            logger.warning(
                "%s: people tagged %d of %d training scans; tags of the others are made from "
                "point labels, where they have some: %s",
                self.root,
                len(splits["train"]) - len(simulated),
                len(splits["train"]),
                listed(simulated),
            )
        return splits

    def _weak_labels(self, path: Path, coords: Array, rows: Sequence[TagRow]) -> WeakLabels:
        """Turns the tags of a scene into arrays; a tag of the whole scan sits in its middle."""
        middle = (coords.min(axis=0) + coords.max(axis=0)) / 2
        centers = np.tile(middle, (len(rows), 1))
        radii = np.full(len(rows), np.inf, np.float32)
        for i, row in enumerate(rows):
            if row.ball is None:
                continue
            centers[i] = np.array(row.ball[:3]) * self.scale
            radii[i] = row.ball[3] * self.scale
            if not np.any(np.sum(np.square(coords - centers[i]), axis=1) < np.square(radii[i])):
                low, high = (
                    np.round(edge / self.scale, 2) for edge in (coords.min(0), coords.max(0))
                )
                raise UserError(
                    f"{self.root / TAGS_FILE}: line {row.line}: no point of {path.name} is in this "
                    f"ball, the scan spans {low} to {high}; give x, y, z, radius in the unit and "
                    "frame of the scan file."
                )
        tags = np.array([[name in row.present for name in self.classes] for row in rows])
        return WeakLabels(centers, radii, tags)


def _typed_names(root: Path) -> set[str] | None:
    """The scans that people name beside them, as they write them; None if they name none."""
    paths = [root / name for name in (TAGS_FILE, SPLITS_FILE)]
    rows = [row for path in paths if path.is_file() for row in read_csv_rows(path)[1]]
    return {row.cells.get(SCENE, "") for row in rows} or None


def _read_splits(
    path: Path, scenes: Collection[str], tagged: Collection[str]
) -> dict[str, list[str]]:
    header, rows = read_csv_rows(path)
    if sorted(header) != ["scene", "split"]:
        raise UserError(f"{path}: columns {', '.join(header)}; write the header 'scene,split'.")
    split_of: dict[str, str] = {}
    for row in rows:
        scene, split = find_scene(path, row, scenes), row.cells["split"]
        if split not in SPLITS:
            raise UserError(
                f"{path}: line {row.line} has split {split!r}; {suggest(split, SPLITS)}"
            )
        if scene in split_of:
            raise UserError(f"{path}: line {row.line} lists scene {scene!r} again; remove it.")
        split_of[scene] = split
    missing = [name for name in tagged if name not in split_of]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} tagged scans have no row, such as {missing[0]!r}; "
            "give every one a split, or remove the file."
        )
    spare = [name for name in scenes if name not in split_of]
    if spare:
        logger.warning(
            "%s: %d files without a row passed over: %s", path, len(spare), listed(spare)
        )
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in scenes:
        if name in split_of:
            splits[split_of[name]].append(name)
    return splits
