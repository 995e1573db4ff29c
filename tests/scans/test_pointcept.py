"""Data prepared for Pointcept loads as it is."""

import numpy as np
import pytest

from mprm_jax.scans import s3dis, scannet
from mprm_jax.scans.pointcept import Pointcept

COORDS = np.array([[0, 0, 0], [1.5, 2, 0.25], [3, 1, 1]], np.float32)
COLORS = np.array([[0, 0, 0], [255, 128, 1], [10, 20, 30]], np.uint8)


def write_scene(folder, segment="segment20.npy", labels=(0, -1, 19), **arrays):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "coord.npy", arrays.get("coord", COORDS))
    np.save(folder / "color.npy", arrays.get("color", COLORS))
    if segment:
        np.save(folder / segment, np.asarray(labels))


@pytest.fixture
def root(tmp_path):
    write_scene(tmp_path / "train" / "scene0000_00")
    write_scene(tmp_path / "val" / "scene0011_00")
    write_scene(tmp_path / "test" / "scene0707_00", segment=None)
    return tmp_path


def read(root):
    return Pointcept(root).read("train", "scene0000_00")


def test_scene_is_read_as_it_is(root):
    scene = read(root)
    np.testing.assert_array_equal(scene.coords, COORDS)
    np.testing.assert_array_equal(scene.colors, COLORS)
    np.testing.assert_array_equal(scene.labels, [0, -1, 19])
    assert scene.coords.dtype == np.float64
    assert scene.labels.dtype == np.int32


def test_splits_are_the_folders(root):
    expected = {"train": ["scene0000_00"], "val": ["scene0011_00"], "test": ["scene0707_00"]}
    assert Pointcept(root).splits == expected


def test_segment20_means_the_classes_of_scannet(root):
    assert Pointcept(root).classes == scannet.CLASSES


def test_scene_without_segments_has_no_labels(root):
    assert Pointcept(root).read("test", "scene0707_00").labels is None


def test_normals_beside_a_scene_are_scaled_to_length_one(root):
    normals = np.array([[0, 0, 2], [3, 0, -4], [np.nan, 0, 0]], np.float32)
    folder = root / "train" / "scene0000_00"
    np.save(folder / "normal.npy", normals)
    expected = [[0, 0, 1], [0.6, 0, -0.8], [0, 0, 0]]
    np.testing.assert_allclose(read(root).normals, expected, atol=1e-7)  # rounding of float32
    assert str(folder / "normal.npy") in Pointcept(root).files("train", "scene0000_00")


def test_a_scene_without_normals_has_none(root):
    assert read(root).normals is None


def test_normals_of_another_length_are_left_out_with_a_note(root):
    np.save(root / "train" / "scene0000_00" / "normal.npy", np.ones((2, 3)))
    scene = read(root)
    assert scene.normals is None
    assert [note.warns for note in scene.notes if "normals" in note.text] == [True]


def test_data_without_colors_have_none(tmp_path):
    write_scene(tmp_path / "train" / "scene0000_00")
    (tmp_path / "train" / "scene0000_00" / "color.npy").unlink()
    assert read(tmp_path).colors is None


def test_files_are_those_that_read_opens(root):
    source = Pointcept(root)
    names = [path.rsplit("/", 1)[-1] for path in source.files("train", "scene0000_00")]
    assert names == ["coord.npy", "color.npy", "segment20.npy"]
    assert len(source.files("test", "scene0707_00")) == 2


def test_areas_are_s3dis_with_labels_of_one_column(tmp_path):
    for room in ("Area_1/office_3", "Area_5/hallway_6"):
        write_scene(tmp_path / room, "segment.npy", np.array([[0], [12], [7]], np.int16))
    source = Pointcept(tmp_path)
    expected = {"train": ["Area_1_office_3"], "val": ["Area_5_hallway_6"], "test": []}
    assert source.splits == expected
    assert source.classes == s3dis.CLASSES
    np.testing.assert_array_equal(source.read("val", "Area_5_hallway_6").labels, [0, 12, 7])


@pytest.mark.parametrize(
    ("name", "text"),
    [("classes.txt", "rock\ntall tree\n"), ("classes.json", '["rock", "tall tree"]')],
)
def test_a_file_in_the_root_names_the_classes(tmp_path, name, text):
    write_scene(tmp_path / "train" / "a", "segment.npy", [0, 1, -1])
    (tmp_path / name).write_text(text)
    assert Pointcept(tmp_path).classes == ("rock", "tall tree")


