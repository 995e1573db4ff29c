"""PLY clouds and meshes, ASCII or binary, through plyfile."""

from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement, PlyElementParseError, PlyParseError

from mprm_jax.data.formats.cloud import CloudFile, cloud_from_columns
from mprm_jax.types import Array

# Told the list length, plyfile maps the faces into memory; else it loops over them in Python.
TRIANGLES = {"face": {"vertex_indices": 3, "vertex_index": 3}}


def read_ply(path: Path) -> CloudFile:
    """Reads x y z, colors, a label property and faces; polygons become fans of triangles.

    Raises:
      ValueError: the file is truncated, not a PLY, or its faces name vertices it does not have.
    """
    try:
        elements = {element.name: element for element in _parse(path).elements}
    except (PlyParseError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: not a readable PLY file ({error}); copy or export it again."
        ) from error
    if "vertex" not in elements:
        raise ValueError(f"{path}: the PLY file has no vertex element; export the scan again.")
    vertex = elements["vertex"]
    columns = {
        name: np.asarray(vertex[name])
        for name in vertex.data.dtype.names
        if vertex[name].dtype != object
    }
    faces = _faces(elements["face"]) if "face" in elements else None
    if faces is not None and (faces.min() < 0 or faces.max() >= vertex.count):
        raise ValueError(
            f"{path}: a face names vertex {faces.max()} of {vertex.count}; export the mesh again."
        )
    return cloud_from_columns(path, columns, faces)


def _parse(path: Path) -> PlyData:
    try:
        return PlyData.read(path, known_list_len=TRIANGLES)
    except PlyElementParseError as error:
        if error.element is None or error.element.name != "face":
            raise
    return PlyData.read(path)  # the faces are not all triangles


def _faces(element: PlyElement) -> Array | None:
    lists = [name for name in TRIANGLES["face"] if name in element.data.dtype.names]
    if not lists or not element.count:
        return None
    polygons = element[lists[0]]
    if polygons.dtype != object:
        return np.asarray(polygons).astype(np.int32)
    fans = [
        (polygon[0], polygon[i], polygon[i + 1])
        for polygon in polygons
        for i in range(1, len(polygon) - 1)
    ]
    return np.array(fans, np.int32).reshape(-1, 3) if fans else None
