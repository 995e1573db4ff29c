"""The whole of `train.py --stage cls`: killed and resumed, stopped, damaged, on a full disk."""

import json
import os
import pathlib
import shutil
import signal
import time

import numpy as np
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
    result = runs.run(runs.command(store.path, workdir), workdir.parent, own_programs=True)
    assert result.returncode == 0, result.stderr
    assert any((workdir / "xla_cache").iterdir())  # for the next command on it
    assert "a step needs" in result.stderr and " steps took" in result.stderr
    return workdir


def copied(finished: pathlib.Path, workdir: pathlib.Path) -> pathlib.Path:
    """A finished run in another place, whose last checkpoint a test may break."""
    shutil.copytree(finished, workdir)
    (workdir / "results.json").unlink()
    return workdir


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
    workdir = tmp_path / "run"
    # Saving every fraction of a second leaves checkpoints inside epochs too.
    command = runs.command(store.path, workdir, "log.save_minutes=0.005")
    lines = int(np.random.default_rng().integers(2, 12))
    status, _ = runs.interrupt(command, workdir, lines, lambda pid: os.kill(pid, signal.SIGKILL))
    assert status == -signal.SIGKILL
    result = runs.run(command, tmp_path)
    assert result.returncode == 0, result.stderr
    for ours, theirs in zip(runs.final_state(workdir), runs.final_state(finished), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert runs.same_arrays(workdir / "pseudo_labels", finished / "pseudo_labels")


def test_a_killed_run_goes_on_with_other_devices_as_if_undisturbed(store, tmp_path):
    """Begun on two devices and killed, continued on one."""
    settings = ("pyramid.buckets_per_step=4", "log.save_minutes=0.005", "optim.epochs=6")
    # Plain descent: Adam turns the rounding of a gradient near zero into a step of full length.
    settings += ("optim.optimizer=sgd", "optim.learning_rate=0.01", "optim.momentum=0.9")

    def command(name, devices):
        whole = runs.command(store.path, tmp_path / name, *settings)
        whole[whole.index("--devices") + 1] = str(devices)
        return whole

    assert runs.run(command("undisturbed", 2), tmp_path).returncode == 0
    workdir = tmp_path / "moved"
    status, _ = runs.interrupt(
        command("moved", 2), workdir, 5, lambda pid: os.kill(pid, signal.SIGKILL)
    )
    assert status == -signal.SIGKILL
    result = runs.run(command("moved", 1), tmp_path)
    assert result.returncode == 0 and "resuming at step" in result.stderr, result.stderr
    pairs = zip(runs.final_state(workdir), runs.final_state(tmp_path / "undisturbed"), strict=True)
    for ours, theirs in pairs:
        # Sums over devices are taken in another order, and a dozen steps pass the difference on.
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-3)


def test_a_second_run_on_the_same_work_directory_ends_with_one_line(store, finished, tmp_path):
    workdir = tmp_path / "run"
    command = runs.command(store.path, workdir)
    with runs.started(command, tmp_path) as first:
        deadline = time.monotonic() + 240
        while not (workdir / "metrics.jsonl").exists():
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        first.send_signal(signal.SIGSTOP)  # else it may be done too soon
        message = runs.error_of(runs.run(command, tmp_path))
        assert f"{workdir}: is being written by another process (pid {first.pid} on" in message
        assert "--workdir" in message
        first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=240) == 0


