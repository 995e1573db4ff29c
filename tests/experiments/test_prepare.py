"""The command that prepares: its summary, scenes left out, and bad flags."""

import json
import logging
import sys

import numpy as np
import prepare
import pytest
from commandline import run
from scan_folders import COLORS, COORDS, write_scan, write_tags

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
