"""The command that prepares: its summary, scenes left out, and bad flags."""

import json
import logging
import sys

import numpy as np
import pytest
from scan_folders import COLORS, COORDS, write_scan, write_tags

from mprm_jax.commands import prepare
from mprm_jax.commands.commandline import run
from mprm_jax.evidence import folder

pytestmark = pytest.mark.usefixtures("same_process_afterwards")


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Runs prepare.py on three tagged scans, one of them broken; returns what it prints."""
    for name, coords in (("a", COORDS), ("b", COORDS[:3]), ("broken", COORDS * np.nan)):
        write_scan(tmp_path / "scans" / f"{name}.npz", coords, rgb=COLORS[: len(coords)])
    write_tags(tmp_path / "scans", "scene,wall,floor", "a,1,0", "b,1,1", "broken,0,1")
    monkeypatch.chdir(tmp_path)

    def call(*flags):
        arguments = ["--data", "folder:scans", "--preset", "tiny", "--workers", "0", *flags]
        monkeypatch.setattr(sys, "argv", ["prepare.py", *arguments])
        handlers = [*logging.root.handlers]
        try:
            run(prepare.main)
        finally:
            logging.root.handlers[:] = handlers
        return capsys.readouterr().out

    return call


def test_the_summary_counts_what_was_prepared_and_names_what_was_left_out(call):
    values = json.loads(call("--on-error", "continue", "--json"))
    counts = values["splits"]["train"]
    assert (values["new"], values["kept"]) == (2, 0)
    assert (counts["scenes"], counts["points"], counts["voxels"]) == (2, 7, 7)
    assert counts["subclouds_with_empty"] >= counts["subclouds"] > 0
    assert "no point has a finite position" in values["broken"]["train/broken"]
    assert values["tags"]["scene"] == {"wall": 100, "floor": 50}


def test_the_summary_for_people_says_the_same(call):
    shown = call("--on-error", "continue")
    assert "2 scenes prepared, 0 were ready" in shown
    assert "left out train/broken: " in shown
    assert "Tags of the training scenes:" in shown and "wall" in shown
    assert "0 scenes prepared, 2 were ready" in call("--on-error", "continue")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ((), "train/broken: "),
        (("--workers", "-3"), "--workers -3: give 0 or more"),
        (("--tags", "mine"), "--tags mine: choose auto or archive:DIR"),
        (("--on-error", "ask"), "argument --on-error: invalid choice: 'ask'"),
    ],
)
def test_an_error_is_the_last_line_and_leaves_no_store(call, capsys, tmp_path, flags, named):
    with pytest.raises(SystemExit) as stop:
        call(*flags)
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {named}")
    assert not list(tmp_path.rglob("manifest.json"))


def test_files_that_nobody_named_never_stop_a_run(call, tmp_path, capsys):
    scans = tmp_path / "scans"
    (scans / "broken.npz").unlink()
    write_tags(scans, "scene,wall,floor", "a,1,0", "b,1,1")
    np.save(scans / "a_features.npy", np.zeros(7))
    (scans / "a_pose.txt").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n")
    (scans / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 2)
    (scans / "control_points.csv").write_text("id,x,y,z\n1,0.1,0.2,0.3\n")
    (scans / "cut.ply").write_bytes(b"ply\nformat")
    values = json.loads(call("--json"))
    assert values["splits"]["train"]["scenes"] == 2 and values["new"] == 2
    passed = ("a_features", "a_pose", "control_points", "cut", "poses")
    assert set(values["broken"]) == {f"test/{name}" for name in passed}
    assert json.loads(call("--json"))["kept"] == 2


def test_a_library_out_of_memory_or_range_leaves_out_one_scan(call, monkeypatch):
    read = folder.read_cloud

    def read_cloud(path):
        if path.stem in ("a", "broken"):
            raise MemoryError if path.stem == "a" else OverflowError("9e99 does not fit an int32")
        return read(path)

    monkeypatch.setattr(folder, "read_cloud", read_cloud)
    broken = json.loads(call("--on-error", "continue", "--json"))["broken"]
    assert "too large for the memory" in broken["train/a"]
    assert broken["train/broken"] == "OverflowError: 9e99 does not fit an int32"


def test_a_bug_shows_its_traceback_even_with_on_error_continue(call, monkeypatch):
    def read_cloud(path):
        raise KeyError(path.name)

    monkeypatch.setattr(folder, "read_cloud", read_cloud)
    with pytest.raises(KeyError):
        call("--on-error", "continue")


def test_results_within_the_folder_of_scans_are_no_scans(call, tmp_path):
    first = json.loads(call("--on-error", "continue", "--json", "--store", "scans/prepared/x"))
    again = json.loads(call("--on-error", "continue", "--json", "--store", "scans/prepared/x"))
    assert first["splits"] == again["splits"] and again["kept"] == 2
    (tmp_path / "scans" / "prepared" / "x" / "manifest.json").unlink()  # as after a kill
    assert json.loads(call("--on-error", "continue", "--json", "--store", "other"))["new"] == 2


def test_scans_in_folders_of_any_depth_are_prepared(call, tmp_path):
    path = "/".join(["säulenhalle_" * 6] * 5)
    write_scan(tmp_path / "scans" / f"{path}.npz", rgb=COLORS)
    write_tags(tmp_path / "scans", "scene,wall,floor", f"{path},1,0", "a,1,0", "b,1,1")
    assert json.loads(call("--on-error", "continue", "--json"))["new"] == 3