def test_classes_may_be_given(tmp_path):
    write_scene(tmp_path / "train" / "a", "segment.npy", [0, 1, -1])
    assert Pointcept(tmp_path, classes=["rock", "tree"]).classes == ("rock", "tree")


def test_unknown_classes_are_asked_for(tmp_path):
    write_scene(tmp_path / "train" / "a", "segment.npy", [0, 1, -1])
    with pytest.raises(ValueError, match=r"the classes are not known; write .* classes\.txt"):
        Pointcept(tmp_path)


def test_a_class_list_with_gaps_is_refused(tmp_path):
    write_scene(tmp_path / "train" / "a", "segment.npy", [0, 1, -1])
    (tmp_path / "classes.txt").write_text("0 rock\n2 tree\n")
    with pytest.raises(ValueError, match=r"classes\.txt: labels 0, 2; .* list the names"):
        Pointcept(tmp_path)


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "[1, 2]"])
def test_broken_classes_json_is_one_line(tmp_path, text):
    write_scene(tmp_path / "train" / "a", "segment.npy", [0, 1, -1])
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(ValueError, match=r"classes\.json: not .*; write"):
        Pointcept(tmp_path)


def test_a_label_beyond_the_classes_is_refused(root):
    write_scene(root / "train" / "scene0000_00", labels=[0, 1, 20])
    with pytest.raises(ValueError, match=r"segment20\.npy: label 20 but there are 20 .*; list all"):
        read(root)


def test_any_negative_label_is_ignored(root):
    write_scene(root / "train" / "scene0000_00", labels=[0, -100, 3])
    np.testing.assert_array_equal(read(root).labels, [0, -1, 3])


def test_labels_of_another_length_are_refused(root):
    write_scene(root / "train" / "scene0000_00", labels=[0, 1])
    with pytest.raises(ValueError, match=r"segment20\.npy: 2 labels for 3 points; prepare"):
        read(root)


def test_colors_of_another_length_are_refused(root):
    write_scene(root / "train" / "scene0000_00", color=COLORS[:2])
    with pytest.raises(ValueError, match=r"color\.npy: shape \(2, 3\) where \(3, 3\).*; prepare"):
        read(root)


def test_a_point_nowhere_is_refused(root):
    write_scene(root / "train" / "scene0000_00", coord=np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match=r"coord\.npy: a point is not finite; prepare"):
        read(root)


def test_a_missing_array_is_one_line(root):
    (root / "train" / "scene0000_00" / "color.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"color\.npy: no such file; prepare"):
        read(root)


@pytest.mark.parametrize("keep", [0, 50, -4])
def test_a_truncated_array_is_one_line(root, keep):
    path = root / "train" / "scene0000_00" / "coord.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"coord\.npy: not a readable NumPy array.*; prepare"):
        read(root)


def test_python_objects_are_never_loaded(root):
    np.save(root / "train" / "scene0000_00" / "coord.npy", np.array([{}], object))
    with pytest.raises(ValueError, match=r"coord\.npy: not a readable NumPy array"):
        read(root)


def test_a_root_without_scenes_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no scene folders .*--data pointcept:/path"):
        Pointcept(tmp_path)


def test_a_scene_in_two_splits_is_refused(root):
    write_scene(root / "val" / "scene0000_00")
    with pytest.raises(ValueError, match=r"scene0000_00 is in two splits; remove"):
        Pointcept(root)


def test_a_scene_of_another_split_is_refused(root):
    with pytest.raises(ValueError, match=r"scene0000_00: not in split 'val' of .*; check"):
        Pointcept(root).read("val", "scene0000_00")


def test_nan_under_a_segment_is_unannotated_and_counted(root):
    write_scene(root / "train" / "scene0000_00", labels=(np.nan, 2.0, 19.0))
    scene = read(root)
    np.testing.assert_array_equal(scene.labels, [-1, 2, 19])
    assert [note.count for note in scene.notes if "NaN" in note.text] == [1]


def test_one_color_above_255_does_not_make_16_bits(root):
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (200, 3))
    colors[3, 0] = 256
    coords = rng.uniform(0, 3, (200, 3))
    labels = np.zeros(200, int)
    write_scene(root / "train" / "scene0000_00", labels=labels, coord=coords, color=colors)
    np.testing.assert_array_equal(read(root).colors, np.minimum(colors, 255))
