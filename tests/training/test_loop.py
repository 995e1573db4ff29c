"""The training loop with a network that compiles at once: what it says, and what it lets pass."""

import logging

import jax
import pytest
import runs
from small_stage import SMALL_STAGE

from mprm_jax.data.shapes import calibrate
from mprm_jax.data.subclouds import Subclouds
from mprm_jax.training import loop
from mprm_jax.training.agreement import INTERRUPT, NOTHING, SAVE
from mprm_jax.training.capacities import calibrate_candidates
from mprm_jax.training.checkpoints import Checkpoints
from mprm_jax.training.parallel import make_mesh
from mprm_jax.training.signals import StoppedError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return runs.small_store(tmp_path_factory.mktemp("data"))


@pytest.fixture
def fit(store, tmp_path):
    """Trains on some devices with settings changed."""

    def fit(num_devices, *settings, validation=None):
        config = runs.small_config(*settings)
        balls = Subclouds(store, "train", config)
        config = calibrate_candidates(calibrate(config, balls), balls)
        mesh = make_mesh(jax.devices()[:num_devices])
        return loop.fit(SMALL_STAGE, balls, validation, config, mesh, tmp_path / "run")

    return fit


@pytest.mark.parametrize(("num_devices", "builder"), [(1, "device"), (4, "host")])
def test_the_forecast_comes_first_and_is_checked_at_the_end(fit, caplog, num_devices, builder):
    with caplog.at_level(logging.INFO):
        state = fit(num_devices, f"pyramid.builder={builder}")
    said = [x.getMessage() for x in caplog.records if x.name.startswith("mprm_jax.training")]
    plan, cost, pace, end = (
        next(i for i, text in enumerate(said) if words in text)
        for words in ("a bucket has (256, ", "a step needs", "a step takes", " steps took")
    )
    assert plan < cost < pace < end
    assert f"steps of {num_devices} buckets" in said[plan]
    assert f"; {int(state.step)} steps are left" in said[cost]
    assert said[end].startswith(f"{int(state.step)} steps took") and "expected were" in said[end]


def test_a_run_of_few_steps_ends_without_a_forecast_of_its_time(fit, caplog):
    with caplog.at_level(logging.INFO):
        fit(4, "optim.epochs=1", "log.every_steps=100")
    assert "a step takes" not in caplog.text and "expected were" not in caplog.text
    assert " steps took" in caplog.text


def test_a_resumed_run_forecasts_what_is_left(fit, caplog, monkeypatch):
    def decide(run):
        run.decision = INTERRUPT if run.position.step == 2 else NOTHING

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(loop._Run, "_decide", decide)
        fit(4)
    with caplog.at_level(logging.INFO):
        state = fit(4)
    assert f"; {int(state.step) - 2} steps are left" in caplog.text
    assert f"{int(state.step) - 2} steps took" in caplog.text


def test_the_best_epoch_is_found_again_whenever_the_timer_saves(fit, tmp_path, monkeypatch):
    scores = iter([0.2, 0.9, 0.1])
    steps = []

    def measure(state):
        steps.append(int(state.step))
        return {"score": next(scores)}

    monkeypatch.setattr(loop._Run, "_decide", lambda run: setattr(run, "decision", SAVE))
    state = fit(4, "log.keep_last=1", validation=loop.Validation(measure, "score"))
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        best = checkpoints.restore(state, "best")
    assert int(best.state.step) == steps[1] < steps[2]
    # What was saved is the end of an epoch: a resumed run need not validate it again.
    assert best.notes["position"] == {"epoch": 2, "epoch_step": 0, "step": steps[1]}


def test_nothing_moves_to_a_device_without_being_sent(fit, monkeypatch):
    monkeypatch.setattr(loop, "shard_batch", lambda batch, mesh: batch)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        fit(4)
