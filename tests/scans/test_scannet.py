"""ScanNet scenes as released, in every variant that circulates."""

import numpy as np
import pytest
from scannet_files import (
    COORDS,
    FACES,
    GROUPS,
    LABELS,
    SCENE,
    TEST_SCENE,
    mesh,
    read_scene,
    write_annotation,
    write_mesh,
    write_scannet,
)

from mprm_jax.errors import UserError
from mprm_jax.scans.scannet import (
    CLASSES,
    LABEL_MAP,
    NYU40_IDS,
    ScanNet,
    axis_alignment,
    official_split,
    to_benchmark_labels,
)


@pytest.fixture
def root(tmp_path):
    """A ScanNet of one train scene, whose files a test may overwrite."""
    write_scannet(tmp_path)
    return tmp_path


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


def test_scene_has_points_colors_labels_and_faces(root):
    scene = read_scene(root)
    np.testing.assert_array_equal(scene.coords, COORDS)
    assert scene.coords.dtype == np.float64
    np.testing.assert_array_equal(scene.colors[:, 0], 10 * np.arange(6))
    np.testing.assert_array_equal(scene.labels, LABELS)
    assert scene.labels.dtype == np.int32
    np.testing.assert_array_equal(scene.faces, FACES)
    assert scene.weak_labels is None


def test_a_later_group_overwrites_an_earlier_one(root):
    write_annotation(mesh(root).parent, groups=[*GROUPS, ("refrigerator", [7])])
    np.testing.assert_array_equal(read_scene(root).labels, [14, 14, 2, 2, 2, -1])


def test_an_unknown_category_is_unannotated(root):
    write_annotation(mesh(root).parent, groups=[("unicorn", [7]), ("wall", [4])])
    np.testing.assert_array_equal(read_scene(root).labels, [-1, -1, -1, -1, -1, 0])


def test_groups_of_the_full_mesh_are_the_fallback_and_may_have_lost_segments(root):
    folder = mesh(root).parent
    (folder / f"{SCENE}.aggregation.json").unlink()
    groups = [*GROUPS, ("wall", [12345])]
    write_annotation(folder, groups=groups, suffix="_vh_clean.aggregation.json")
    np.testing.assert_array_equal(read_scene(root).labels, LABELS)


def test_labels_mesh_stands_in_for_a_missing_annotation(root):
    folder = mesh(root).parent
    (folder / f"{SCENE}.aggregation.json").unlink()
    labels = folder / f"{SCENE}_vh_clean_2.labels.ply"
    write_mesh(labels, labels=[1, 3, 39, 50, 149, 0])
    np.testing.assert_array_equal(read_scene(root).labels, [0, 2, 19, -1, -1, -1])
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


def test_axis_alignment_is_read_but_not_applied(root):
    path = mesh(root).parent / f"{SCENE}.txt"
    numbers = np.arange(16) / 4
    path.write_text(f"appVersionId = 1\naxisAlignment = {' '.join(map(str, numbers))} \n")
    np.testing.assert_array_equal(axis_alignment(path), numbers.reshape(4, 4))
    np.testing.assert_array_equal(read_scene(root).coords, COORDS)


def test_axis_alignment_is_identity_where_absent(tmp_path):
    (tmp_path / "a.txt").write_text("sceneType = Office\n")
    np.testing.assert_array_equal(axis_alignment(tmp_path / "a.txt"), np.eye(4))


def test_broken_axis_alignment_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("axisAlignment = 1 0 0\n")
    with pytest.raises(ValueError, match=r"a\.txt: axisAlignment is not 16 numbers; download"):
        axis_alignment(tmp_path / "a.txt")


def test_lists_of_any_editor_are_read_and_others_are_one_line(root):
    path = root / "scannetv2_train.txt"
    path.write_bytes(f"\ufeff{SCENE}\r\n".encode())
    assert ScanNet(root).splits["train"] == [SCENE]
    path.write_bytes(SCENE.encode("utf-16"))
    with pytest.raises(UserError, match=r"scannetv2_train\.txt: not UTF-8 text"):
        ScanNet(root)


def test_an_alignment_beside_words_of_any_encoding_is_read(tmp_path):
    numbers = " ".join(map(str, np.eye(4).ravel()))
    text = f"sceneType = B\u00fcro\naxisAlignment = {numbers}\n"
    (tmp_path / "scene.txt").write_bytes(text.encode("latin-1"))
    np.testing.assert_array_equal(axis_alignment(tmp_path / "scene.txt"), np.eye(4))
