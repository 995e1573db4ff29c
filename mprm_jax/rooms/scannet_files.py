"""Writes scans in the file layout of ScanNet v2."""

import json
import pathlib

import numpy as np
from plyfile import PlyData, PlyElement

from mprm_jax.rooms.labels import TABLE_COLUMNS, table_rows
from mprm_jax.rooms.scan import Scan


def write_scan(folder: pathlib.Path, name: str, scan: Scan, *, annotated: bool) -> None:
    """Writes the files of one scene into an existing folder."""
    _write_mesh(folder / f"{name}_vh_clean_2.ply", scan)
    info = [f"sceneId = {name}", "sceneType = Rooms"]
    if annotated:
        _write_annotation(folder, name, scan)
        matrix = " ".join(f"{value:.6f}" for value in scan.axis_alignment.ravel())
        info.insert(0, f"axisAlignment = {matrix}")
    (folder / f"{name}.txt").write_text("\n".join(info) + "\n")


def label_table() -> str:
    """Returns the text of the table of raw categories."""
    rows = [list(TABLE_COLUMNS), *table_rows()]
    return "".join("\t".join(row) + "\n" for row in rows)


def _write_mesh(path: pathlib.Path, scan: Scan) -> None:
    """Writes a binary little-endian mesh."""
    fields = [(axis, "<f4") for axis in "xyz"]
    fields += [(color, "u1") for color in ("red", "green", "blue", "alpha")]
    vertices = np.empty(len(scan.points), fields)
    for axis, column in zip("xyz", scan.points.T, strict=True):
        vertices[axis] = column
    for color, column in zip(("red", "green", "blue"), scan.colors.T, strict=True):
        vertices[color] = column
    vertices["alpha"] = 255
    faces = np.empty(len(scan.faces), [("vertex_indices", "<i4", (3,))])
    faces["vertex_indices"] = scan.faces
    elements = [PlyElement.describe(vertices, "vertex"), PlyElement.describe(faces, "face")]
    PlyData(elements, byte_order="<").write(str(path))


def _write_annotation(folder: pathlib.Path, name: str, scan: Scan) -> None:
    """Writes the segments and the objects they make up."""
    segments_file = f"{name}_vh_clean_2.0.010000.segs.json"
    params = {"kThresh": "0.0100", "segMinVerts": "20", "minPoints": "750", "maxPoints": "30000"}
    segments = {"params": params, "sceneId": name, "segIndices": scan.segments.tolist()}
    (folder / segments_file).write_text(json.dumps(segments, separators=(",", ":")))
    groups = [
        {"id": i, "objectId": i, "segments": list(group.segments), "label": group.category}
        for i, group in enumerate(scan.groups)
    ]
    aggregation = {"sceneId": f"scannet.{name}", "appId": "Rooms", "segGroups": groups}
    aggregation["segmentsFile"] = f"scannet.{segments_file}"
    (folder / f"{name}.aggregation.json").write_text(json.dumps(aggregation))
