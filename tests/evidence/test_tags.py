"""Tags people write beside their scans, and what wrong ones say."""

import numpy as np
import pytest
from scan_folders import read_office, write_folder, write_tags

from mprm_jax.errors import UserError
from mprm_jax.evidence.folder import Folder


@pytest.fixture
def root(tmp_path):
    """Two scans and tags of one, which a test may overwrite."""
    write_folder(tmp_path)
    return tmp_path


def test_a_row_without_geometry_tags_the_whole_scan(root):
    weak = read_office(root).weak_labels
    np.testing.assert_array_equal(weak.centers, [[1.5, 2, 1]])
    np.testing.assert_array_equal(weak.radii, [np.inf])
    np.testing.assert_array_equal(weak.tags, [[True, False]])
    assert (weak.centers.dtype, weak.radii.dtype, weak.tags.dtype) == (np.float64, np.float32, bool)


def test_balls_and_the_whole_scan_may_both_be_tagged(root):
    write_tags(root, "scene,x,y,z,radius,wall,floor", "office,,,,,1,1", "office,0,0,0.5,2,0,0")
    weak = read_office(root).weak_labels
    np.testing.assert_array_equal(weak.centers, [[1.5, 2, 1], [0, 0, 0.5]])
    np.testing.assert_array_equal(weak.radii, [np.inf, 2])
    np.testing.assert_array_equal(weak.tags, [[True, True], [False, False]])


def test_tags_may_be_listed_by_name(root):
    (root / "classes.txt").write_text("wall\nfloor\nshower curtain\n")
    write_tags(root, "scene,tags", "office, shower curtain; wall")
    source = Folder(root)
    assert source.classes == ("wall", "floor", "shower curtain")
    np.testing.assert_array_equal(
        source.read("train", "office").weak_labels.tags, [[True, False, True]]
    )


def test_the_class_list_decides_the_order_of_classes(root):
    (root / "classes.txt").write_text("floor\nwall\n")
    np.testing.assert_array_equal(read_office(root).weak_labels.tags, [[False, True]])


@pytest.mark.parametrize("name", ["floor1_hall", "floor1/hall", "floor1\\hall", "floor1/hall.npz"])
def test_a_scene_may_be_named_like_its_file(root, name):
    write_tags(root, "scene,wall", f"{name},1")
    assert Folder(root).splits["train"] == ["floor1_hall"]


def test_a_byte_order_mark_and_empty_lines_change_nothing(root):
    write_tags(root, "\ufeffscene,wall,floor", "", "office,1,0", ",,")
    assert Folder(root).classes == ("wall", "floor")


SCENE_LEVEL = "scene,wall,floor"
BALLS = "scene,x,y,z,radius,wall,floor"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((SCENE_LEVEL, "ofice,1,0"), r"line 2 names scene 'ofice', .* did you mean 'office'\?"),
        ((SCENE_LEVEL, "zzz,1,0"), r"line 2 names scene 'zzz', .* valid are floor1_hall, office"),
        ((SCENE_LEVEL, "office,1,yes"), r"line 2 has 'yes' for class 'floor'; write 1"),
        ((SCENE_LEVEL, "office,1,"), r"line 2 has '' for class 'floor'; write 1"),
        ((SCENE_LEVEL, "office,0,0"), r"line 2 gives scene 'office' no class; set at least one"),
        ((SCENE_LEVEL, "office,1"), r"line 2 has 2 cells but the header has 3; fill"),
        ((SCENE_LEVEL, "office,1,0", "office,0,1"), r"line 3 tags the same part .* line 2; remove"),
        ((BALLS, "office,0,0,0,2,1,0", "office,0,0,0,2,1,1"), r"line 3 tags the same part"),
        ((BALLS, "office,0,0,,2,1,0"), r"line 2 has x, y, z, radius .*; write four numbers"),
        ((BALLS, "office,0,0,1m,2,1,0"), r"line 2 has x, y, z, radius '0', '0', '1m', '2'; write"),
        ((BALLS, "office,0,0,nan,2,1,0"), r"line 2 has a ball at 0, 0, nan .*; write finite"),
        ((BALLS, "office,0,0,0,0,1,0"), r"line 2 .* radius 0; write .* a radius above 0"),
        (("scene,x,y,wall", "office,0,0,1"), r"columns x, y without the others .*; add"),
        (("name,wall", "office,1"), r"no column 'scene'; name the scan"),
        (("scene", "office"), r"no class columns; add one per class"),
        (("scene,wall,wall", "office,1,1"), r"column 'wall' is there twice .*; give"),
        (("scene,tags", "office,wall"), r"a column 'tags' needs .*classes\.txt; write"),
        (("scene,tags,wall", "office,wall,1"), r"column 'wall' beside 'tags'; give either"),
        (("scene;wall", "office;1"), r"separated by semicolons; save it with commas"),
        (("",), r"the file is empty; write a header"),
    ],
)
def test_wrong_tags_are_one_line(root, lines, message):
    write_tags(root, *lines)
    with pytest.raises(ValueError, match=r"tags\.csv: " + message) as caught:
        Folder(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("scene,tags", "office,wal"), r"line 2 names class 'wal', .* did you mean 'wall'\?"),
        (("scene,Wall,door", "office,1,1"), r"class 'Wall' is not in .* did you mean 'wall'\?"),
        (("scene,wall,door", "office,1,1"), r"class 'door' is not in .*floor"),
        (("scene,wall", "office,1"), r"class 'floor' of classes\.txt has no column; add it"),
    ],
)
def test_tags_that_disagree_with_the_class_list_are_one_line(root, lines, message):
    (root / "classes.txt").write_text("wall\nfloor\n")
    write_tags(root, *lines)
    with pytest.raises(ValueError, match=r"tags\.csv: " + message):
        Folder(root)


