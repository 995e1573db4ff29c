"""A folder of anyone's scans, with the tags people gave them.

    root/office.ply, root/floor1/hall.laz ...   scans of any readable format, nested or not
    root/tags.csv                               class tags; see mprm_jax/evidence/tags.py
    root/clicks.csv                             optional: points; see mprm_jax/evidence/clicks.py
    root/classes.txt                            optional; see mprm_jax/scans/typed_files.py
    root/splits.csv                             optional: 'scene,split' with train, val or test

A scan is named by its relative path without suffix, folders joined by "_". Scans with tags or
clicks are the split "train" and the others "test", where they need not be scans at all, unless
`splits.csv` says otherwise. Point labels in the files are read only with a `classes.txt`, which
says what they mean.
"""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mprm_jax.errors import UserError
from mprm_jax.evidence.people import Said
from mprm_jax.evidence.tags import SCENE, find_scene
from mprm_jax.scans.cleaning import clean_cloud, warn_of_millimeters
from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.cloud import require_whole_labels
from mprm_jax.scans.scan_files import (
    CLASSES_FILE,
    CLICKS_FILE,
    SPLITS_FILE,
    TAGS_FILE,
    listed,
    name_scans,
    scan_files,
)
from mprm_jax.scans.scene import Scene
from mprm_jax.scans.typed_files import (
    ClassList,
    read_class_list,
    read_csv_rows,
    suggest,
    to_class_indices,
)

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
        names = self._class_list.names if self._class_list else None
        if not (self.root / TAGS_FILE).is_file():
            logger.info("%s: no %s, so people tagged no scan", self.root, TAGS_FILE)
        self._said = Said(self.root, self._scans, names, scale)
        self.classes: Sequence[str] = self._said.classes
        self.splits: Mapping[str, Sequence[str]] = self._find_splits()
        by_tags = self._said.names() and not (self.root / SPLITS_FILE).is_file()
        self.optional: Collection[str] = {f"test/{x}" for x in self.splits["test"] if by_tags}

    def require_tags(self) -> None:
        """Raises `ValueError` if training has no scan because none is tagged."""
        if not self.splits["train"] and not (self.root / SPLITS_FILE).is_file():
            raise UserError(
                f"{self.root / TAGS_FILE}: no scan is tagged, so there is nothing to train on; "
                "write a line for each scan there, under a header such as 'scene,wall,floor'."
            )

    def files(self, split: str, name: str) -> Sequence[str]:
        """Lists the scan, and the list of classes, which decides how its labels are read."""
        beside = self.root / CLASSES_FILE
        paths = [self._scan(split, name), *([beside] if beside.is_file() else [])]
        return [str(path) for path in paths]

    def said(self, split: str, name: str) -> str:
        return self._said.digest(name) or "nothing"

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
        weak_labels = self._said.weak_labels(name, path, coords)
        clicks = self._said.clicks(name, path, coords)
        rest = {"notes": cloud.notes, "clicks": clicks, "normals": cloud.normals}
        return Scene(coords, cloud.colors, labels, cloud.faces, weak_labels, **rest)

    def _scan(self, split: str, name: str) -> Path:
        if name not in self.splits.get(split, ()):
            raise UserError(f"{name}: not in split {split!r} of {self.root}; check the name.")
        return self._scans[name]

    def _read_class_list(self) -> ClassList | None:
        path = self.root / CLASSES_FILE
        return read_class_list(path) if path.is_file() else None

    def _find_splits(self) -> dict[str, list[str]]:
        said = self._said.names()
        untagged = [name for name in self._scans if name not in said]
        if untagged and said:
            logger.warning(
                "%s: %d scans have no tags: %s", self.root, len(untagged), listed(untagged)
            )
        path = self.root / SPLITS_FILE
        if not path.is_file():
            tagged = [name for name in self._scans if name in said]
            return {"train": tagged, "val": [], "test": untagged}
        splits = _read_splits(path, self._scans, said)
        simulated = [name for name in splits["train"] if name not in said]
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


def _typed_names(root: Path) -> set[str] | None:
    """The scans that people name beside them, as they write them; None if they name none."""
    paths = [root / name for name in (TAGS_FILE, CLICKS_FILE, SPLITS_FILE)]
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
