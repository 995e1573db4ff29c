"""The training loop with a network that compiles at once: what it says, and what it lets pass."""

import itertools
import json
import logging
import shutil

import jax
import numpy as np
import pytest
import runs
from small_stage import SMALL_STAGE

from mprm_jax.batches.shapes import calibrate, calibrate_candidates
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.errors import UserError
from mprm_jax.training import loop
from mprm_jax.training.agreement import INTERRUPT, NOTHING, SAVE, Decisions
from mprm_jax.training.checkpoints import Checkpoints
from mprm_jax.training.parallel import step_mesh
from mprm_jax.training.signals import StoppedError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return runs.small_store(tmp_path_factory.mktemp("data"))


@pytest.fixture
def fit(store, tmp_path):
    """Trains on some devices with settings changed, four buckets a step."""

    def fit(num_devices, *settings, run="run", validation=None):
        config = runs.small_config("pyramid.buckets_per_step=4", *settings)
        balls = TaggedBalls(store, "train", config)
        config = calibrate_candidates(calibrate(config, balls), balls)
        mesh = step_mesh(jax.devices()[:num_devices], config.pyramid.buckets_per_step)
        return loop.fit(SMALL_STAGE, balls, validation, config, mesh, tmp_path / run)

    return fit


@pytest.mark.parametrize(("num_devices", "builder"), [(1, "device"), (4, "host")])
def test_the_forecast_comes_first_and_is_checked_at_the_end(fit, caplog, num_devices, builder):
    with caplog.at_level(logging.INFO):
        state = fit(num_devices, f"pyramid.builder={builder}")
    said = [x.getMessage() for x in caplog.records if x.name.startswith("mprm_jax.training")]
    plan, cost, first, pace, end = (
        next(i for i, text in enumerate(said) if words in text)
        for words in (
            "a bucket has (256, ",
            "a step needs",
            "training: ",
            "a step takes",
            " steps took",
        )
    )
    assert plan < cost < pace < end and cost < first < end
    assert "steps of 4 buckets" in said[plan]
    assert f"; {int(state.step)} steps are left" in said[cost]
    assert said[end].startswith(f"{int(state.step)} steps took") and "expected were" in said[end]


def test_a_run_of_few_steps_ends_without_a_forecast_of_its_time(fit, caplog):
    with caplog.at_level(logging.INFO):
        fit(4, "optim.epochs=1", "log.every_steps=100")
    assert "a step takes" not in caplog.text and "expected were" not in caplog.text
    assert " steps took" in caplog.text


def save_always(decisions):
    decisions.now = SAVE
    return SAVE


def stop_at(patch, step):
    """Makes a run save and leave after some step."""

    taken = itertools.count(1)

    def decide(decisions):
        decisions.now = INTERRUPT if next(taken) == step else NOTHING
        return decisions.now

    patch.setattr(Decisions, "after_step", decide)


