"""Bad data given to `train.py`: one clear line, exit status 2, nothing half-written."""

import errno
import re

import numpy as np
import pytest
from broken_files import assert_nothing_is_begun, cut
from scan_folders import COLORS, COORDS, write_folder, write_scan, write_tags
from scannet_files import COORDS as VERTICES
from scannet_files import GROUPS, SCENE, SEGMENTS, mesh, write_annotation, write_mesh, write_scannet

pytestmark = pytest.mark.usefixtures("same_process_afterwards")


@pytest.fixture
def scannet(tmp_path):
    """A ScanNet of one scene, whose files a test may break."""
    root = tmp_path / "scannet"
    write_scannet(root)
    (root / "scannetv2_train.txt").write_text(f"{SCENE}\n")
    return root


@pytest.fixture
def folder(tmp_path):
    """Two scans and tags of one."""
    write_folder(tmp_path / "scans")
    return tmp_path / "scans"


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda path: path.unlink(), r"vh_clean_2\.ply: missing; export or download it"),
        (lambda path: cut(path), r"vh_clean_2\.ply: .* it was cut off: export or download"),
        (lambda path: cut(path, 0), r"vh_clean_2\.ply: empty; export or download"),
        (lambda path: write_mesh(path, colors=False), r"vh_clean_2\.ply: .* no colors; download"),
        (lambda path: write_mesh(path, VERTICES * np.nan), r"\.ply: a vertex is not finite; down"),
        (
            lambda path: write_annotation(path.parent, segments=SEGMENTS[:-1]),
            r"segs\.json: 5 segment ids .* 6 vertices.*download",
        ),
        (
            lambda path: write_annotation(path.parent, groups=[*GROUPS, ("wall", [1234])]),
            r"aggregation\.json: 1 of 4 segments .*download",
        ),
    ],
)
def test_a_broken_scene_of_scannet(scannet, tmp_path, error_of, spoil, named):
    spoil(mesh(scannet))
    error = error_of("--data", f"scannet:{scannet}")
    assert error.startswith(f"train/{SCENE}: {scannet}") and re.search(named, error)
    assert error.endswith("mprm prepare --on-error continue.")
    assert_nothing_is_begun(tmp_path)


def test_tags_that_nobody_filled_in(folder, tmp_path, error_of):
    (folder / "floor1" / "hall.npz").unlink()
    write_tags(folder, "scene,x,y,z,radius,wall,floor", "office,1,2,0.5,4,0,0")
    error = error_of("--data", f"folder:{folder}", "--workdir", tmp_path / "run", "--devices", 4)
    assert error.endswith(
        "no ball of split train is tagged with any class; fill in the tags, then prepare again."
    )
    assert not (tmp_path / "run").exists()


def test_a_split_without_a_scene(scannet, tmp_path, error_of):
    (scannet / "scannetv2_train.txt").rename(scannet / "scannetv2_val.txt")
    error = error_of("--data", f"scannet:{scannet}")
    assert (
        error == f"scannet:{scannet}: split train has no scene; check the path and the split lists."
    )
    assert_nothing_is_begun(tmp_path)


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (("scene,wall,flor", "office,1,0"), "class 'flor' is not in classes.txt; .*'floor'"),
        (
            ("scene,tags", "office,wall;dor"),
            "line 2 names class 'dor', .*in classes.txt; valid are",
        ),
        (("scene,wall,floor", "ofice,1,0"), "line 2 names scene 'ofice', .*did you mean 'office'"),
        (("scene,wall,floor", "office,1,2"), "line 2 has '2' for class 'floor'; write 1 if"),
        (("scene,wall,floor",), "no scan is tagged, .*write a line for each scan"),
    ],
)
def test_wrong_tags(folder, tmp_path, error_of, lines, named):
    (folder / "classes.txt").write_text("wall\nfloor\n")
    write_tags(folder, *lines)
    error = error_of("--data", f"folder:{folder}")
    assert error.startswith(f"{folder / 'tags.csv'}: ") and re.search(named, error)
    assert_nothing_is_begun(tmp_path)


def test_no_tags(folder, tmp_path, error_of):
    (folder / "tags.csv").unlink()
    error = error_of("--data", f"folder:{folder}")
    assert error.startswith(f"{folder / 'tags.csv'}: no scan is tagged") and "write a line" in error
    assert_nothing_is_begun(tmp_path)


@pytest.mark.parametrize(
    ("coords", "named"),
    [
        (COORDS[:0], r"office\.npz: .*no points; export it again"),
        (COORDS * np.nan, r"office\.npz: no point has a finite position; export"),
        (COORDS + np.inf, r"office\.npz: no point has a finite position; export"),
    ],
)
def test_a_broken_scan(folder, tmp_path, error_of, coords, named):
    write_scan(folder / "office.npz", coords)
    error = error_of("--data", f"folder:{folder}")
    assert re.search(named, error)
    assert_nothing_is_begun(tmp_path)


def test_colors_of_some_scans_only(folder, tmp_path, error_of):
    write_tags(folder, "scene,wall,floor", "office,1,0", "floor1/hall,1,0")
    error = error_of("--data", f"folder:{folder}")
    assert "train/floor1_hall: it has no colors, other scenes do; export it with colors" in error
    assert not list(tmp_path.rglob("manifest.json"))


def test_millimeters(folder, tmp_path, error_of):
    write_scan(folder / "office.npz", COORDS * 1000, rgb=COLORS)
    hint = "spans 3000 x 4000 x 2000 m; if it is in millimeters, add --set data.scale=0.001"
    error = error_of("--data", f"folder:{folder}", log=hint)
    assert "check the unit of its coordinates (data.scale)" in error
    assert_nothing_is_begun(tmp_path)


def test_a_full_disk_while_preparing(folder, tmp_path, error_of, monkeypatch):
    def fill_up(file, _):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", fill_up)
    error = error_of("--data", f"folder:{folder}", "--store", tmp_path / "store")
    assert error.startswith(
        f"{tmp_path / 'store' / 'train' / 'office'}: cannot be written (No space"
    )
    assert "free disk space" in error
    assert_nothing_is_begun(tmp_path)


def test_a_store_that_cannot_be_written(folder, tmp_path, error_of):
    (tmp_path / "file").write_text("in the way")
    error = error_of("--data", f"folder:{folder}", "--store", tmp_path / "file" / "store")
    assert "store: cannot be written" in error and "choose another --store" in error
