"""Bad input to `train.py`: one clear line, exit status 2, nothing half-written, before any compile.

What only a run can meet (a damaged checkpoint, a loss that is not finite) is in `test_train.py`.
"""

import errno
import json
import logging
import os
import re
import sys

import numpy as np
import pytest
import runs
import train
from commandline import run
from label_exports import pseudo_labels, write_export
from scan_folders import COLORS, COORDS, write_folder, write_scan, write_tags
from scannet_files import COORDS as VERTICES
from scannet_files import GROUPS, SCENE, SEGMENTS, mesh, write_annotation, write_mesh, write_scannet

from mprm_jax.training import parallel

pytestmark = pytest.mark.usefixtures("same_process_afterwards")


@pytest.fixture
def error_of(tmp_path, monkeypatch, capsys):
    """Runs train.py with some arguments and returns the one line with which it ends."""

    def error_of(*arguments, log=""):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["train.py", "--stage", "cls", *map(str, arguments)])
        handlers = [*logging.root.handlers]
        with pytest.raises(SystemExit) as stop:
            run(train.main)
        logging.root.handlers[:] = handlers
        shown = capsys.readouterr().err
        assert stop.value.code == 2
        assert "Traceback" not in shown
        lines = shown.strip().splitlines()
        assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True]
        assert log in shown
        return lines[-1].removeprefix("error: ")

    return error_of


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


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return runs.small_store(tmp_path_factory.mktemp("data"))


@pytest.fixture
def small(store, tmp_path):
    """Arguments of a run that would work."""
    data = ["--data", f"store:{store.path}", "--workdir", tmp_path / "run", "--devices", 4]
    return [*data, "--preset", "tiny", "--set", *runs.SETTINGS]


def assert_nothing_is_begun(tmp_path):
    """No work directory, no store that looks complete, nothing half-written."""
    found = {path.name for path in tmp_path.rglob("*")}
    assert not found & {"run", "runs", "manifest.json", "config.json"}
    assert not [name for name in found if name.startswith(".")]


def cut(path, size=-100):
    path.write_bytes(path.read_bytes()[:size])


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
    assert error.endswith("prepare.py --on-error continue.")
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
    error = error_of("--data", f"folder:{folder}")
    assert "test/floor1_hall: it has no colors, other scenes do; export it with colors" in error
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


def test_a_store_of_other_settings(store, small, tmp_path, error_of):
    error = error_of(*small, "data.voxel_size=0.08")
    assert error.startswith(f"{store.path}: prepared with voxel_size 0.16, asked for 0.08; choose")
    assert_nothing_is_begun(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            ["--data", "scanet:x"],
            "--data scanet:x: unknown data set; valid are rooms, scannet:PATH",
        ),
        (
            ["--data", "scannet:nowhere"],
            "--data scannet:nowhere: no folder nowhere; check the path",
        ),
        (["--data", "rooms:huge"], "Rooms has no size 'huge'; choose one of tiny, quick, full"),
        (["--data", "store:nowhere"], "nowhere: no manifest.json, so no complete store; run exp"),
        (["--data", "folder:nowhere"], "--data folder:nowhere: no folder nowhere; check the path"),
        (["--preset", "huge"], "argument --preset: invalid choice: 'huge'"),
        (["--stage", "sleep"], "argument --stage: invalid choice: 'sleep'"),
        (["--set", "optim.rate=1"], "--set optim.rate: unknown setting; did you mean optim."),
        (["--set", "optim.epochs=2.5"], "--set optim.epochs: wants int, got '2.5'"),
        (["--set", "data.voxel_size=0"], "data.voxel_size is 0.0; give a value above 0"),
        (["--devices", "0"], "--devices 0: give 1 or more, or leave it out"),
        (["--devices", "-2"], "--devices -2: give 1 or more, or leave it out"),
        (["--devices", "two"], "argument --devices: invalid int value: 'two'"),
    ],
)
def test_wrong_arguments(tmp_path, error_of, arguments, named):
    assert error_of(*arguments).startswith(named)
    assert_nothing_is_begun(tmp_path)


def test_more_devices_than_there_are(small, tmp_path, error_of, monkeypatch):
    monkeypatch.setattr(parallel, "use_cpu_cores", lambda _: None)
    assert error_of(*small, "--devices", 9).startswith("--devices 9: there are only 4 cpu devices")
    assert_nothing_is_begun(tmp_path)


def test_a_file_in_place_of_the_work_directory(tmp_path, error_of):
    (tmp_path / "file").write_text("in the way")
    error = error_of("--workdir", tmp_path / "file" / "run")
    assert error.endswith(f"{tmp_path / 'file'} is a file; choose another --workdir.")
    assert_nothing_is_begun(tmp_path)


