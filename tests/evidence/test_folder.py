"""A folder of anyone's scans: which are found, and how they are cleaned and split."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from cloud_files import REAL_SCANS, needs_real_scans
from scan_folders import COLORS, COORDS, read_office, write_folder, write_scan, write_tags

from mprm_jax.evidence.folder import Folder


@pytest.fixture
def root(tmp_path):
    """Two scans and tags of one, which a test may overwrite."""
    write_folder(tmp_path)
    return tmp_path


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
    write_tags(root, "scene,wall,floor", "floor1_hall,1,0")
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
    assert names == ["office.npz", "classes.txt"]


def test_a_scan_is_said_something_else_of_when_its_own_tags_change(root):
    before = [Folder(root).said("train", "office"), Folder(root).said("test", "floor1_hall")]
    write_tags(root, "scene,wall,floor", "office,0,1")
    after = [Folder(root).said("train", "office"), Folder(root).said("test", "floor1_hall")]
    assert before[0] != after[0] and before[1] == after[1]


def test_scans_without_tags_are_listed(root, caplog):
    Folder(root)
    assert "1 scans have no tags: floor1_hall" in caplog.text


def test_training_scans_tagged_from_their_point_labels_are_named(root, caplog):
    (root / "splits.csv").write_text("scene,split\noffice,train\nfloor1/hall,train\n")
    Folder(root)
    assert "made from point labels" not in caplog.text  # labels mean nothing without classes.txt
    (root / "classes.txt").write_text("wall\nfloor\n")
    Folder(root)
    assert (
        "people tagged 1 of 2 training scans; tags of the others are made from point labels, "
        "where they have some: floor1_hall" in caplog.text
    )


def test_a_folder_without_tags_is_for_prediction(root):
    (root / "tags.csv").unlink()
    source = Folder(root)
    assert source.splits == {"train": [], "val": [], "test": ["floor1_hall", "office"]}
    assert source.classes == ()
    assert source.read("test", "office").weak_labels is None


def test_a_scan_has_what_its_file_has(root):
    scene = read_office(root)
    np.testing.assert_array_equal(scene.coords, COORDS)
    np.testing.assert_array_equal(scene.colors, COLORS)
    assert scene.faces is None
    assert Folder(root).read("test", "floor1_hall").colors is None


def test_labels_are_not_read_without_a_class_list(root):
    assert read_office(root).labels is None


def test_plain_names_in_the_class_list_number_the_labels(root):
    (root / "classes.txt").write_text("wall\nfloor\n")
    np.testing.assert_array_equal(read_office(root).labels, [1, -1, 0, -1])


def test_numbered_names_in_the_class_list_map_the_labels(root):
    (root / "classes.txt").write_text("# ids of our scanner\n7 wall\n\n1 floor\n")
    np.testing.assert_array_equal(read_office(root).labels, [1, -1, -1, 0])


def test_points_nowhere_are_dropped_and_counted(root, caplog):
    coords = COORDS.copy()
    coords[1, 2], coords[2, 0] = np.nan, np.inf
    write_scan(root / "office.npz", coords, rgb=COLORS)
    scene = read_office(root)
    np.testing.assert_array_equal(scene.coords, COORDS[[0, 3]])
    np.testing.assert_array_equal(scene.colors, COLORS[[0, 3]])
    assert "office.npz: 2 points without a finite position do not count" in caplog.text


def test_padding_points_are_dropped_and_counted(root, caplog):
    rows = [2, 2, 2, 0, 1, 2, 3]
    write_scan(root / "office.npz", COORDS[rows], rgb=COLORS[rows])
    np.testing.assert_array_equal(read_office(root).coords, COORDS[[2, 0, 1, 3]])
    assert "office.npz: 3 points repeat a position and count once" in caplog.text


def test_a_mesh_keeps_its_seams_and_loses_faces_of_lost_vertices(root):
    coords = np.concatenate([COORDS, COORDS[:1], [[np.nan] * 3]])
    write_scan(root / "office.npz", coords, faces=[[0, 1, 2], [5, 1, 2], [4, 2, 3]])
    scene = read_office(root)
    assert len(scene.coords) == 5
    np.testing.assert_array_equal(scene.faces, [[0, 1, 2], [4, 2, 3]])


def test_a_scan_without_any_point_is_refused(root):
    write_scan(root / "office.npz", np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match=r"office\.npz: no point has a finite position; export"):
        read_office(root)


def test_millimeters_are_suspected(root, caplog):
    write_scan(root / "office.npz", COORDS * 1000)
    read_office(root)
    assert "spans 3000 x 4000 x 2000 m; if it is in millimeters, add --set data.scale=0.001" in (
        caplog.text
    )


@pytest.mark.parametrize("factor", [1.0, 60.1])
def test_meters_are_not_suspected(root, caplog, factor):
    write_scan(root / "office.npz", COORDS * factor + 0.123)
    read_office(root)
    assert "millimeters" not in caplog.text


def test_scale_converts_the_scan_and_the_balls(root, caplog):
    write_scan(root / "office.npz", COORDS * 1000)
    write_tags(root, "scene,x,y,z,radius,wall,floor", "office,3000,1000,1000,500,0,1")
    scene = read_office(root, scale=0.001)
    np.testing.assert_allclose(scene.coords, COORDS, rtol=1e-15)
    np.testing.assert_allclose(scene.weak_labels.centers, [[3, 1, 1]], rtol=1e-15)
    np.testing.assert_allclose(scene.weak_labels.radii, [0.5])
    assert "millimeters" not in caplog.text


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan])
def test_an_impossible_scale_is_refused(root, scale):
    with pytest.raises(ValueError, match=r"data\.scale is .*; give meters per unit"):
        Folder(root, scale)


def test_a_splits_file_decides(root):
    (root / "splits.csv").write_text("scene,split\noffice,val\nfloor1/hall,train\n")
    assert Folder(root).splits == {"train": ["floor1_hall"], "val": ["office"], "test": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scene,split\noffice,trian\n", r"line 2 has split 'trian'; did you mean 'train'\?"),
        ("scene,split\nfloor1_hall,val\n", r"1 tagged scans have no row, such as 'office'; give"),
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


def test_labels_that_are_no_whole_numbers_are_refused_with_a_class_list(tmp_path):
    write_folder(tmp_path)
    write_scan(tmp_path / "office.npz", rgb=COLORS, label=np.array([0.5, 1, 2, 3]))
    assert read_office(tmp_path).labels is None
    (tmp_path / "classes.txt").write_text("wall\nfloor\n")
    with pytest.raises(ValueError, match=r"office\.npz: label 0\.5 is not a whole number; rename"):
        read_office(tmp_path)


def test_points_that_nobody_labeled_may_be_nan(root):
    write_scan(root / "office.npz", rgb=COLORS, label=np.array([np.nan, 0, 1, 7]))
    (root / "classes.txt").write_text("wall\nfloor\n")
    scene = read_office(root)
    np.testing.assert_array_equal(scene.labels, [-1, 0, 1, -1])
    assert [note.count for note in scene.notes if "NaN" in note.text] == [1]


def test_a_scan_with_clicks_alone_is_one_to_train_on(root):
    (root / "tags.csv").unlink()
    (root / "classes.txt").write_text("wall\nfloor\n")
    (root / "clicks.csv").write_text("scene,x,y,z,class,answer\nfloor1/hall,3,1,1,floor,yes\n")
    source = Folder(root)
    assert source.splits["train"] == ["floor1_hall"] and source.splits["test"] == ["office"]
    scene = source.read("train", "floor1_hall")
    assert scene.weak_labels is None and scene.clicks.allowed.tolist() == [[False, True]]


def test_a_click_far_from_every_point_is_one_line(root):
    (root / "clicks.csv").write_text("scene,x,y,z,class,answer\noffice,3000,1,1,floor,yes\n")
    with pytest.raises(
        ValueError, match=r"clicks\.csv: line 2: no point of office\.npz is within 0\.5 m"
    ):
        Folder(root).read("train", "office")