def test_sigterm_saves_and_ends_cleanly(store, finished, tmp_path):
    workdir = tmp_path / "run"
    command = runs.command(store.path, workdir)
    status, said = runs.interrupt(command, workdir, 3, lambda pid: os.kill(pid, signal.SIGTERM))
    assert status == 0, said
    assert not (workdir / "results.json").exists()
    result = runs.run(command, tmp_path)
    assert result.returncode == 0 and "resuming at step" in result.stderr
    for ours, theirs in zip(runs.final_state(workdir), runs.final_state(finished), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_deleting_all_point_labels_changes_nothing(store, finished, tmp_path):
    blind = shutil.copytree(store.path, tmp_path / "store")
    deleted = list(blind.rglob("*segment*.npy"))
    for path in deleted:
        path.unlink()
    assert deleted
    workdir = tmp_path / "run"
    result = runs.run(runs.command(blind, workdir), tmp_path)
    assert result.returncode == 0, result.stderr
    for ours, theirs in zip(runs.final_state(workdir), runs.final_state(finished), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert runs.same_arrays(workdir / "pseudo_labels", finished / "pseudo_labels")
    assert "not measured" in result.stdout


def test_other_settings_are_refused_in_one_line(store, finished, tmp_path):
    command = runs.command(store.path, finished, "optim.learning_rate=0.5")
    message = runs.error_of(runs.run(command, tmp_path))
    assert "optim.learning_rate: 0.005 there, 0.5 now" in message and "--workdir" in message


def test_sigterm_to_all_processes_saves_and_ends_cleanly(store, finished, tmp_path):
    """As `timeout` and SLURM send it: input workers end at once, the run has to cope."""
    workdir = tmp_path / "run"

    def terminate(pid):
        os.kill(pid, signal.SIGTERM)
        os.killpg(pid, signal.SIGTERM)

    command = runs.command(store.path, workdir, "data.workers=1", "data.prefetch=1")
    status, said = runs.interrupt(command, workdir, 3, terminate)
    assert status == 0 and "Traceback" not in said, said
    step = runs.saved_steps(workdir)[-1]
    assert 3 <= step < 30
    assert f"SIGTERM: saved step {step}; the same command continues from there." in said


def test_a_damaged_checkpoint_is_set_aside_and_the_result_is_the_same(store, finished, tmp_path):
    workdir = copied(finished, tmp_path / "run")
    before, last = runs.saved_steps(workdir)[-2:]
    for path in (workdir / "checkpoints" / str(last) / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = runs.run(runs.command(store.path, workdir), tmp_path)
    assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr
    assert f"checkpoints/{last} is damaged" in result.stderr
    assert f"resuming at step {before}" in result.stderr
    for ours, theirs in zip(runs.final_state(workdir), runs.final_state(finished), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_checkpoint_of_other_settings_is_refused(store, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished / "checkpoints", workdir / "checkpoints")
    message = runs.error_of(
        runs.run(runs.command(store.path, workdir, "optim.momentum=0.5"), tmp_path)
    )
    assert message.startswith(
        f"{workdir / 'checkpoints'}: this run was started with other settings"
    )
    assert "optim.momentum: 0.98 there, 0.5 now" in message


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(store, finished, tmp_path):
    workdir = copied(finished, tmp_path / "run")
    before, last = runs.saved_steps(workdir)[-2:]
    shutil.rmtree(workdir / "checkpoints" / str(last))
    command = runs.command(store.path, workdir)
    # Files of more than 80 blocks (40 kB) fail; the log is smaller, a checkpoint is not.
    full = ["sh", "-c", 'ulimit -f 80; exec "$@"', "sh", *command]
    message = runs.error_of(runs.run(full, tmp_path))
    assert message.startswith(
        f"{workdir / 'checkpoints'}: a checkpoint cannot be written (File too"
    )
    assert runs.saved_steps(workdir) == [before]
    assert runs.run(command, tmp_path).returncode == 0
    for ours, theirs in zip(runs.final_state(workdir), runs.final_state(finished), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_loss_that_is_not_finite_stops_before_anything_is_saved(store, tmp_path):
    workdir = tmp_path / "run"
    settings = ("optim.learning_rate=1e30", "optim.warmup_steps=0", "log.save_minutes=0.0001")
    message = runs.error_of(runs.run(runs.command(store.path, workdir, *settings), tmp_path))
    assert message.startswith("step 1: norm/parameters is inf. Lower optim.learning_rate")
    assert "room" in message and "at (" in message
    assert runs.saved_steps(workdir) == []
