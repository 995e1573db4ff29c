"""A cloud of four points, its PLY files, and where real scans are."""

import os
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

REAL_SCANS = Path(
    os.environ.get("MPRM_REAL_SCANS", Path(__file__).parents[1].parent / "shared" / "data")
)
needs_real_scans = pytest.mark.skipif(
    not REAL_SCANS.is_dir(), reason="set MPRM_REAL_SCANS to a folder of real scans"
)

COORDS = np.array([[0, 0, 0], [1.5, 0, 0.25], [0, 2, -1], [3, 3, 3]], np.float32)
COLORS = np.array([[0, 0, 0], [255, 128, 1], [10, 20, 30], [200, 100, 50]], np.uint8)
LABELS = np.array([0, 3, 255, 1], np.int32)
FACES = np.array([[0, 1, 2], [1, 2, 3]], np.int32)


def vertices(color_type="u1", label=None):
    """Gives the records of a PLY vertex element."""
    fields = [(name, "<f4") for name in "xyz"]
    fields += [(name, color_type) for name in ("red", "green", "blue")]
    records = np.empty(len(COORDS), fields + ([(label, "<u2")] if label else []))
    for i, name in enumerate("xyz"):
        records[name] = COORDS[:, i]
    for i, name in enumerate(("red", "green", "blue")):
        records[name] = COLORS[:, i] if color_type == "u1" else COLORS[:, i] / 255
    if label:
        records[label] = LABELS
    return records


def write_ply(path, records, polygons=(), text=False):
    """Writes a PLY of vertex records and lists of vertices."""
    elements = [PlyElement.describe(records, "vertex")]
    if len(polygons):
        faces = np.empty(len(polygons), [("vertex_indices", object)])
        faces["vertex_indices"] = [np.array(polygon, np.int32) for polygon in polygons]
        elements.append(PlyElement.describe(faces, "face"))
    PlyData(elements, text=text, byte_order="<").write(path)


def check_cloud(cloud, colors=True, labels=True):
    """Asserts that a reader gave the cloud of this module, with or without its parts."""
    np.testing.assert_array_equal(cloud.coords, COORDS)
    assert cloud.coords.dtype == np.float64
    assert (cloud.colors is not None) == colors
    if colors:
        assert cloud.colors.dtype == np.uint8
        np.testing.assert_array_equal(cloud.colors, COLORS)
    assert (cloud.labels is not None) == labels
    if labels:
        assert cloud.labels.dtype == np.int32
        np.testing.assert_array_equal(cloud.labels, LABELS)