def test_tags_that_are_not_utf8_are_one_line(root):
    (root / "tags.csv").write_bytes("scene,bücher\noffice,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"tags\.csv: not UTF-8 text .*; save it as CSV UTF-8"):
        Folder(root)


def test_a_ball_beside_the_scan_names_its_line(root):
    write_tags(root, BALLS, "office,0,0,0,2,1,0", "office,90,0,0,2,1,0")
    with pytest.raises(ValueError, match=r"tags\.csv: line 3: no point of office\.npz.*frame"):
        read_office(root)


def test_a_class_list_that_is_not_utf8_is_one_line(root):
    (root / "classes.txt").write_bytes("bücher\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"classes\.txt: not UTF-8 text .*; save it as UTF-8"):
        Folder(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing\n", "no classes; write one name per line"),
        ("1 wall\nfloor\n", "'floor' has no label, other lines have one; write"),
        ("wall\nwall\n", "'wall' is there twice; remove"),
        ("1 wall\n1 floor\n", "1 is there twice; remove"),
    ],
)
def test_wrong_class_lists_are_one_line(root, text, message):
    (root / "classes.txt").write_text(text)
    with pytest.raises(ValueError, match=r"classes\.txt: " + message):
        Folder(root)


def test_a_line_that_is_no_line_of_a_table_names_the_file(root):
    (root / "tags.csv").write_text("scene,wall\n" + "x" * 200_000 + ",1\n")
    with pytest.raises(UserError, match=r"tags\.csv: line 2 is no line of a table \(field larger"):
        Folder(root)


def test_what_a_person_was_not_sure_of_counts_as_if_it_were_not_there(root):
    (root / "classes.txt").write_text("wall\nfloor\n")
    lines = ["scene,x,y,z,radius,tags,seconds,unsure", "office,0,0,0.5,2,floor,4.5,0"]
    write_tags(root, *lines)
    sure = read_office(root).weak_labels
    write_tags(root, *lines, "office,1,0,0.5,2,,7,1", "floor1/hall,,,,,,,1")
    source = Folder(root)
    assert source.splits["train"] == ["office"] and source.splits["test"] == ["floor1_hall"]
    for one, other in zip(sure, read_office(root).weak_labels, strict=True):
        np.testing.assert_array_equal(one, other)


def test_columns_of_time_and_doubt_are_no_classes(root):
    write_tags(root, "scene,x,y,z,radius,wall,floor,seconds,unsure", "office,0,0,0.5,2,1,0,3,")
    source = Folder(root)
    assert source.classes == ("wall", "floor")
    write_tags(root, "scene,wall,floor,seconds,unsure", "office,,,,1", "floor1_hall,1,0,,0")
    assert Folder(root).splits["train"] == ["floor1_hall"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("office,1,0,soon,0", "line 2 has 'soon' seconds; write a number of 0 or more"),
        ("office,1,0,-1,0", "line 2 has '-1' seconds"),
        ("office,1,0,,yes", "line 2 has 'yes' in column 'unsure'; write 1 if the person did not"),
    ],
)
def test_wrong_time_and_doubt_are_one_line(root, line, error):
    write_tags(root, "scene,wall,floor,seconds,unsure", line)
    with pytest.raises(UserError, match=error):
        Folder(root)
