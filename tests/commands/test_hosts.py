"""Two processes as two hosts: they train, export, measure and refine as one, and end together."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pairs
import pytest
import runs
from fake_source import FakeSource, box_room

from mprm_jax.labeling.refining import refine_run, with_kernels
from mprm_jax.prediction.evaluating import evaluate_network
from mprm_jax.store.exports import Export
from mprm_jax.store.prepare import prepare

pytestmark = pytest.mark.slow

SCRIPTS = runs.SCRIPT.parent
EPOCHS = 8
STEPS = 3 * EPOCHS
SETTINGS = (
    "model.paths=plain",
    "pyramid.num_levels=2",
    f"optim.epochs={EPOCHS}",
    f"log.eval_epochs={EPOCHS}",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return runs.small_store(tmp_path_factory.mktemp("data"))


def training(store, workdir: pathlib.Path, *settings: str, devices: int = 2, **kind) -> list[str]:
    """A small training run; two hosts with two devices each compute what four of one host do."""
    command = runs.command(store.path, workdir, *SETTINGS, *settings, **kind)
    return [*command, "pyramid.buckets_per_step=4", "--devices", str(devices)]


def script(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)]


def well(results: list[subprocess.CompletedProcess]) -> list[subprocess.CompletedProcess]:
    """Results of which each ended without an error."""
    for result in results:
        assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr
    return results


def pair(*command: list[str], cwd: pathlib.Path) -> list[subprocess.CompletedProcess]:
    """What two hosts with the same command, or one each, left."""
    return well(pairs.run(*(command * 2)[:2], cwd=cwd))


def steps_logged(workdir: pathlib.Path) -> int:
    metrics = workdir / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def wait_for_steps(processes: list[subprocess.Popen], workdir: pathlib.Path, lines: int) -> None:
    deadline = time.monotonic() + pairs.MINUTES
    while steps_logged(workdir) < lines:
        ended = [process for process in processes if process.poll() is not None]
        assert not ended, pairs.ended(ended)
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_same_weights(ours: pathlib.Path, theirs: pathlib.Path, **tolerance: float) -> None:
    for a, b in zip(runs.final_state(ours), runs.final_state(theirs), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.fixture(scope="module")
def alone(store, tmp_path_factory):
    """The work directory of one process with four devices."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    well([runs.run(training(store, workdir, devices=4), workdir.parent)])
    return workdir


@pytest.fixture(scope="module")
def together(store, tmp_path_factory):
    """The work directory of two processes with two devices each, and what both said."""
    workdir = tmp_path_factory.mktemp("together") / "run"
    return workdir, pair(training(store, workdir), cwd=workdir.parent)


def test_two_hosts_train_to_the_weights_of_one(alone, together):
    # Sums over devices are taken in another order, and 24 steps of Adam pass the difference on.
    assert_same_weights(together[0], alone, rtol=1e-3, atol=1e-4)


def test_a_run_begun_on_one_host_goes_on_with_two(store, alone, tmp_path):
    """One process with two devices is stopped, two processes with one each end its run."""
    workdir = tmp_path / "run"
    begun = training(store, workdir, devices=2)
    status, said = runs.interrupt(begun, workdir, 4, lambda pid: os.kill(pid, signal.SIGTERM))
    assert status == 0, said
    first, _ = pair(training(store, workdir, devices=1), cwd=tmp_path)
    assert "resuming at step" in first.stderr
    # As above.
    assert_same_weights(workdir, alone, rtol=1e-3, atol=1e-4)


