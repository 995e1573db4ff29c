"""Averaged weights: what they are, and that a trained network is used with them."""

import jax
import numpy as np
import pytest
import runs
from networks import write_network
from small_stage import SMALL_STAGE

from mprm_jax.batches.loader import Loader
from mprm_jax.batches.shapes import calibrate
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.training.optimizer import make_optimizer
from mprm_jax.training.parallel import make_mesh, replicate, shard_batch
from mprm_jax.training.steps import init_state, make_predict_step, make_train_step
from mprm_jax.training.trained import open_network

NUM_STEPS = 12


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return runs.small_store(tmp_path_factory.mktemp("data"))


def one_device():
    return make_mesh(jax.devices()[:1])


def steps(store, ema):
    """States of a few steps of a small network, from the first on."""
    config = runs.small_config(f"optim.ema={ema}", "pyramid.builder=host")
    balls = TaggedBalls(store, "train", config)
    config, optimizer = calibrate(config, balls), make_optimizer(config, 4)
    step = make_train_step(SMALL_STAGE, optimizer, one_device(), config)
    with Loader(balls, config) as loader:
        example, (loaded,) = loader.example(), loader.load([[[0]]], epoch=0)
    state = init_state(SMALL_STAGE, optimizer, example, config.seed, averages=ema > 0)
    state, batch = replicate(state, one_device()), shard_batch(loaded.batch, one_device())
    yield jax.device_get(state)
    for _ in range(NUM_STEPS):
        state, _ = step(state, batch)
        yield jax.device_get(state)


def test_averages_match_the_naive_loop(store):
    states = list(steps(store, ema=0.4))
    expected = jax.tree.map(np.float64, states[0].params)
    for number, state in enumerate(states[1:]):
        keep = min(0.4, (1 + number) / (10 + number))
        expected = jax.tree.map(
            lambda old, new, keep=keep: keep * old + (1 - keep) * new, expected, state.params
        )
        # float32, over a dozen steps
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            state.averages["params"],
            expected,
        )


def test_averages_do_not_change_what_is_learned(store):
    *_, without = steps(store, ema=0)
    *_, last = steps(store, ema=0.9)
    jax.tree.map(np.testing.assert_array_equal, last.params, without.params)
    assert without.averages == {} and last.variables == last.averages


def test_a_network_predicts_with_its_averages(store):
    *_, state = steps(store, ema=0.9)
    predict = make_predict_step(lambda variables, _: variables["params"], one_device())
    config = runs.small_config("pyramid.builder=host")
    balls = TaggedBalls(store, "train", config)
    with Loader(balls, calibrate(config, balls)) as loader:
        batch = shard_batch(loader.empty(), one_device())
    found = predict(replicate(state, one_device()), batch).values
    jax.tree.map(np.testing.assert_array_equal, found, state.averages["params"])


@pytest.mark.slow
def test_checkpoints_hold_averages_beside_all_else_if_there_are_any(store, tmp_path):
    states, num_arrays = {}, {}
    for ema in (0, 0.9):
        workdir = write_network(tmp_path / str(ema), store, "seg", f"optim.ema={ema}")
        states[ema] = open_network(workdir, "seg", "last", one_device()).state
        num_arrays[ema] = len(runs.final_state(workdir))
    assert states[0].averages == {}
    # A network that has learned nothing: its averages are what was drawn.
    jax.tree.map(np.testing.assert_array_equal, states[0.9].averages, states[0].variables)
    assert num_arrays[0.9] == num_arrays[0] + len(jax.tree.leaves(states[0].variables))