def test_a_read_only_work_directory(tmp_path, error_of, monkeypatch):
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr(os, "access", lambda path, *_: path != tmp_path / "shared")
    error = error_of("--workdir", tmp_path / "shared" / "run")
    assert error.endswith(f"{tmp_path / 'shared'} is not writable; choose another --workdir.")
    assert_nothing_is_begun(tmp_path)


def test_a_work_directory_on_a_full_disk(small, tmp_path, error_of, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    assert error_of(*small).startswith(f"{tmp_path / 'run'}: cannot be written (No space left")
    assert_nothing_is_begun(tmp_path)


@pytest.fixture
def begun(small, store, tmp_path, error_of, monkeypatch):
    """A work directory that was claimed for the small run, which then ended."""

    def fit(*_):
        raise ValueError("ended")

    monkeypatch.setattr("mprm_jax.labeling.classification.fit", fit)
    assert error_of(*small) == "ended"
    return tmp_path / "run"


def test_a_work_directory_of_other_settings(begun, small, error_of):
    error = error_of(*small, "optim.learning_rate=0.5", "seed=3")
    assert error.startswith(f"{begun / 'config.json'}: this run was started with other settings (")
    assert "optim.learning_rate: 0.005 there, 0.5 now" in error and "seed: 0 there, 3 now" in error
    assert "another --workdir" in error


def test_a_work_directory_of_other_data(begun, small, tmp_path, error_of):
    other = runs.small_store(tmp_path / "other", num_train=3)
    error = error_of(*small, "--data", f"store:{other.path}")
    assert error.startswith(f"{begun / 'data.json'}: this run was started on other data (")
    assert "fingerprint" in error and "another --workdir" in error


@pytest.mark.parametrize("name", ["config.json", "data.json"])
def test_a_damaged_work_directory(begun, small, error_of, name):
    cut(begun / name, 7)
    error = error_of(*small)
    assert error.startswith(f"{begun / name}: damaged (") and "another --workdir" in error


def test_a_subcloud_larger_than_the_bucket_is_thinned_and_said_so(small, error_of, begun):
    rule = (
        "hold more voxels than pyramid.bucket_points=40: each is thinned to a fixed random choice"
    )
    assert "bucket_points" in error_of(*small, "pyramid.bucket_points=40", log=rule)


def test_a_damaged_store(tmp_path, error_of):
    other = runs.small_store(tmp_path)
    path = other.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    error = error_of("--data", f"store:{other.path}", "--preset", "tiny")
    assert error.startswith(f"{path}: store format 99, this version reads")
    cut(path)
    error = error_of("--data", f"store:{other.path}", "--preset", "tiny")
    assert error.startswith(f"{path}: not readable as JSON of a store; prepare it again")


SEG = ("--stage", "seg", "--pseudo-labels")


def test_a_segmentation_run_without_targets(small, tmp_path, error_of):
    assert error_of(*small, "--stage", "seg").startswith("--pseudo-labels says what --stage seg")
    assert error_of(*small, "--pseudo-labels", "truth").startswith("--pseudo-labels says what")
    assert_nothing_is_begun(tmp_path)


def test_pseudo_labels_that_are_not_there(small, tmp_path, error_of):
    error = error_of(*small, *SEG, tmp_path / "labels")
    assert error.startswith(f"{tmp_path / 'labels'}: no export.json, so no complete export;")
    assert_nothing_is_begun(tmp_path)


def test_pseudo_labels_of_a_scene_are_missing(small, store, tmp_path, error_of):
    export = write_export(tmp_path / "labels", store, pseudo_labels(store))
    (export / "room1.npz").unlink()
    assert error_of(*small, *SEG, export).startswith(f"{export / 'room1.npz'}: missing, with 0")
    assert_nothing_is_begun(tmp_path)


def test_damaged_pseudo_labels(small, store, tmp_path, error_of):
    export = write_export(tmp_path / "labels", store, pseudo_labels(store))
    cut(export / "room1.npz")
    assert error_of(*small, *SEG, export).startswith(f"{export / 'room1.npz'}: damaged (")
    assert_nothing_is_begun(tmp_path)


def test_pseudo_labels_of_other_data(small, tmp_path, error_of):
    other = runs.small_store(tmp_path / "other", num_train=3)
    export = write_export(tmp_path / "labels", other, pseudo_labels(other))
    error = error_of(*small, *SEG, export)
    assert error.startswith(f"{export}: made from another version of the data than")


def test_the_work_directory_of_the_other_stage(begun, small, error_of):
    error = error_of(*small, *SEG, "truth")
    assert error.startswith(f"{begun / 'data.json'}: of a run of stage cls, this is stage seg;")
    assert "another --workdir" in error
