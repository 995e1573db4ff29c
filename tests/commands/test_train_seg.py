"""The whole of `train.py --stage seg`: on truth, on pseudo-labels, killed and resumed."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import runs
from label_exports import pseudo_labels, write_export

from mprm_jax.store.truth import voxel_labels

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return runs.small_store(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    """The work directory of a run on the truth that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    result = runs.run(runs.command(store.path, workdir, targets="truth"), workdir.parent)
    assert result.returncode == 0, result.stderr
    assert "learning the GROUND TRUTH" in result.stderr
    assert "a step needs" in result.stderr and " steps took" in result.stderr
    assert "val, without tags: mIoU" in result.stdout
    return workdir


def assert_same_weights(one, other):
    for a, b in zip(runs.final_state(one), runs.final_state(other), strict=True):
        np.testing.assert_array_equal(a, b)


def lines_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_results_and_metrics(finished):
    results = json.loads((finished / "results.json").read_text())
    assert results["targets"] == "truth" and results["seconds"] > 0
    assert len(results["measures"]["val"]["iou"]) == 3
    lines = lines_of(finished)
    assert {"loss/points", "accuracy", "norm/gradient", "bucket/fill"} <= lines[0].keys()
    last = [line for line in lines if "val/miou" in line][-1]
    assert 100 * last["val/miou"] == pytest.approx(results["measures"]["val"]["miou"], abs=0.01)
    assert "val/iou/table" in last


def test_the_step_compiles_once(finished):
    assert {line["compiles"] for line in lines_of(finished) if "compiles" in line} == {1.0}


def test_a_killed_run_resumes_to_the_same_weights_bit_for_bit(store, finished, tmp_path):
    workdir = tmp_path / "run"
    command = runs.command(store.path, workdir, "log.save_minutes=0.005", targets="truth")
    status, _ = runs.interrupt(command, workdir, 7, lambda pid: os.kill(pid, signal.SIGKILL))
    assert status == -signal.SIGKILL
    result = runs.run(command, tmp_path)
    assert result.returncode == 0, result.stderr
    assert_same_weights(workdir, finished)


def test_exported_truth_trains_as_truth_does_without_any_point_label(store, finished, tmp_path):
    labels = {scene: voxel_labels(store, "train", scene) for scene in store.scenes("train")}
    export = write_export(tmp_path / "export", store, labels)
    blind = shutil.copytree(store.path, tmp_path / "store")
    for path in blind.rglob("*segment*.npy"):
        path.unlink()
    workdir = tmp_path / "run"
    result = runs.run(runs.command(blind, workdir, targets=str(export)), tmp_path)
    assert result.returncode == 0, result.stderr
    assert "the last checkpoint counts" in result.stderr and "not measured" in result.stdout
    assert_same_weights(workdir, finished)


def test_other_targets_are_refused_in_one_line(store, finished, tmp_path):
    export = write_export(tmp_path / "export", store, pseudo_labels(store))
    result = runs.run(runs.command(store.path, finished, targets=str(export)), tmp_path)
    message = runs.error_of(result)
    assert message.startswith(f"{finished / 'data.json'}: this run was started on other data")
    assert "targets differ" in message and "--workdir" in message
