"""The whole of `train.py --stage cls`: killed and resumed, stopped, without point labels."""

import json
import pathlib
import shutil
import signal
import subprocess
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return runs.small_store(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    """The work directory of a run that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    result = runs.run(runs.command(store.path, workdir), workdir.parent)
    assert result.returncode == 0, result.stderr
    return workdir


def final_state(workdir: pathlib.Path) -> list[np.ndarray]:
    """All arrays of the newest checkpoint."""
    steps = [int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    path = workdir / "checkpoints" / str(max(steps)) / "state"
    with ocp.StandardCheckpointer() as checkpointer:
        return [np.asarray(leaf) for leaf in jax.tree.leaves(checkpointer.restore(path))]


def begun(workdir: pathlib.Path, finished: pathlib.Path) -> pathlib.Path:
    """A new work directory that shares the compiled programs of a finished run."""
    workdir.mkdir()
    shutil.copytree(finished / "xla_cache", workdir / "xla_cache")
    return workdir


def interrupt(command: list[str], workdir: pathlib.Path, lines: int, kind: signal.Signals) -> int:
    """Sends a signal once the run has logged some steps; returns its exit status."""
    with subprocess.Popen(command, cwd=workdir, stderr=subprocess.DEVNULL) as process:
        metrics, deadline = workdir / "metrics.jsonl", time.monotonic() + 240
        while not metrics.exists() or metrics.read_text().count("\n") < lines:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(kind)
        return process.wait(240)


def test_a_run_leaves_results_picture_and_metrics(finished):
    results = json.loads((finished / "results.json").read_text())
    assert {"calibrated", "raw"} <= results["measures"].keys()
    assert (finished / "pseudo_labels.png").read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert {"loss/plain", "norm/gradient", "bucket/fill", "learning_rate"} <= lines[0].keys()
    assert any("precision/table" in line for line in lines)


def test_the_step_compiles_once(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert {line["compiles"] for line in lines if "compiles" in line} == {1.0}


def test_a_killed_run_resumes_to_the_same_weights_bit_for_bit(store, finished, tmp_path):
    workdir = begun(tmp_path / "run", finished)
    # Saving every fraction of a second leaves checkpoints inside epochs too.
    command = runs.command(store.path, workdir, "log.save_minutes=0.005")
    lines = int(np.random.default_rng().integers(2, 12))
    assert interrupt(command, workdir, lines, signal.SIGKILL) == -signal.SIGKILL
    result = runs.run(command, tmp_path)
    assert result.returncode == 0, result.stderr
    for ours, theirs in zip(final_state(workdir), final_state(finished), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert runs.same_arrays(workdir / "pseudo_labels", finished / "pseudo_labels")


def test_sigterm_saves_and_ends_cleanly(store, finished, tmp_path):
    workdir = begun(tmp_path / "run", finished)
    command = runs.command(store.path, workdir)
    assert interrupt(command, workdir, 3, signal.SIGTERM) == 0
    assert not (workdir / "results.json").exists()
    result = runs.run(command, tmp_path)
    assert result.returncode == 0 and "resuming at step" in result.stderr
    for ours, theirs in zip(final_state(workdir), final_state(finished), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_deleting_all_point_labels_changes_nothing(store, finished, tmp_path):
    blind = shutil.copytree(store.path, tmp_path / "store")
    deleted = list(blind.rglob("*segment*.npy"))
    for path in deleted:
        path.unlink()
    assert deleted
    workdir = begun(tmp_path / "run", finished)
    result = runs.run(runs.command(blind, workdir), tmp_path)
    assert result.returncode == 0, result.stderr
    for ours, theirs in zip(final_state(workdir), final_state(finished), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert runs.same_arrays(workdir / "pseudo_labels", finished / "pseudo_labels")
    assert "not measured" in result.stdout


def test_other_settings_are_refused_in_one_line(store, finished, tmp_path):
    result = runs.run(runs.command(store.path, finished, "optim.learning_rate=0.5"), tmp_path)
    assert result.returncode == 2
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("error: ") and "optim.learning_rate" in message
    assert "--workdir" in message
