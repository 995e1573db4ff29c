"""S3DIS, either release: one text file per annotated object, one folder per room.

    root/Area_1/office_3/Annotations/chair_2.txt      lines 'x y z r g b', meters and 0..255

Both `Stanford3dDataset_v1.2` and `Stanford3dDataset_v1.2_Aligned_Version` are read; the union of
a room's objects is the room. Every point counts: S3DIS has no unannotated points.

Characters of the releases that are broken are repaired. Known: a control character inside a number
of Area_5/office_19 (103.0?0000, first release) and one more in Area_5/hallway_6 (aligned release).
Others may lurk, so the repair is generic, as in KPConv-PyTorch: a control character is deleted if
its line then has as many fields as a sound neighbor, else it stands for a blank.
"""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from mprm_jax.errors import MissingError, UserError
from mprm_jax.scans.formats.colors import to_uint8_colors
from mprm_jax.scans.scene import Scene
from mprm_jax.types import Array

logger = logging.getLogger(__name__)

# PointNet's order. KPConv and Superpoint Transformer swap chair and table, sofa and bookcase, so
# labels of theirs must be mapped by name.
CLASSES = (
    "ceiling",
    "floor",
    "wall",
    "beam",
    "column",
    "window",
    "door",
    "table",
    "chair",
    "sofa",
    "bookcase",
    "board",
    "clutter",
)
OTHER_OBJECTS = "clutter"  # takes "stairs", also in its misspelling "staris"
OBJECT_FILE = re.compile(r"([A-Za-z]+)_\d+\.txt")  # not 'wall_3 (1).txt', a stray duplicate
AREA_FOLDER = re.compile(r"Area_(\d+)")
NUM_FIELDS = 6  # x y z r g b
BROKEN = re.compile(r"[^\t\x20-\x7e]+")  # control and non-ASCII characters


class S3DIS:
    """Reads S3DIS; one area is held out for validation."""

    name = "s3dis"
    classes: Sequence[str] = CLASSES
    optional: Collection[str] = ()

    def __init__(self, root: str | Path, test_area: int = 5):
        """Finds the rooms.

        Args:
          root: the folder that holds `Area_1` to `Area_6`, or some of them.
          test_area: its rooms are the split "val", all others "train".

        Raises:
          OSError: there are no rooms, or none in the test area.
        """
        self.root = Path(root)
        rooms = find_area_rooms(self.root, "Annotations")
        if not rooms:
            raise MissingError(
                f"{self.root}: no room folders such as Area_1/office_1/Annotations; "
                "give the folder that holds Area_1 to Area_6, as in --data s3dis:/path/to/s3dis."
            )
        self._rooms = rooms
        self.splits: Mapping[str, Sequence[str]] = split_areas(self.root, rooms, test_area)

    def files(self, split: str, name: str) -> Sequence[str]:
        """Lists the object files of a room in reading order."""
        return [str(path) for path in self._objects(split, name)]

    def said(self, split: str, name: str) -> str:
        return ""

    def read(self, split: str, name: str) -> Scene:
        """Reads the objects of a room, in the order of their file names."""
        objects = self._objects(split, name)
        tables = [read_object(path) for path in objects]
        table = np.concatenate(tables)
        coords = table[:, :3]
        colors, notes = to_uint8_colors(objects[0].parent, table[:, 3:6], coords)
        classes = [_class_index(path) for path in objects]
        labels = np.repeat(np.array(classes, np.int32), [len(part) for part in tables])
        return Scene(coords, colors, labels, None, None, notes)

    def _objects(self, split: str, name: str) -> list[Path]:
        if name not in self.splits.get(split, ()):
            raise UserError(f"{name}: not in split {split!r} of {self.root}; check the name.")
        folder = self._rooms[name] / "Annotations"
        paths = sorted(path for path in folder.glob("*.txt") if not path.name.startswith("."))
        objects = [path for path in paths if OBJECT_FILE.fullmatch(path.name)]
        for stray in set(paths) - set(objects):
            logger.warning("%s: skipped, not named like an object such as wall_3.txt", stray)
        if not objects:
            raise MissingError(
                f"{folder}: no object files such as wall_3.txt; unpack the room again."
            )
        return objects


