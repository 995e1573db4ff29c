"""ScanNet v2 as released: meshes with colors, labels from segments and their groups.

    root/scans/<id>/<id>_vh_clean_2.ply                     mesh; its vertices are the points
    root/scans/<id>/<id>_vh_clean_2.0.010000.segs.json      segment of each vertex
    root/scans/<id>/<id>.aggregation.json                   category of each group of segments
    root/scans/<id>/<id>_vh_clean_2.labels.ply              used where the two above are missing
    root/scans_test/<id>/<id>_vh_clean_2.ply                no labels
    root/scannetv2-labels.combined.tsv                      raw category -> NYU40 id
    root/scannetv2_{train,val,test}.txt                     optional; else the official lists

The label of a point: vertex -> segment -> group -> raw category -> NYU40 id.
"""

import csv
import logging
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from mprm_jax.errors import MissingError, UserError
from mprm_jax.reading import read_json
from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.scans.scene import Scene
from mprm_jax.scans.typed_files import read_typed
from mprm_jax.types import IGNORED, Array

logger = logging.getLogger(__name__)

CLASSES = (
    "wall",
    "floor",
    "cabinet",
    "bed",
    "chair",
    "sofa",
    "table",
    "door",
    "window",
    "bookshelf",
    "picture",
    "counter",
    "desk",
    "curtain",
    "refrigerator",
    "shower curtain",
    "toilet",
    "sink",
    "bathtub",
    "otherfurniture",
)
# Source: the benchmark's list of valid ids, in the order of CLASSES.
NYU40_IDS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)
LABEL_MAP = "scannetv2-labels.combined.tsv"
FOLDERS = {"train": "scans", "val": "scans", "test": "scans_test"}
UNANNOTATED = 0  # NYU40 id of vertices in no group and of unknown categories
# Of the segments of a high-resolution annotation, this share may have vanished in decimation.
MAX_LOST_SEGMENTS = 0.5


class ScanNet:
    """Reads ScanNet v2 in its raw frame: the released axis alignment is not applied."""

    name = "scannet"
    classes: Sequence[str] = CLASSES
    optional: Collection[str] = ()

    def __init__(self, root: str | Path):
        """Finds the scenes.

        Args:
          root: the folder that holds `scans` and `scans_test`.

        Raises:
          OSError: there are no scans, or the label map that their annotations need is missing.
          ValueError: the label map or a split list is broken.
        """
        self.root = Path(root)
        self.splits: Mapping[str, Sequence[str]] = _find_splits(self.root)
        label_map = self.root / LABEL_MAP
        self._nyu40_by_category = read_label_map(label_map) if label_map.is_file() else {}
        if not self._nyu40_by_category and self._has_aggregations():
            raise MissingError(
                f"{label_map}: the label map is missing; "
                "copy it from the ScanNet download next to the folder scans."
            )

    def files(self, split: str, name: str) -> Sequence[str]:
        """Lists the files of a scene; the mesh is always among them, missing or not."""
        folder = self._folder(split, name)
        paths = [_mesh_path(folder)]
        if split != "test":
            annotation = [segments_path(folder), aggregation_path(folder)]
            if all(path.is_file() for path in annotation):
                paths += [*annotation, self.root / LABEL_MAP]
            elif _labels_mesh_path(folder).is_file():
                paths.append(_labels_mesh_path(folder))
            else:
                paths += annotation
        return [str(path) for path in paths]

    def said(self, split: str, name: str) -> str:
        return ""

    def read(self, split: str, name: str) -> Scene:
        """Reads the mesh and, outside the test split, the class of each vertex."""
        folder = self._folder(split, name)
        mesh = _read_mesh(_mesh_path(folder))
        labels = None
        if split != "test":
            labels = to_benchmark_labels(self._read_nyu40_ids(folder, len(mesh.coords)))
        rest = {"notes": mesh.notes, "normals": mesh.normals}
        return Scene(mesh.coords, mesh.colors, labels, mesh.faces, None, **rest)

    def _folder(self, split: str, name: str) -> Path:
        if name not in self.splits.get(split, ()):
            raise UserError(f"{name}: not in split {split!r} of {self.root}; check the lists.")
        return self.root / FOLDERS[split] / name

    def _has_aggregations(self) -> bool:
        scans = self.root / "scans"
        return scans.is_dir() and any(
            aggregation_path(folder).is_file() for folder in scans.iterdir() if folder.is_dir()
        )

    def _read_nyu40_ids(self, folder: Path, num_vertices: int) -> Array:
        annotation = [segments_path(folder), aggregation_path(folder)]
        missing = [path for path in annotation if not path.is_file()]
        if not missing:
            return vertex_nyu40_ids(folder, num_vertices, self._nyu40_by_category)
        labels_mesh = _labels_mesh_path(folder)
        if not labels_mesh.is_file():
            raise MissingError(
                f"{missing[0]}: the annotation is missing, and so is {labels_mesh.name}; "
                "download the scene again."
            )
        labels = read_cloud(labels_mesh).labels
        if labels is None or len(labels) != num_vertices:
            raise UserError(
                f"{labels_mesh}: {0 if labels is None else len(labels)} labels for "
                f"{num_vertices} vertices; download the scene again."
            )
        return labels


