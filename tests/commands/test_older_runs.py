"""Runs of commit 563a7cd, kept in `tests/fixtures`: every version opens them as that code did."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import runs

import mprm_jax
from mprm_jax.commands import evaluate, export, predict, train
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.targets import open_targets
from mprm_jax.training.parallel import make_mesh
from mprm_jax.training.trained import open_network

pytestmark = pytest.mark.usefixtures("same_process_afterwards")

KEPT = pathlib.Path(__file__).parents[1] / "fixtures" / "run_563a7cd"
SETTINGS = {
    "cls": ("optim.optimizer=sgd", "optim.learning_rate=0.02", "optim.momentum=0.9"),
    "seg": ("optim.learning_rate=0.02", "seg.class_weights=inverse_sqrt", "model.height=True"),
}
STEPS = {"cls": 120, "seg": 160}  # of the whole run


@pytest.fixture
def kept(tmp_path):
    """The runs and their prepared scenes, where a test may change them."""
    return shutil.copytree(KEPT, tmp_path / "kept")


@pytest.fixture(scope="module")
def expected():
    with np.load(KEPT / "expected.npz") as archive:
        return dict(archive)


def command(kept, stage):
    """Arguments of the command that began a run."""
    targets = ["--pseudo-labels", "truth"] if stage == "seg" else []
    data = ["--data", f"store:{kept / 'store'}", "--workdir", kept / stage, "--preset", "tiny"]
    settings = [*runs.SETTINGS, "pyramid.num_levels=2", "optim.epochs=40", "log.keep_last=1"]
    return [
        *("--stage", stage, *targets, *data, "--devices", 1),
        *("--set", *settings, *SETTINGS[stage]),
    ]


@pytest.mark.parametrize("checkpoint", ["last", "best"])
@pytest.mark.parametrize("stage", ["cls", "seg"])
def test_an_older_network_opens_though_its_settings_are_fewer(kept, stage, checkpoint):
    path = kept / stage / "config.json"
    values = json.loads(path.read_text())
    del values["pyramid"]["builder"], values["seg"], values["model"]["dtype"]
    path.write_text(json.dumps(values))
    mesh = make_mesh(jax.devices()[:1])
    network = open_network(kept / stage, stage, checkpoint, mesh)
    assert network.step == int(network.state.step) == int(*runs.saved_steps(kept / stage))
    assert network.config.pyramid.builder == "host"


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_an_older_network_predicts_the_same_labels(script, kept, expected, tmp_path, devices):
    scan = (kept / "cloud.npz", "--workdir", kept / "seg", "--output", tmp_path / "out")
    ended = script(predict.main, *scan, "--devices", devices)
    assert ended.status == 0, ended.err
    with np.load(tmp_path / "out" / "cloud.npz") as found:
        np.testing.assert_array_equal(found["label"], expected["predicted"])


@pytest.mark.slow
def test_an_older_network_labels_arrays_as_it_labels_files(kept, expected):
    with np.load(kept / "cloud.npz") as cloud:
        coords, colors = cloud["xyz"], cloud["rgb"]
    found = mprm_jax.load(kept / "seg").predict(coords, colors)
    np.testing.assert_array_equal(found.label, expected["predicted"])
    mined = mprm_jax.load(kept / "cls", "best").predict(coords, colors)
    assert mined.label.shape == found.label.shape and mined.label.min() >= 0


@pytest.mark.slow
def test_an_older_network_mines_the_same_labels(script, kept, expected, tmp_path):
    given = ("--workdir", kept / "cls", "--store", kept / "store", "--output", tmp_path / "labels")
    ended = script(export.main, *given, "--devices", 4)
    assert ended.status == 0, ended.err
    with np.load(tmp_path / "labels" / "room0.npz") as found:
        np.testing.assert_array_equal(found["allowed"], expected["allowed"])
        # Kept as float16: what rounds to another neighbor is one part in a thousand.
        np.testing.assert_allclose(found["scores"], expected["scores"], rtol=2e-3, atol=1e-3)
        np.testing.assert_array_equal(found["label"], expected["mined"])


def test_an_older_export_is_learned(kept, expected):
    export = str(kept / "pseudo_labels")
    targets = open_targets(export, SceneStore(kept / "store"), "train")
    np.testing.assert_array_equal(targets.labels("room0"), expected["mined"])


@pytest.mark.slow
def test_an_older_network_is_measured(script, kept):
    given = ("--workdir", kept / "seg", "--store", kept / "store", "--json", "--devices", 4)
    ended = script(evaluate.main, *given)
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["step"] == 123


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["cls", "seg"])
def test_an_older_run_goes_on_to_its_end(script, kept, stage):
    step = runs.saved_steps(kept / stage)[-1]
    ended = script(train.main, *command(kept, stage))
    assert ended.status == 0, ended.err
    assert f"resuming at step {step} (epoch 31)" in ended.err
    assert runs.saved_steps(kept / stage)[-1] == STEPS[stage]
    assert (kept / stage / "results.json").exists()