def find_area_rooms(root: Path, content: str) -> dict[str, Path]:
    """Finds `Area_k/<room>` folders that hold `content`.

    Returns:
      Folder by scene name, such as "Area_1_office_3", in order of the names.
    """
    return {
        f"{area.name}_{room.name}": room
        for area in sorted(root.glob("Area_*"))
        if area.is_dir() and AREA_FOLDER.fullmatch(area.name)
        for room in sorted(area.iterdir())
        if (room / content).exists()
    }


def split_areas(root: Path, rooms: Mapping[str, Path], test_area: int) -> dict[str, list[str]]:
    """Puts the rooms of the test area into "val" and all others into "train".

    Raises:
      FileNotFoundError: the test area has no rooms.
    """
    held_out = [name for name, room in rooms.items() if room.parent.name == f"Area_{test_area}"]
    if not held_out:
        areas = sorted({room.parent.name.removeprefix("Area_") for room in rooms.values()})
        raise MissingError(
            f"{root}: no rooms in Area_{test_area}, which validates; "
            f"unpack it, or set data.test_area to one of {', '.join(areas)}."
        )
    return {
        "train": [name for name in rooms if name not in held_out],
        "val": held_out,
        "test": [],
    }


def read_object(path: Path) -> Array:
    """Reads the [N, 6] float64 table x y z r g b; it is repaired only if parsing fails.

    Raises:
      ValueError: the file is empty or a line cannot be repaired.
    """
    if not path.stat().st_size:
        raise UserError(f"{path}: the file is empty; unpack the room again.")
    try:
        table = np.loadtxt(path, np.float64, comments=None, ndmin=2, encoding="latin-1")
    except ValueError:
        table = _read_repaired(path)
    if table.shape[1] != NUM_FIELDS or not np.isfinite(table).all():
        raise UserError(
            f"{path}: lines of {table.shape[1]} fields, not {NUM_FIELDS} finite numbers; "
            "unpack the room again."
        )
    return table


def repair_lines(lines: list[str]) -> tuple[list[str], list[int]]:
    """Repairs lines that hold broken characters.

    Args:
      lines: of one file, without line ends.

    Returns:
      The lines, and the 0-based numbers of those that were changed.
    """
    broken = [i for i, line in enumerate(lines) if BROKEN.search(line)]
    repaired = list(lines)
    for i in broken:
        num_fields = _fields_of_neighbor(lines, i)
        joined = BROKEN.sub("", lines[i])
        repaired[i] = joined if len(joined.split()) == num_fields else BROKEN.sub(" ", lines[i])
    return repaired, broken


def _class_index(path: Path) -> int:
    name = OBJECT_FILE.fullmatch(path.name)[1].lower()
    return CLASSES.index(name if name in CLASSES else OTHER_OBJECTS)


def _fields_of_neighbor(lines: list[str], i: int) -> int:
    """Counts the fields of the nearest line before or after that is not broken."""
    for distance in range(1, len(lines)):
        for j in (i - distance, i + distance):
            if 0 <= j < len(lines) and lines[j].strip() and not BROKEN.search(lines[j]):
                return len(lines[j].split())
    return NUM_FIELDS


def _read_repaired(path: Path) -> Array:
    lines = path.read_bytes().decode("latin-1").replace("\r", "").split("\n")
    lines, changed = repair_lines(lines)
    for i in changed:
        logger.warning(
            "%s: line %d held a broken character, now read as '%s'", path, i + 1, lines[i]
        )
    try:
        return np.loadtxt(lines, np.float64, comments=None, ndmin=2)
    except ValueError as error:
        raise UserError(
            f"{path}: a line is broken beyond repair ({error}); unpack the room again."
        ) from error
