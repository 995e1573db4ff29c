"""Which files of a folder are scans: links, results, companions, names of any form and length."""

import json
import os
import unicodedata

import numpy as np
import pytest
from scan_folders import COORDS, write_folder, write_scan, write_tags

from mprm_jax.errors import MissingError
from mprm_jax.evidence.folder import Folder
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.scans.formats.labeled import LabeledCloud, write_labeled
from mprm_jax.scans.scan_files import scan_files
from mprm_jax.scans.typed_files import MAX_BYTES, scene_name

DECOMPOSED = unicodedata.normalize("NFD", "büro")


@pytest.fixture
def root(tmp_path):
    """Two scans and tags of one."""
    write_folder(tmp_path / "scans")
    return tmp_path / "scans"


def found(root):
    return [path.relative_to(root).as_posix() for path in scan_files(root)]


def test_a_linked_folder_is_followed_once_and_a_loop_ends(root, tmp_path):
    write_scan(tmp_path / "elsewhere" / "lab.npz")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(root)
    assert found(root) == ["again/lab.npz", "floor1/hall.npz", "office.npz"]


def test_a_link_that_leads_nowhere_is_counted(root, caplog):
    caplog.set_level("INFO")
    (root / "gone.ply").symlink_to(root / "nowhere.ply")
    assert found(root) == ["floor1/hall.npz", "office.npz"]
    assert "1 skipped, links that lead nowhere: gone.ply" in caplog.text


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_counted(root, caplog):
    caplog.set_level("INFO")
    (root / "lost+found").mkdir(mode=0)
    assert found(root) == ["floor1/hall.npz", "office.npz"]
    assert "1 skipped, may not be read: lost+found" in caplog.text


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("manifest.json", {"spec": "", "classes": [], "settings": {}, "scenes": {}, "format": 1}),
        ("scene.json", {"settings": {}, "classes": [], "files": {}, "info": {}, "format": 1}),
        ("data.json", {"stage": "cls", "classes": [], "fingerprint": "0"}),
        ("export.json", {"classes": [], "settings": {}, "scenes": [], "format": 1}),
        (".begun.json", {"classes": [], "settings": {}, "scenes": [], "format": 1}),
        ("rooms.json", {"version": 2, "seed": 0, "size": "tiny"}),
    ],
)
def test_folders_this_program_wrote_are_no_scans(root, caplog, name, values):
    caplog.set_level("INFO")
    write_scan(root / "runs" / "x" / "coord.npz")
    (root / "runs" / "x" / name).write_text(json.dumps(values))
    assert found(root) == ["floor1/hall.npz", "office.npz"]
    assert "1 skipped, written by this program: runs/x" in caplog.text


def test_a_folder_with_a_manifest_of_others_is_looked_into(root):
    write_scan(root / "more" / "lab.npz")
    (root / "more" / "manifest.json").write_text('{"files": ["lab.npz"]}')
    (root / "more" / "data.json").write_text("[]")
    assert "more/lab.npz" in found(root)


@pytest.mark.parametrize("suffix", [".ply", ".las", ".laz", ".npz", ".npy"])
def test_predictions_are_no_scans_but_a_scan_beside_one_is(root, suffix):
    cloud = CloudFile(COORDS, None, None, None, None)
    labeled = LabeledCloud(cloud, np.zeros(4, np.int16), np.ones(4, np.float32), ("wall",))
    (root / "labeled").mkdir()
    write_labeled(root / "labeled" / f"a{suffix}", labeled)
    (root / "labeled" / "a.xyz").write_text("0 0 0\n1 1 1\n")
    write_scan(root / "labeled" / ("a.npz" if suffix != ".npz" else "b.npz"))
    assert f"labeled/a{suffix}" not in found(root)
    assert len(found(root)) == 4 and "labeled/a.xyz" in found(root)


