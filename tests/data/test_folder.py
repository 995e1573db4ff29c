"""A folder of anyone's scans: which are found, how they are cleaned, and how they are tagged."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mprm_jax.data.folder import Folder
from mprm_jax.data.source import open_source

REAL_SCANS = Path(
    os.environ.get("MPRM_REAL_SCANS", Path(__file__).parents[2].parent / "shared" / "data")
)
needs_real_scans = pytest.mark.skipif(
    not REAL_SCANS.is_dir(), reason="set MPRM_REAL_SCANS to a folder of real scans"
)

COORDS = np.array([[0, 0, 0], [1.5, 2, 0.25], [3, 1, 1], [3, 4, 2]])
COLORS = np.array([[0, 0, 0], [255, 128, 1], [10, 20, 30], [7, 8, 9]], np.uint8)
LABELS = np.array([1, 2, 0, 7])


def write_scan(path, coords=COORDS, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, xyz=coords, **arrays)


@pytest.fixture
def root(tmp_path):
    """An office, a nested hall, and tags of the office only."""
    write_scan(tmp_path / "office.npz", rgb=COLORS, label=LABELS)
    write_scan(tmp_path / "floor1" / "hall.npz")
    write_tags(tmp_path, "scene,wall,floor", "office,1,0")
    return tmp_path


def write_tags(root, *lines):
    (root / "tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(root, **settings):
    return Folder(root, **settings).read("train", "office")


# Which scans


def test_scans_are_named_by_their_relative_path(root):
    assert Folder(root).splits == {"train": ["office"], "val": [], "test": ["floor1_hall"]}


def test_every_format_is_found_and_prose_is_not(root):
    (root / "lab.XYZ").write_text("0 0 0\n1 1 1\n")
    (root / "notes.txt").write_text("Scanned in May.\n")
    (root / ".hidden.npz").write_bytes(b"")
    assert Folder(root).splits["test"] == ["floor1_hall", "lab"]


def test_two_scans_of_one_name_are_refused(root):
    (root / "office.xyz").write_text("0 0 0\n")
    with pytest.raises(ValueError, match=r"office\.xyz: has the same scene name 'office'.*rename"):
        Folder(root)


def test_nested_names_that_collide_are_refused(root):
    write_scan(root / "floor1_hall.npz")
    with pytest.raises(ValueError, match=r"the same scene name 'floor1_hall' as .*; rename"):
        Folder(root)


def test_a_folder_without_scans_names_the_formats(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no scans; put some there, as \.ply"):
        Folder(tmp_path)


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder; give"):
        Folder(tmp_path / "nowhere")


def test_files_include_what_decides_the_reading(root):
    (root / "classes.txt").write_text("wall\nfloor\n")
    names = [Path(path).name for path in Folder(root).files("train", "office")]
    assert names == ["office.npz", "classes.txt", "tags.csv"]


def test_scans_without_tags_are_listed(root, caplog):
    Folder(root)
    assert "1 scans have no tags: floor1_hall" in caplog.text


def test_a_folder_without_tags_is_for_prediction(root):
    (root / "tags.csv").unlink()
    source = Folder(root)
    assert source.splits == {"train": [], "val": [], "test": ["floor1_hall", "office"]}
    assert source.classes == ()
    assert source.read("test", "office").weak_labels is None


# How they are read


def test_a_scan_has_what_its_file_has(root):
    scene = read(root)
    np.testing.assert_array_equal(scene.coords, COORDS)
    np.testing.assert_array_equal(scene.colors, COLORS)
    assert scene.faces is None
    assert Folder(root).read("test", "floor1_hall").colors is None


def test_labels_are_not_read_without_a_class_list(root):
    assert read(root).labels is None


def test_plain_names_in_the_class_list_number_the_labels(root):
    (root / "classes.txt").write_text("wall\nfloor\n")
    np.testing.assert_array_equal(read(root).labels, [1, -1, 0, -1])


def test_numbered_names_in_the_class_list_map_the_labels(root):
    (root / "classes.txt").write_text("# ids of our scanner\n7 wall\n\n1 floor\n")
    np.testing.assert_array_equal(read(root).labels, [1, -1, -1, 0])


def test_points_nowhere_are_dropped_and_counted(root, caplog):
    coords = COORDS.copy()
    coords[1, 2], coords[2, 0] = np.nan, np.inf
    write_scan(root / "office.npz", coords, rgb=COLORS)
    scene = read(root)
    np.testing.assert_array_equal(scene.coords, COORDS[[0, 3]])
    np.testing.assert_array_equal(scene.colors, COLORS[[0, 3]])
    assert "office.npz: 2 points without a finite position dropped" in caplog.text


def test_padding_points_are_dropped_and_counted(root, caplog):
    rows = [2, 2, 2, 0, 1, 2, 3]
    write_scan(root / "office.npz", COORDS[rows], rgb=COLORS[rows])
    np.testing.assert_array_equal(read(root).coords, COORDS[[2, 0, 1, 3]])
    assert "office.npz: 3 points repeat a position, dropped" in caplog.text


def test_a_mesh_keeps_its_seams_and_loses_faces_of_lost_vertices(root):
    coords = np.concatenate([COORDS, COORDS[:1], [[np.nan] * 3]])
    write_scan(root / "office.npz", coords, faces=[[0, 1, 2], [5, 1, 2], [4, 2, 3]])
    scene = read(root)
    assert len(scene.coords) == 5
    np.testing.assert_array_equal(scene.faces, [[0, 1, 2], [4, 2, 3]])


def test_a_scan_without_any_point_is_refused(root):
    write_scan(root / "office.npz", np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match=r"office\.npz: no point has a finite position; export"):
        read(root)


def test_millimeters_are_suspected(root, caplog):
    write_scan(root / "office.npz", COORDS * 1000)
    read(root)
    assert "spans 3000 x 4000 x 2000 m; if it is in millimeters, add --set data.scale=0.001" in (
        caplog.text
    )


@pytest.mark.parametrize("factor", [1.0, 60.1])
def test_meters_are_not_suspected(root, caplog, factor):
    write_scan(root / "office.npz", COORDS * factor + 0.123)
    read(root)
    assert "millimeters" not in caplog.text


def test_scale_converts_the_scan_and_the_balls(root, caplog):
    write_scan(root / "office.npz", COORDS * 1000)
    write_tags(root, "scene,x,y,z,radius,wall,floor", "office,3000,1000,1000,500,0,1")
    scene = read(root, scale=0.001)
    np.testing.assert_allclose(scene.coords, COORDS, rtol=1e-15)
    np.testing.assert_allclose(scene.weak_labels.centers, [[3, 1, 1]], rtol=1e-15)
    np.testing.assert_allclose(scene.weak_labels.radii, [0.5])
    assert "millimeters" not in caplog.text


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan])
def test_an_impossible_scale_is_refused(root, scale):
    with pytest.raises(ValueError, match=r"data\.scale is .*; give meters per unit"):
        Folder(root, scale)


# How they are tagged


def test_a_row_without_geometry_tags_the_whole_scan(root):
    weak = read(root).weak_labels
    np.testing.assert_array_equal(weak.centers, [[1.5, 2, 1]])
    np.testing.assert_array_equal(weak.radii, [np.inf])
    np.testing.assert_array_equal(weak.tags, [[True, False]])
    assert (weak.centers.dtype, weak.radii.dtype, weak.tags.dtype) == (np.float64, np.float32, bool)


def test_balls_and_the_whole_scan_may_both_be_tagged(root):
    write_tags(root, "scene,x,y,z,radius,wall,floor", "office,,,,,1,1", "office,0,0,0.5,2,0,0")
    weak = read(root).weak_labels
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
    np.testing.assert_array_equal(read(root).weak_labels.tags, [[False, True]])


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
        read(root)


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


# Splits


def test_a_splits_file_decides(root):
    (root / "splits.csv").write_text("scene,split\noffice,val\nfloor1/hall,train\n")
    assert Folder(root).splits == {"train": ["floor1_hall"], "val": ["office"], "test": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scene,split\noffice,trian\n", r"line 2 has split 'trian'; did you mean 'train'\?"),
        ("scene,split\noffice,val\n", r"1 scans have no row, such as 'floor1_hall'; give"),
        ("scene,split\noffice,val\noffice,val\n", "line 3 lists scene 'office' again; remove"),
        ("scene,split\nofice,val\n", r"line 2 names scene 'ofice'.*did you mean 'office'\?"),
        ("scene,set\noffice,val\n", "columns scene, set; write the header 'scene,split'"),
    ],
)
def test_wrong_splits_are_one_line(root, text, message):
    (root / "splits.csv").write_text(text)
    with pytest.raises(ValueError, match=r"splits\.csv: " + message):
        Folder(root)


def test_a_scan_of_another_split_is_refused(root):
    with pytest.raises(ValueError, match=r"office: not in split 'val' of .*; check"):
        Folder(root).read("val", "office")


# Opening a data set by name


def test_a_specification_opens_its_reader(root):
    source = open_source(f"folder:{root}", scale=0.5)
    assert source.name == "folder"
    np.testing.assert_array_equal(source.read("train", "office").coords, COORDS / 2)


@pytest.mark.parametrize("kind", ["scannet", "s3dis", "pointcept"])
def test_each_kind_looks_for_its_own_layout(root, kind):
    with pytest.raises(FileNotFoundError, match=rf"--data {kind}:/path"):
        open_source(f"{kind}:{root}")


@pytest.mark.parametrize("spec", ["scans:/data", "/data", "folder:", "C:\\data"])
def test_an_unknown_specification_names_the_valid_ones(spec):
    with pytest.raises(
        ValueError, match=r"unknown data set; valid are scannet:PATH, .*folder:PATH"
    ):
        open_source(spec)


def test_a_missing_path_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; valid are scannet:PATH"):
        open_source(f"folder:{tmp_path / 'nowhere'}")


def test_a_scale_belongs_to_folders_only(root):
    with pytest.raises(ValueError, match=r"scannet is in meters; leave data\.scale at 1"):
        open_source(f"scannet:{root}", scale=0.001)


# Real scans


@needs_real_scans
def test_covered_frames_load_with_their_label_numbers(tmp_path):
    frames = sorted((REAL_SCANS / "covered").glob("*.npz"))
    for path in frames:
        shutil.copy(path, tmp_path)
    (tmp_path / "classes.txt").write_text("1 floor\n2 wall\n3 robot\n4 human\n5 AGV\n")
    write_tags(tmp_path, "scene,tags", *(f"{path.stem},floor;wall;robot" for path in frames))
    source = Folder(tmp_path)
    assert len(source.splits["train"]) == len(frames) == 6
    scene = source.read("train", frames[0].stem)
    stored = np.load(frames[0])["label"]
    np.testing.assert_array_equal(scene.labels, stored.astype(np.int32) - 1)
    assert scene.weak_labels.tags.tolist() == [[True, True, True, False, False]]


@needs_real_scans
def test_a_padded_scan_loses_its_padding(caplog):
    (path,) = (REAL_SCANS / "covered").glob("*.pcd")
    scene = Folder(path.parent).read("test", path.stem)
    assert 42000 < len(scene.coords) < 44000
    assert "points repeat a position" in caplog.text


@needs_real_scans
def test_a_kinect_frame_loses_its_missing_pixels():
    scene = Folder(REAL_SCANS / "pcl").read("test", "region_growing_rgb_tutorial")
    assert np.isfinite(scene.coords).all()
    assert len(scene.colors) == len(scene.coords) > 100000