def to_benchmark_labels(nyu40_ids: Array) -> Array:
    """Converts NYU40 ids to class indices; ids outside the benchmark become IGNORED.

    Args:
      nyu40_ids: [N] integers, any value.

    Returns:
      [N] int32 into CLASSES.
    """
    table = np.full(max(NYU40_IDS) + 2, IGNORED, np.int32)
    table[list(NYU40_IDS)] = np.arange(len(NYU40_IDS))
    known = (nyu40_ids >= 0) & (nyu40_ids <= max(NYU40_IDS))
    return table[np.where(known, nyu40_ids, max(NYU40_IDS) + 1)]


def official_split(split: str) -> list[str]:
    """Gives the scenes of the benchmark's train, val or test list, in its order."""
    lists = resources.files("mprm_jax.scans") / "splits"
    return (lists / f"scannetv2_{split}.txt").read_text(encoding="utf-8").split()


def axis_alignment(path: str | Path) -> Array:
    """Reads the [4, 4] float64 matrix that turns a scan's raw frame into its aligned one.

    Args:
      path: the `<id>.txt` of a scene. Test scans have no matrix in theirs: identity.

    Raises:
      OSError: the file is missing.
      ValueError: the matrix is not 16 numbers.
    """
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key.strip() != "axisAlignment":
            continue
        try:
            return np.array(value.split(), np.float64).reshape(4, 4)
        except ValueError as error:
            raise UserError(
                f"{path}: axisAlignment is not 16 numbers; download the file again."
            ) from error
    return np.eye(4)


def segments_path(folder: Path) -> Path:
    """Names the file with one segment id per vertex."""
    return folder / f"{folder.name}_vh_clean_2.0.010000.segs.json"


def aggregation_path(folder: Path) -> Path:
    """Names the file with the groups of segments.

    `<id>.aggregation.json` describes the decimated mesh; where it is missing, the groups of the
    full mesh in `<id>_vh_clean.aggregation.json` are read, as the released MPRM code does.
    """
    path = folder / f"{folder.name}.aggregation.json"
    full = folder / f"{folder.name}_vh_clean.aggregation.json"
    return full if full.is_file() and not path.is_file() else path


def read_label_map(path: Path) -> dict[str, int]:
    """Reads the NYU40 id of each raw category from ScanNet's table.

    Both circulating versions are read: line ends may be LF, CRLF or hold stray CRs, names may
    have outer blanks, trailing columns may be missing, and the last of two equal rows counts.

    Raises:
      OSError: the file is missing.
      ValueError: the columns are missing or an id is not a number.
    """
    text = path.read_bytes().decode("utf-8", errors="replace").replace("\r", "")
    rows = list(csv.reader(text.split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE))
    header = [name.strip() for name in rows[0]] if rows else []
    if "raw_category" not in header or "nyu40id" not in header:
        raise UserError(
            f"{path}: no columns raw_category and nyu40id; "
            "use scannetv2-labels.combined.tsv of ScanNet v2."
        )
    name_column, id_column = header.index("raw_category"), header.index("nyu40id")
    ids = {}
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= id_column or not row[id_column].strip().isdecimal():
            raise UserError(f"{path}: line {number} has no NYU40 id; download the file again.")
        ids[row[name_column].strip()] = int(row[id_column])
    return ids