def test_two_hosts_log_the_metrics_of_one(alone, together):
    ours, theirs = (
        [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        for workdir in (together[0], alone)
    )
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        # What is counted is the first host's share; the losses are those of all.
        names = [name for name in a if not name.startswith(("speed/", "bucket/", "cut/"))]
        # As the weights.
        np.testing.assert_allclose([a[n] for n in names], [b[n] for n in names], rtol=1e-3)


def test_two_hosts_write_each_file_once(alone, together):
    ours, theirs = (
        {path.name for folder in (".", "pseudo_labels") for path in (workdir / folder).iterdir()}
        for workdir in (together[0], alone)
    )
    assert ours == theirs
    assert len(list((together[0] / "tensorboard").iterdir())) == 1
    assert runs.saved_steps(together[0]) == runs.saved_steps(alone)


def test_only_the_first_host_speaks(together):
    first, second = together[1]
    assert "2 hosts with 2 cpu devices each" in first.stderr and "mIoU" in first.stdout
    assert not second.stdout and not second.stderr


def both_say(results: list[subprocess.CompletedProcess]) -> str:
    """The one line with which both hosts ended."""
    said = {runs.error_of(result) for result in results}
    assert len(said) == 1
    return said.pop()


def test_hosts_with_different_settings_end_with_one_line(store, tmp_path):
    workdir = tmp_path / "run"
    other = training(store, workdir, "optim.momentum=0.5")
    said = both_say(pairs.run(training(store, workdir), other, cwd=tmp_path))
    assert "host 1" in said and "optim.momentum: 0.5 there, 0.98 on host 0" in said
    assert not workdir.exists()


def test_hosts_with_different_data_end_with_one_line(store, tmp_path):
    rooms = {f"train/room{i}": box_room(i + (i == 3)) for i in range(4)}
    rooms["val/room9"] = box_room(9)
    source = FakeSource(tmp_path / "scans", rooms)
    prepare(source, tmp_path / "b" / "store", runs.small_config().data, workers=0)
    shutil.copytree(store.path, tmp_path / "a" / "store")
    commands = []
    for folder in ("a", "b"):
        # The same words, so that only the data differ, as on disks of two hosts.
        command = training(store, tmp_path / "run")
        commands.append(
            ["sh", "-c", f'cd {tmp_path / folder}; exec "$@"', "sh"]
            + ["store:store" if word.startswith("store:") else word for word in command]
        )
    said = both_say(pairs.run(*commands, cwd=tmp_path))
    assert "host 1 differs (fingerprint: " in said and "make all hosts alike" in said
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def terminated(store, tmp_path_factory):
    """A run of which one host got a SIGTERM, and what both said."""
    workdir = tmp_path_factory.mktemp("disturbed") / "run"
    command = training(store, workdir)
    with pairs.started(command, command, cwd=workdir.parent) as processes:
        wait_for_steps(processes, workdir, 2)
        processes[1].send_signal(signal.SIGTERM)
        return workdir, pairs.ended(processes)


@pytest.fixture(scope="module")
def killed(store, terminated):
    """The same run, started again, of which one host was killed; and what the other said."""
    workdir = terminated[0]
    command = training(store, workdir)
    with pairs.started(command, command, cwd=workdir.parent) as processes:
        wait_for_steps(processes, workdir, steps_logged(workdir) + 2)
        processes[1].kill()
        return workdir, pairs.ended(processes)


def test_sigterm_on_one_host_saves_and_ends_both(terminated):
    workdir, results = terminated
    step = runs.saved_steps(workdir)[-1]
    assert 2 <= step < STEPS
    for result in well(results):
        assert f"SIGTERM: saved step {step}; the same command continues" in result.stderr
    assert not (workdir / "results.json").exists()


def test_the_end_of_one_host_ends_the_other_with_one_line(killed):
    _, (first, second) = killed
    assert second.returncode == -signal.SIGKILL
    assert first.returncode != 0 and "Traceback" not in first.stderr
    last = first.stderr.strip().splitlines()[-1]
    assert last.startswith("error: host 1 ended or lost contact; start the same command on all")


def test_a_restarted_pair_ends_with_the_weights_of_an_undisturbed_one(store, killed, together):
    workdir = killed[0]
    first, _ = pair(training(store, workdir), cwd=workdir.parent)
    assert "resuming at step" in first.stderr
    assert_same_weights(workdir, together[0], rtol=0, atol=0)


def test_two_hosts_export_the_files_of_one(alone, tmp_path):
    options = ("--workdir", alone, "--output", tmp_path / "labels", "--devices", 2, "--ply")
    first, second = pair(script("export_pseudo_labels", *options), cwd=tmp_path)
    assert "overall accuracy" in first.stdout and not second.stdout
    assert runs.same_arrays(tmp_path / "labels", alone / "pseudo_labels")
    export = Export(tmp_path / "labels")
    num_voxels = sum(len(export.load(scene).label) for scene in export.scenes)
    assert f"of {num_voxels} voxels lie in no ball" in first.stderr
    scans = {path.name for path in (tmp_path / "labels" / "ply").glob("*.ply")}
    assert scans == {f"room{i}.ply" for i in range(4)}
    ours, theirs = (
        json.loads((folder / "export.json").read_text())
        for folder in (tmp_path / "labels", alone / "pseudo_labels")
    )
    assert [made.pop("made_by")["devices"] for made in (ours, theirs)] == ["4 x cpu", "4 x cpu"]
    assert ours == theirs


def test_two_hosts_refine_to_the_numbers_of_one(alone, tmp_path):
    export = alone / "pseudo_labels"
    options = ("--export", export, "--output", tmp_path / "pair", "--json")
    first, second = pair(script("refine_pseudo_labels", *options), cwd=tmp_path)
    assert not second.stdout
    settings = with_kernels("normals")
    how = {"store": None, "settings": settings, "tune_scenes": 0, "picture": False}
    report = refine_run(export, output=tmp_path / "one", **how)
    ours, theirs = json.loads(first.stdout), json.loads(json.dumps(report.values))
    assert ours.pop("directory") != theirs.pop("directory")
    assert ours == theirs
    assert runs.same_arrays(tmp_path / "pair", tmp_path / "one")


@pytest.mark.usefixtures("same_process_afterwards")
def test_two_hosts_train_a_segmenter_and_measure_it_as_one(store, tmp_path):
    workdir = tmp_path / "run"
    pair(training(store, workdir, "optim.epochs=1", targets="truth"), cwd=tmp_path)
    options = ("--workdir", workdir, "--split", "train", "--votes", 2, "--augment", "--json")
    first, second = pair(script("evaluate", *options, "--devices", 2), cwd=tmp_path)
    assert not second.stdout
    report = evaluate_network(workdir, split="train", votes=2, augment=True, num_devices=1)
    ours, theirs = json.loads(first.stdout), json.loads(json.dumps(report.values))
    assert ours.pop("made_by") and "made_by" not in theirs  # the command knows
    assert (ours.pop("devices"), theirs.pop("devices")) == ("4 x cpu", "1 x cpu")
    assert ours == theirs