def test_a_folder_of_nothing_but_results_has_no_scans(tmp_path):
    (tmp_path / "a.classes.csv").write_text("x,y,z\n1,2,3\n")
    with pytest.raises(MissingError, match="no scans; put some there"):
        scan_files(tmp_path)


@pytest.mark.parametrize("stored", ["büro", DECOMPOSED])
@pytest.mark.parametrize("typed", ["büro", DECOMPOSED])
def test_names_compare_in_one_unicode_form(root, stored, typed):
    write_scan(root / f"{stored}.npz")
    write_tags(root, "scene,wall,t\u0075\u0308r", f"{typed},1,0")
    (root / "classes.txt").write_text("wall\nt\u00fcr\n", encoding="utf-8")
    assert Folder(root).splits["train"] == ["b\u00fcro"]
    assert Folder(root).classes == ("wall", "t\u00fcr")
    (root / "splits.csv").write_text(f"scene,split\n{typed},val\n", encoding="utf-8")
    assert Folder(root).splits["val"] == ["b\u00fcro"]


def test_a_long_path_gives_a_short_name_that_can_be_typed_in_full(root):
    path = "/".join(["säulenhalle_" * 6] * 5)
    write_scan(root / f"{path}.npz")
    write_tags(root, "scene,wall", f"{path}.npz,1")
    (name,) = Folder(root).splits["train"]
    assert len(name.encode()) <= MAX_BYTES and scene_name(name) == name
    assert name != scene_name(f"{path}2")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("floor1/office", "floor1_office"),
        ("scan 10:21:05", "scan 10_21_05"),
        ('a<b>c"d|e?f*g\n', "a_b_c_d_e_f_g_"),
        ("room. .", "room___"),
        ("room 1.5 m", "room 1.5 m"),
        ("aux", "_aux"),
        ("COM1.left", "_COM1.left"),
        ("auxiliary", "auxiliary"),
        ("left/con", "left_con"),
    ],
)
def test_a_scene_has_a_name_that_every_system_takes(path, name):
    assert scene_name(path) == name and scene_name(name) == name


def test_what_has_a_name_that_some_systems_refuse_can_be_typed_as_it_is(root):
    write_scan(root / "scan 10:21.npz")
    write_tags(root, "scene,wall", "scan 10:21,1")
    assert Folder(root).splits["train"] == ["scan 10_21"]


def test_unnamed_files_are_optional_and_unknown_to_splits(root, caplog):
    (root / "control_points.csv").write_text("id,x,y,z\n1,0.1,0.2,0.3\n")
    source = Folder(root)
    assert set(source.optional) == {"test/floor1_hall", "test/control_points"}
    (root / "splits.csv").write_text("scene,split\noffice,train\n")
    source = Folder(root)
    assert source.splits == {"train": ["office"], "val": [], "test": []} and not source.optional
    assert "2 files without a row passed over: control_points, floor1_hall" in caplog.text


def test_of_two_files_of_one_name_the_written_suffix_decides(root, caplog):
    (root / "office.xyz").write_text("0 0 0\n")
    write_tags(root, "scene,wall,floor", "office.xyz,1,0")
    assert Folder(root).files("train", "office")[0].endswith("office.xyz")
    assert "1 scans passed over, others have the same name: office.npz" in caplog.text


def test_files_of_one_name_that_nobody_named_stop_nothing(root, caplog):
    (root / "floor1" / "hall.xyz").write_text("0 0 0\n")
    assert Folder(root).splits["test"] == ["floor1_hall"]
    assert "1 scans passed over, others have the same name: floor1/hall.xyz" in caplog.text


def test_labels_of_nan_are_none_and_counted(root):
    write_scan(root / "office.npz", label=np.array([np.nan, 1, 0, np.nan]))
    (root / "classes.txt").write_text("wall\nfloor\n")
    scene = Folder(root).read("train", "office")
    np.testing.assert_array_equal(scene.labels, [-1, 1, 0, -1])
    (note,) = (note for note in scene.notes if "NaN" in note.text)
    assert note.count == 2