def vertex_nyu40_ids(
    folder: Path, num_vertices: int, nyu40_by_category: Mapping[str, int]
) -> Array:
    """Labels the vertices of a scene.

    A vertex in several groups takes the last one, as in the ScanNet and Pointcept tools.

    Args:
      folder: the scene.
      num_vertices: vertices of its mesh.
      nyu40_by_category: from `read_label_map`; other categories count as unannotated.

    Returns:
      [num_vertices] int32, UNANNOTATED (0) in no group.

    Raises:
      ValueError: a file is broken or belongs to another mesh.
    """
    segments, rows = np.unique(
        _read_segments(segments_path(folder), num_vertices), return_inverse=True
    )
    path = aggregation_path(folder)
    id_of_segment = np.full(len(segments), UNANNOTATED, np.int32)
    num_listed = num_unknown = 0
    for category, members in _read_groups(path):
        slots = np.searchsorted(segments, members)
        known = segments[np.minimum(slots, len(segments) - 1)] == members
        id_of_segment[slots[known]] = nyu40_by_category.get(category, UNANNOTATED)
        num_listed += len(members)
        num_unknown += int(np.sum(~known))
    of_full_mesh = path.name.endswith("_vh_clean.aggregation.json")
    if num_unknown > (MAX_LOST_SEGMENTS * num_listed if of_full_mesh else 0):
        raise UserError(
            f"{path}: {num_unknown} of {num_listed} segments are unknown to "
            f"{segments_path(folder).name}, so one is of another mesh; download both again."
        )
    if num_unknown:
        logger.info("%s: %d of %d segments skipped", path, num_unknown, num_listed)
    return id_of_segment[rows]


def _find_splits(root: Path) -> dict[str, list[str]]:
    """Takes the lists in the root if it has any, else the official ones for the folders it has."""
    own = {split: root / f"scannetv2_{split}.txt" for split in FOLDERS}
    if any(path.is_file() for path in own.values()):
        splits = {
            split: read_typed(path).split() if path.is_file() else [] for split, path in own.items()
        }
    else:
        splits = {
            split: official_split(split) if (root / FOLDERS[split]).is_dir() else []
            for split in FOLDERS
        }
    found = {
        split: sum((root / FOLDERS[split] / name).is_dir() for name in names)
        for split, names in splits.items()
    }
    if not any(found.values()):
        raise MissingError(
            f"{root}: no scene of the split lists in scans or scans_test; "
            "give the folder that holds them, as in --data scannet:/path/to/scannet."
        )
    for split, names in splits.items():
        if found[split] < len(names):
            logger.warning("%s: %d of %d %s scenes found", root, found[split], len(names), split)
    return splits


def _read_mesh(path: Path) -> CloudFile:
    mesh = read_cloud(path)
    if mesh.colors is None:
        raise UserError(f"{path}: the mesh has no colors; download the scene again.")
    if not np.isfinite(mesh.coords).all():
        raise UserError(f"{path}: a vertex is not finite; download the scene again.")
    return mesh


def _mesh_path(folder: Path) -> Path:
    return folder / f"{folder.name}_vh_clean_2.ply"


def _labels_mesh_path(folder: Path) -> Path:
    return folder / f"{folder.name}_vh_clean_2.labels.ply"


def _read_segments(path: Path, num_vertices: int) -> Array:
    """Reads the [num_vertices] int64 segment ids."""
    try:
        segments = np.asarray(read_json(path)["segIndices"], np.int64).reshape(-1)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: no list of segment ids under 'segIndices' ({error}); download it again."
        ) from error
    if len(segments) != num_vertices:
        raise UserError(
            f"{path}: {len(segments)} segment ids but the mesh has {num_vertices} vertices; "
            "the two are of different meshes, download both again."
        )
    return segments


def _read_groups(path: Path) -> list[tuple[str, Array]]:
    """Reads raw category and [S] int64 segment ids of each group, in file order."""
    try:
        return [
            (str(group["label"]).strip(), np.asarray(group["segments"], np.int64).reshape(-1))
            for group in read_json(path)["segGroups"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: no groups with 'label' and 'segments' under 'segGroups' ({error}); "
            "download it again."
        ) from error
