"""S3DIS rooms of both releases, including the files known to be broken."""

import numpy as np
import pytest

from mprm_jax.scans.s3dis import CLASSES, S3DIS, repair_lines

ROWS = ["1.0 2.0 3.0 255 128 0", "1.5 2.0 3.0 10 20 30"]


def write_object(root, room, name, lines=ROWS):
    folder = root / room / "Annotations"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.txt"
    path.write_bytes("\r\n".join([*lines, ""]).encode("latin-1"))
    return path


@pytest.fixture
def root(tmp_path):
    """Two areas with one room each."""
    write_object(tmp_path, "Area_1/office_3", "wall_1")
    write_object(tmp_path, "Area_1/office_3", "chair_1")
    write_object(tmp_path, "Area_5/hallway_6", "ceiling_1")
    (tmp_path / "Area_1" / "Area_1_alignmentAngle.txt").write_text("# header\noffice_3 90\n")
    return tmp_path


def read(root):
    return S3DIS(root).read("train", "Area_1_office_3")


def test_classes_are_in_the_order_of_pointnet():
    assert CLASSES.index("table") == 7
    assert CLASSES.index("chair") == 8
    assert CLASSES.index("sofa") == 9
    assert CLASSES.index("bookcase") == 10
    assert len(CLASSES) == 13


def test_a_room_is_the_union_of_its_objects_labeled_by_name(root):
    scene = read(root)
    np.testing.assert_array_equal(scene.coords, [[1, 2, 3], [1.5, 2, 3]] * 2)
    np.testing.assert_array_equal(scene.colors, [[255, 128, 0], [10, 20, 30]] * 2)
    np.testing.assert_array_equal(scene.labels, [8, 8, 2, 2])  # chair_1, wall_1
    assert scene.coords.dtype == np.float64
    assert scene.colors.dtype == np.uint8
    assert scene.labels.dtype == np.int32


def test_the_test_area_validates_and_the_others_train(root):
    expected = {"train": ["Area_1_office_3"], "val": ["Area_5_hallway_6"], "test": []}
    assert S3DIS(root).splits == expected
    assert S3DIS(root, test_area=1).splits["val"] == ["Area_1_office_3"]


@pytest.mark.parametrize("name", ["stairs_1", "staris_1", "unicorn_12"])
def test_unknown_objects_are_clutter(root, name):
    write_object(root, "Area_1/office_3", name)
    assert 12 in read(root).labels


def test_stray_duplicates_are_skipped_and_logged(root, caplog):
    write_object(root, "Area_1/office_3", "wall_3 (1)")
    assert len(read(root).coords) == 4
    assert "wall_3 (1).txt: skipped" in caplog.text


def test_files_are_the_objects(root):
    names = [path.rsplit("/", 1)[-1] for path in S3DIS(root).files("train", "Area_1_office_3")]
    assert names == ["chair_1.txt", "wall_1.txt"]


def test_control_character_inside_a_number_is_deleted(root, caplog):
    write_object(root, "Area_1/office_3", "wall_1", [ROWS[0], "1 2 3 103.0\x100000 97.0 88.0"])
    np.testing.assert_array_equal(read(root).colors[3], [103, 97, 88])
    assert "wall_1.txt: line 2 held a broken character" in caplog.text


@pytest.mark.parametrize("character", ["\x10", "\x1f", "\x00", "\xa0", "\xe9"])
def test_control_character_between_numbers_is_a_blank(root, character):
    write_object(root, "Area_1/office_3", "wall_1", [ROWS[0], f"1 2 3 185{character}187 88"])
    np.testing.assert_array_equal(read(root).colors[3], [185, 187, 88])


def test_sound_lines_are_not_repaired():
    assert repair_lines(ROWS) == (ROWS, [])


def test_neighboring_broken_lines_are_measured_by_a_sound_one():
    lines = ["1 2\x103 4 5 6", "1 2\x100 3 4 5 6", *ROWS]
    assert repair_lines(lines)[0][:2] == ["1 2 3 4 5 6", "1 20 3 4 5 6"]


@pytest.mark.parametrize("line", ["1 2 3 4 5", "1 2 3 4 5 wall", "1 2 3 4 5 6 7"])
def test_a_line_beyond_repair_is_one_line(root, line):
    write_object(root, "Area_1/office_3", "wall_1", [ROWS[0], line])
    with pytest.raises(ValueError, match=r"wall_1\.txt: .*unpack the room again") as caught:
        read(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["1 2 3", "1 2 3 4 5 nan"])
def test_lines_that_parse_but_are_no_points_are_refused(root, line):
    write_object(root, "Area_1/office_3", "wall_1", [line])
    with pytest.raises(ValueError, match=r"wall_1\.txt: .*not 6 finite numbers; unpack"):
        read(root)


def test_an_empty_object_is_refused(root):
    write_object(root, "Area_1/office_3", "wall_1").write_bytes(b"")
    with pytest.raises(ValueError, match=r"wall_1\.txt: the file is empty; unpack"):
        read(root)


def test_a_room_without_objects_is_refused(root):
    (root / "Area_1" / "office_9" / "Annotations").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"Annotations: no object files .*; unpack"):
        S3DIS(root).read("train", "Area_1_office_9")


def test_a_root_without_rooms_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no room folders .*--data s3dis:/path"):
        S3DIS(tmp_path)


def test_a_test_area_without_rooms_names_the_others(root):
    with pytest.raises(FileNotFoundError, match=r"no rooms in Area_2.*test_area to one of 1, 5"):
        S3DIS(root, test_area=2)


def test_a_room_of_another_split_is_refused(root):
    with pytest.raises(ValueError, match=r"Area_1_office_3: not in split 'val' of .*; check"):
        S3DIS(root).read("val", "Area_1_office_3")
