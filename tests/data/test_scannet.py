"""ScanNet scenes as released, in every variant that circulates, and what broken ones say."""

import json

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from mprm_jax.data.scannet import (
    CLASSES,
    LABEL_MAP,
    NYU40_IDS,
    ScanNet,
    axis_alignment,
    official_split,
    to_benchmark_labels,
)
from mprm_jax.data.scannet_labels import read_label_map

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


def write_mesh(path, coords=COORDS, colors=True, labels=None):
    fields = [(name, "<f4") for name in "xyz"]
    fields += [(name, "u1") for name in ("red", "green", "blue", "alpha")] if colors else []
    fields += [("label", "<u2")] if labels is not None else []
    records = np.zeros(len(coords), fields)
    for i, name in enumerate("xyz"):
        records[name] = coords[:, i]
    if colors:
        records["red"] = 10 * np.arange(len(coords))
    if labels is not None:
        records["label"] = labels
    faces = np.empty(len(FACES), [("vertex_indices", "<i4", (3,))])
    faces["vertex_indices"] = FACES
    path.parent.mkdir(parents=True, exist_ok=True)
    elements = [PlyElement.describe(records, "vertex"), PlyElement.describe(faces, "face")]
    PlyData(elements, byte_order="<").write(path)


def write_annotation(folder, segments=SEGMENTS, groups=GROUPS, suffix=".aggregation.json"):
    name = folder.name
    (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(
        json.dumps({"sceneId": name, "segIndices": segments})
    )
    listed = [
        {"id": i, "objectId": i, "segments": members, "label": label}
        for i, (label, members) in enumerate(groups)
    ]
    (folder / f"{name}{suffix}").write_text(json.dumps({"sceneId": name, "segGroups": listed}))


@pytest.fixture
def root(tmp_path):
    """A ScanNet of one train scene, whose annotation a test may overwrite."""
    write_mesh(mesh(tmp_path))
    write_annotation(mesh(tmp_path).parent)
    (tmp_path / LABEL_MAP).write_bytes(OLD_MAP.encode())
    return tmp_path


def mesh(root):
    return root / "scans" / SCENE / f"{SCENE}_vh_clean_2.ply"


def read(root):
    return ScanNet(root).read("train", SCENE)


# Constants


def test_official_lists_have_their_sizes_and_share_no_scene():
    lists = [official_split(split) for split in ("train", "val", "test")]
    assert [len(names) for names in lists] == [1201, 312, 100]
    assert len(set().union(*lists)) == 1613


def test_official_lists_share_no_space():
    spaces = [{name[:9] for name in official_split(split)} for split in ("train", "val", "test")]
    assert [len(names) for names in spaces] == [565, 142, 100]
    assert len(set().union(*spaces)) == 807


def test_class_ids_are_those_of_the_benchmark():
    assert len(CLASSES) == len(NYU40_IDS) == 20
    ids = dict(zip(CLASSES, NYU40_IDS, strict=True))
    assert ids["desk"] == 14
    assert ids["refrigerator"] == 24
    assert ids["shower curtain"] == 28
    assert ids["otherfurniture"] == 39


def test_ids_outside_the_benchmark_are_ignored():
    ids = np.array([0, 1, 13, 14, 39, 40, 50, 149, -3, 65535])
    expected = [-1, 0, -1, 12, 19, -1, -1, -1, -1, -1]
    np.testing.assert_array_equal(to_benchmark_labels(ids), expected)


# Label map


@pytest.mark.parametrize("text", [OLD_MAP, NEW_MAP], ids=["old", "new"])
def test_both_label_maps_give_the_same_ids(tmp_path, text):
    (tmp_path / LABEL_MAP).write_bytes(text.encode())
    expected = {"wall": 1, "kitchen cabinet": 3, "refrigerator": 24, "object": 40}
    assert read_label_map(tmp_path / LABEL_MAP) == expected


def test_label_map_of_version_1_is_refused(tmp_path):
    (tmp_path / LABEL_MAP).write_text("category\tcount\tnyuId\tnyu40id\nwall\t1\t1\t1\n")
    with pytest.raises(ValueError, match=r"combined\.tsv: no columns raw_category.*use scannetv2"):
        read_label_map(tmp_path / LABEL_MAP)


def test_label_map_line_without_id_is_named(tmp_path):
    (tmp_path / LABEL_MAP).write_text(OLD_MAP + "5\tlamp\tlamp\t3\n")
    with pytest.raises(ValueError, match=r"combined\.tsv: line 6 has no NYU40 id; download"):
        read_label_map(tmp_path / LABEL_MAP)


def test_missing_label_map_is_found_before_any_scene_is_read(root):
    (root / LABEL_MAP).unlink()
    with pytest.raises(FileNotFoundError, match=r"combined\.tsv: the label map is missing; copy"):
        ScanNet(root)


# Scenes


def test_scene_has_points_colors_labels_and_faces(root):
    scene = read(root)
    np.testing.assert_array_equal(scene.coords, COORDS)
    assert scene.coords.dtype == np.float64
    np.testing.assert_array_equal(scene.colors[:, 0], 10 * np.arange(6))
    np.testing.assert_array_equal(scene.labels, LABELS)
    assert scene.labels.dtype == np.int32
    np.testing.assert_array_equal(scene.faces, FACES)
    assert scene.weak_labels is None


def test_a_later_group_overwrites_an_earlier_one(root):
    write_annotation(mesh(root).parent, groups=[*GROUPS, ("refrigerator", [7])])
    np.testing.assert_array_equal(read(root).labels, [14, 14, 2, 2, 2, -1])


def test_an_unknown_category_is_unannotated(root):
    write_annotation(mesh(root).parent, groups=[("unicorn", [7]), ("wall", [4])])
    np.testing.assert_array_equal(read(root).labels, [-1, -1, -1, -1, -1, 0])


def test_groups_of_the_full_mesh_are_the_fallback_and_may_have_lost_segments(root):
    folder = mesh(root).parent
    (folder / f"{SCENE}.aggregation.json").unlink()
    groups = [*GROUPS, ("wall", [12345])]
    write_annotation(folder, groups=groups, suffix="_vh_clean.aggregation.json")
    np.testing.assert_array_equal(read(root).labels, LABELS)


def test_labels_mesh_stands_in_for_a_missing_annotation(root):
    folder = mesh(root).parent
    (folder / f"{SCENE}.aggregation.json").unlink()
    labels = folder / f"{SCENE}_vh_clean_2.labels.ply"
    write_mesh(labels, labels=[1, 3, 39, 50, 149, 0])
    np.testing.assert_array_equal(read(root).labels, [0, 2, 19, -1, -1, -1])
    assert ScanNet(root).files("train", SCENE) == [str(mesh(root)), str(labels)]


def test_test_scenes_have_no_labels(root):
    path = root / "scans_test" / TEST_SCENE / f"{TEST_SCENE}_vh_clean_2.ply"
    write_mesh(path)
    source = ScanNet(root)
    assert source.read("test", TEST_SCENE).labels is None
    assert source.files("test", TEST_SCENE) == [str(path)]


def test_files_are_those_that_read_opens(root):
    names = [path.rsplit("/", 1)[-1] for path in ScanNet(root).files("train", SCENE)]
    assert names == [
        f"{SCENE}_vh_clean_2.ply",
        f"{SCENE}_vh_clean_2.0.010000.segs.json",
        f"{SCENE}.aggregation.json",
        LABEL_MAP,
    ]


# Splits


def test_official_lists_are_taken_for_the_folders_that_exist(root):
    splits = ScanNet(root).splits
    assert [len(splits[split]) for split in ("train", "val", "test")] == [1201, 312, 0]


def test_lists_in_the_root_replace_the_official_ones(root):
    (root / "scannetv2_val.txt").write_text(f"{SCENE}\n")
    source = ScanNet(root)
    assert source.splits == {"train": [], "val": [SCENE], "test": []}
    np.testing.assert_array_equal(source.read("val", SCENE).labels, LABELS)


def test_a_root_without_scenes_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no scene .*--data scannet:/path"):
        ScanNet(tmp_path)


def test_a_scene_of_no_list_is_refused(root):
    with pytest.raises(ValueError, match=r"kitchen: not in split 'train' of .*; check the lists"):
        ScanNet(root).read("train", "kitchen")


# Broken scenes


def test_a_listed_scene_that_is_not_there_names_its_mesh(root):
    with pytest.raises(FileNotFoundError, match=r"scene0001_00_vh_clean_2\.ply: no such file"):
        ScanNet(root).read("train", "scene0001_00")


def test_truncated_mesh_is_one_line(root):
    mesh(root).write_bytes(mesh(root).read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"_vh_clean_2\.ply: not a readable PLY.*export it again"):
        read(root)


def test_mesh_without_colors_is_refused(root):
    write_mesh(mesh(root), colors=False)
    with pytest.raises(ValueError, match=r"_vh_clean_2\.ply: the mesh has no colors; download"):
        read(root)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_mesh_with_a_vertex_nowhere_is_refused(root, value):
    coords = COORDS.copy()
    coords[2, 1] = value
    write_mesh(mesh(root), coords)
    with pytest.raises(ValueError, match=r"_vh_clean_2\.ply: a vertex is not finite; download"):
        read(root)


def test_segments_of_another_mesh_are_refused(root):
    write_annotation(mesh(root).parent, segments=SEGMENTS[:-1])
    with pytest.raises(ValueError, match=r"segs\.json: 5 segment ids .* 6 vertices.*download both"):
        read(root)


def test_groups_of_another_mesh_are_refused(root):
    write_annotation(mesh(root).parent, groups=[*GROUPS, ("wall", [12345])])
    with pytest.raises(ValueError, match=r"aggregation\.json: 1 of 4 segments .*download both"):
        read(root)


def test_full_mesh_groups_that_fit_nowhere_are_refused(root):
    folder = mesh(root).parent
    (folder / f"{SCENE}.aggregation.json").unlink()
    groups = [("wall", [1, 2, 3, 7])]
    write_annotation(folder, groups=groups, suffix="_vh_clean.aggregation.json")
    with pytest.raises(ValueError, match=r"_vh_clean\.aggregation\.json: 3 of 4 segments"):
        read(root)


@pytest.mark.parametrize("suffix", ["_vh_clean_2.0.010000.segs.json", ".aggregation.json"])
@pytest.mark.parametrize("text", ['{"sceneId": "sce', "{}", "[]"])
def test_broken_annotation_is_one_line(root, suffix, text):
    path = mesh(root).parent / f"{SCENE}{suffix}"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"{SCENE}{suffix}: no .*; download it again") as caught:
        read(root)
    assert "\n" not in str(caught.value)