def test_a_resumed_run_forecasts_what_is_left(fit, caplog, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_at(patch, 2)
        fit(4)
    with caplog.at_level(logging.INFO):
        state = fit(4)
    assert f"; {int(state.step) - 2} steps are left" in caplog.text
    assert f"{int(state.step) - 2} steps took" in caplog.text


def learned(workdir):
    """Number, loss and rate of every step, [steps, 3]."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return np.array([[line["step"], line["loss"], line["learning_rate"]] for line in lines])


@pytest.mark.parametrize("begun_on", [1, 2, 4])
def test_a_run_ends_the_same_on_other_devices_than_it_was_begun_on(
    fit, tmp_path, monkeypatch, begun_on
):
    """Inside an epoch, so that the place in the plan counts; the rate is that of the whole run."""
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_at(patch, 4)
        fit(begun_on, run="moved")
    for others in {1, 2, 4} - {begun_on}:
        shutil.copytree(tmp_path / "moved", tmp_path / f"on{others}")
        state, expected = fit(others, run=f"on{others}"), fit(begun_on, run="undisturbed")
        # Sums over devices are taken in another order.
        for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        steps = learned(tmp_path / f"on{others}")
        np.testing.assert_allclose(steps, learned(tmp_path / "undisturbed"), rtol=1e-4)
        assert len(steps) > 5 and (steps[:, 2] > 0).all()


def test_a_checkpoint_that_counts_steps_of_an_epoch_continues_where_it_was():
    """As versions before `pyramid.buckets_per_step` noted them."""
    notes = {"position": {"epoch": 3, "epoch_step": 7, "step": 40}}
    assert loop._position(notes, buckets_per_step=2) == loop.Position(3, 14, 40)


def test_the_position_of_a_newer_version_is_one_line():
    notes = {"position": {"epoch": 3, "clouds": 7, "step": 40}}
    with pytest.raises(UserError, match=r"\(buckets, clouds\): a newer version wrote it"):
        loop._position(notes, buckets_per_step=2)


def test_the_best_epoch_is_found_again_whenever_the_timer_saves(fit, tmp_path, monkeypatch):
    scores = iter([0.2, 0.9, 0.1])
    steps = []

    def measure(state):
        steps.append(int(state.step))
        return {"score": next(scores)}

    monkeypatch.setattr(Decisions, "after_step", save_always)
    state = fit(4, "log.keep_last=1", validation=loop.Validation(measure, "score"))
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        best = checkpoints.restore(state, "best")
    assert int(best.state.step) == steps[1] < steps[2]
    # What was saved is the end of an epoch: a resumed run need not validate it again.
    assert best.notes["position"] == {"epoch": 2, "buckets": 0, "step": steps[1]}


def test_nothing_moves_to_a_device_without_being_sent(fit, monkeypatch):
    monkeypatch.setattr(loop, "shard_batch", lambda batch, mesh: batch)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        fit(4)


FEW = ("optim.epochs=2", "optim.warmup_steps=0")
MORE = (*FEW, "optim.min_steps=13")  # several epochs for each one of the settings


def test_epochs_are_added_until_there_are_enough_steps(fit, tmp_path):
    few, enough = int(fit(4, *FEW, run="few").step), int(fit(4, *MORE, run="more").step)
    assert few < 13 <= enough < 13 + few
    rates = learned(tmp_path / "more")[:, 2] / learned(tmp_path / "more")[0, 2]
    steps = np.arange(enough)
    np.testing.assert_allclose(rates, 0.5 + 0.5 * np.cos(np.pi * steps / enough), atol=1e-6)


def test_no_epoch_is_added_where_there_are_enough_steps(fit, tmp_path):
    states = [fit(4, *FEW, f"optim.min_steps={least}", run=f"run{least}") for least in (0, 3)]
    for ours, theirs in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("every", "validated"), [(1, 2), (2, 1)])
def test_added_epochs_add_no_validations_and_no_checkpoints(fit, monkeypatch, every, validated):
    saved, measured, save = [], [], Checkpoints.save

    def note(checkpoints, step, *rest):
        saved.append(step)
        save(checkpoints, step, *rest)

    def measure(state):
        measured.append(int(state.step))
        return {"score": 0.5}

    monkeypatch.setattr(Checkpoints, "save", note)
    eval_epochs = f"log.eval_epochs={every}"
    state = fit(4, *MORE, eval_epochs, validation=loop.Validation(measure, "score"))
    assert len(saved) == 2 and len(measured) == validated
    assert saved[-1] == measured[-1] == int(state.step)


@pytest.mark.parametrize("ema", [0, 0.9])
def test_a_run_of_added_epochs_resumes_as_if_undisturbed(fit, monkeypatch, ema):
    """Stopped at the end of an epoch that is none of the settings, and inside the one after."""
    settings = (*MORE, f"optim.ema={ema}")
    for step in (3, 5):
        with monkeypatch.context() as patch, pytest.raises(StoppedError):
            stop_at(patch, step)
            fit(4, *settings)
    states = fit(4, *settings), fit(4, *settings, run="undisturbed")
    assert bool(states[0].averages) == (ema > 0)
    for ours, theirs in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(ours, theirs)
