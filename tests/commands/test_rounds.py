"""Rounds: which are left to do, what their commands are, and a whole chain on small rooms."""

import argparse
import json

import numpy as np
import pytest
import runs
from fake_source import FakeSource, box_room
from networks import write_network
from prepared import CONFIG

from mprm_jax.commands import rounds
from mprm_jax.labeling.exporting import export_run
from mprm_jax.scans.scene import Clicks
from mprm_jax.store.exports import Export
from mprm_jax.store.manifest import StoreSettings
from mprm_jax.store.prepare import prepare

HOW = {"checkpoint": "last", "store": None, "split": "train", "output": None}
HOW |= {"settings": [], "num_devices": 1, "as_ply": False}
NOW, EARLIER = ({"evidence": name, "export": {"step": 1}} for name in ("b", "a"))


def begin(root, number, evidence, *, finished=False):
    """Leaves what a round leaves that was begun, or whose network is finished."""
    folder = root / f"round-{number}"
    (folder / "network").mkdir(parents=True)
    (folder / rounds.NOTE).write_text(json.dumps(evidence))
    if finished:
        (folder / "network" / "results.json").write_text("{}")


def test_rounds_start_at_the_first_and_continue_where_they_stopped(tmp_path):
    assert rounds._plan(tmp_path, NOW, 2) == (1, 2)
    begin(tmp_path, 1, NOW, finished=True)
    begin(tmp_path, 2, NOW)
    assert rounds._plan(tmp_path, NOW, 2) == (1, 2)
    assert rounds._plan(tmp_path, NOW, 3) == (1, 3)


def test_more_evidence_adds_a_round_to_those_that_are_finished(tmp_path):
    begin(tmp_path, 1, EARLIER, finished=True)
    begin(tmp_path, 2, EARLIER, finished=True)
    begin(tmp_path, 3, EARLIER)  # its labels alone
    assert rounds._plan(tmp_path, NOW, 2) == (3, 3)


def test_a_round_that_was_not_finished_is_begun_again_with_the_evidence_of_now(tmp_path, caplog):
    begin(tmp_path, 1, EARLIER)
    assert rounds._plan(tmp_path, NOW, 2) == (1, 2)
    rounds._claim(tmp_path / "round-1", NOW)
    assert "begun before tags or clicks were added, now" in caplog.text
    assert (tmp_path / "round-1.1" / "network").is_dir()
    assert [path.name for path in (tmp_path / "round-1").iterdir()] == [rounds.NOTE]


def test_rounds_of_another_export_are_one_line(tmp_path):
    begin(tmp_path, 1, {"evidence": "a", "export": {"step": 2}}, finished=True)
    with pytest.raises(ValueError, match="began with another export; choose another --workdir"):
        rounds._plan(tmp_path, NOW, 2)


def test_a_round_goes_on_from_the_weights_of_the_one_before_unless_told_not_to(tmp_path):
    settings = StoreSettings(0.08, 2.0, "ends", colors="none", tags="archive:somewhere")
    colorless = argparse.Namespace(has_colors=False)
    manifest = argparse.Namespace(settings=settings, scenes={"train/a": colorless})
    store = argparse.Namespace(path=tmp_path / "store", manifest=manifest)
    args = {"export": tmp_path / "labels", "kernels": "normals", "preset": "tiny", "set": []}
    args |= {"devices": 1, "anew": False, "labels": "scene"}

    def training(number, **changes):
        jobs = list(rounds._jobs(args | changes, store, tmp_path, number, trains=True))
        assert [job.title for job in jobs][-2:] == ["smoothing", "training"]
        assert len(jobs) == (2 if number == 1 else 3)
        return jobs[-1].command

    assert "--start-from" not in training(1) and "--start-from" not in training(2, anew=True)
    command = training(2)
    start = command[command.index("--start-from") + 1]
    assert start == str(tmp_path / "round-1" / "network")
    # A store that is named by itself has to be asked for with its settings.
    assert command[command.index("--set") + 1 :] == (
        *("data.labels=scene", "data.voxel_size=0.08", "data.colors=none"),
    )
    (smoothing,) = rounds._jobs(args, store, tmp_path, 1, trains=False)
    assert smoothing.result == tmp_path / "round-1" / "labels.json"
    assert smoothing.command[-3:] == ("--color-width", "0", "--json")


@pytest.fixture
def source(tmp_path):
    """Two rooms to train on and one to validate; points of the first may be clicked."""
    rooms = {"train/a": box_room(0), "train/b": box_room(1), "val/c": box_room(2)}
    return FakeSource(tmp_path / "scans", rooms)


def click(source, label):
    scene = source.scenes["train/a"]
    answer = Clicks(scene.coords[[500]], np.arange(3)[None] == label, np.ones(1, bool))
    source.scenes["train/a"] = scene._replace(clicks=answer)
    source.words = {"train/a": f"point 500 is {label}"}


@pytest.mark.slow
def test_a_chain_of_rounds_leaves_labels_and_grows_with_clicks(source, tmp_path, script):
    def prepared():
        return prepare(source, tmp_path / "store", CONFIG.data, workers=0).store

    workdir = write_network(tmp_path / "cls", prepared(), "cls")
    export_run(workdir, **HOW)
    flags = ["--export", workdir / "pseudo_labels", "--workdir", tmp_path / "rounds"]
    flags += ["--preset", "tiny", "--devices", 1, "--json"]
    flags += ["--set", *runs.SETTINGS, "data.sphere_radius=1.2"]
    first = script(rounds.main, *flags)
    assert first.status == 0, first.err
    found = json.loads(first.out)["rounds"]
    assert [row["network"] is None for row in found] == [False, False, True]
    assert all(row["labels"] > 0 for row in found)
    assert 0 <= found[0]["agreement"] <= 100 and found[2]["agreement"] is None
    labels = Export(tmp_path / "rounds" / "round-3" / "labels")
    assert labels.scenes == ("a", "b")
    again = script(rounds.main, *flags)
    assert "[round" not in again.err and json.loads(again.out)["rounds"] == found
    click(source, 1)
    prepared()
    more = script(rounds.main, *flags)
    assert [line for line in more.err.splitlines() if line.startswith("[round")] == [
        "[round 3] predicting the training scenes",
        "[round 3] smoothing",
        "[round 3] training",
        "[round 4] predicting the training scenes",
        "[round 4] smoothing",
    ]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--rounds", 0], "--rounds 0: give 1 or more."),
        (["--devices", 0], "--devices 0: give 1 or more"),
        (["--set", "optim.epoch=2"], "--set optim.epoch: unknown setting; did you mean"),
        ([], "no export.json, so no complete export"),
    ],
)
def test_bad_flags_are_one_line(script, tmp_path, flags, expected):
    assert expected in script(rounds.main, "--export", tmp_path / "x", *flags).error