def test_scene_without_annotation_names_what_is_missing(root):
    (mesh(root).parent / f"{SCENE}_vh_clean_2.0.010000.segs.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"segs\.json: the annotation is missing.*download"):
        read(root)


def test_labels_mesh_of_another_mesh_is_refused(root):
    folder = mesh(root).parent
    (folder / f"{SCENE}.aggregation.json").unlink()
    path = folder / f"{SCENE}_vh_clean_2.labels.ply"
    write_mesh(path, COORDS[:4], labels=[1, 1, 1, 1])
    with pytest.raises(ValueError, match=r"labels\.ply: 4 labels for 6 vertices; download"):
        read(root)


# Axis alignment


def test_axis_alignment_is_read_but_not_applied(root):
    path = mesh(root).parent / f"{SCENE}.txt"
    numbers = np.arange(16) / 4
    path.write_text(f"appVersionId = 1\naxisAlignment = {' '.join(map(str, numbers))} \n")
    np.testing.assert_array_equal(axis_alignment(path), numbers.reshape(4, 4))
    np.testing.assert_array_equal(read(root).coords, COORDS)


def test_axis_alignment_is_identity_where_absent(tmp_path):
    (tmp_path / "a.txt").write_text("sceneType = Office\n")
    np.testing.assert_array_equal(axis_alignment(tmp_path / "a.txt"), np.eye(4))


def test_broken_axis_alignment_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("axisAlignment = 1 0 0\n")
    with pytest.raises(ValueError, match=r"a\.txt: axisAlignment is not 16 numbers; download"):
        axis_alignment(tmp_path / "a.txt")
