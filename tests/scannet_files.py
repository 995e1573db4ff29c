"""A ScanNet of one tiny train scene in ScanNet's own files."""

import json

import numpy as np
from plyfile import PlyData, PlyElement

from mprm_jax.scans.scannet import LABEL_MAP, ScanNet

SCENE = "scene0000_00"  # in the official train list
TEST_SCENE = "scene0707_00"
COORDS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [2, 2, 1], [3, 3, 1]], np.float32)
FACES = np.array([[0, 1, 2], [1, 2, 3]], np.int32)
SEGMENTS = [7, 7, 900, 900, 31, 4]  # the last one is in no group
GROUPS = [("wall", [7]), ("kitchen cabinet", [900, 31])]
LABELS = [0, 0, 2, 2, 2, -1]

COLUMNS = "id\traw_category\tcategory\tcount\tnyu40id\teigen13id\tnyuClass\tnyu40class"
OLD_MAP = (
    COLUMNS
    + "\n1\twall\twall\t8277\t1\t12\twall\twall"
    + "\n18\tkitchen cabinet\tkitchen cabinet \t262\t3\t6\tcabinet\tcabinet"
    + "\n27\trefrigerator\trefrigerator\t8\t24\n"
    + "40\tobject\tobject\t3\t40\t7\n"
)
# The newer version: CRLF with stray CRs, "object" twice, an outer blank.
NEW_MAP = (
    OLD_MAP.replace("\n", "\r\n")
    .replace("\tcount", "\tcount\r")
    .replace("\twall\twall\t8277", "\t wall \twall\t8277")
    + "1357\tobject\tobject\t9\t40\t7\r\r\n\r\n"
)


def write_mesh(path, coords=COORDS, colors=True, labels=None, normals=False):
    """Writes a mesh with ScanNet's properties; normals point up."""
    fields = [(name, "<f4") for name in "xyz"]
    fields += [(name, "u1") for name in ("red", "green", "blue", "alpha")] if colors else []
    fields += [("label", "<u2")] if labels is not None else []
    fields += [(name, "<f4") for name in ("nx", "ny", "nz")] if normals else []
    records = np.zeros(len(coords), fields)
    for i, name in enumerate("xyz"):
        records[name] = coords[:, i]
    if colors:
        records["red"] = 10 * np.arange(len(coords))
    if labels is not None:
        records["label"] = labels
    if normals:
        records["nz"] = 1
    faces = np.empty(len(FACES), [("vertex_indices", "<i4", (3,))])
    faces["vertex_indices"] = FACES
    path.parent.mkdir(parents=True, exist_ok=True)
    elements = [PlyElement.describe(records, "vertex"), PlyElement.describe(faces, "face")]
    PlyData(elements, byte_order="<").write(path)


def write_annotation(folder, segments=SEGMENTS, groups=GROUPS, suffix=".aggregation.json"):
    """Writes the segments of a scene and the groups of segments."""
    name = folder.name
    (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(
        json.dumps({"sceneId": name, "segIndices": segments})
    )
    listed = [
        {"id": i, "objectId": i, "segments": members, "label": label}
        for i, (label, members) in enumerate(groups)
    ]
    (folder / f"{name}{suffix}").write_text(json.dumps({"sceneId": name, "segGroups": listed}))


def write_scannet(root):
    """Writes the train scene and the label map."""
    write_mesh(mesh(root))
    write_annotation(mesh(root).parent)
    (root / LABEL_MAP).write_bytes(OLD_MAP.encode())


def mesh(root):
    """Names the mesh of the train scene."""
    return root / "scans" / SCENE / f"{SCENE}_vh_clean_2.ply"


def read_scene(root):
    """Reads the train scene."""
    return ScanNet(root).read("train", SCENE)
