"""Point labels of a ScanNet scene: vertex -> segment -> group -> raw category -> NYU40 id."""

import csv
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.types import Array

logger = logging.getLogger(__name__)

UNANNOTATED = 0  # NYU40 id of vertices in no group and of unknown categories
# Of the segments of a high-resolution annotation, this share may have vanished in decimation.
MAX_LOST_SEGMENTS = 0.5


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


def _read_segments(path: Path, num_vertices: int) -> Array:
    """Reads the [num_vertices] int64 segment ids."""
    try:
        segments = np.asarray(_read_json(path)["segIndices"], np.int64).reshape(-1)
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
            for group in _read_json(path)["segGroups"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: no groups with 'label' and 'segments' under 'segGroups' ({error}); "
            "download it again."
        ) from error


def _read_json(path: Path) -> dict:
    with open(path, encoding="utf-8") as file:
        return json.load(file)
