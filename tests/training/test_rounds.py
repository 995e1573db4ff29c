"""Rounds: weights of a run carry over, but for what has another shape."""

import logging

import jax
import numpy as np
import pytest
from fake_source import FakeSource, box_room
from networks import write_network
from prepared import CONFIG, make_store

from mprm_jax.batches.packing import pack
from mprm_jax.batches.shapes import bucket_shape
from mprm_jax.store.prepare import prepare
from mprm_jax.training.optimizer import make_optimizer
from mprm_jax.training.parallel import make_mesh, replicate
from mprm_jax.training.rounds import with_weights_of
from mprm_jax.training.stages import make_stage
from mprm_jax.training.steps import init_state
from mprm_jax.training.trained import open_network


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


def one_device():
    return make_mesh(jax.devices()[:1])


def fresh_state(workdir, seed, *, averages=False):
    """A state of the network of a run, drawn with another seed."""
    network = open_network(workdir, None, "last", one_device())
    num_classes = len(network.data["classes"])
    stage = make_stage(network.data["stage"], network.config, num_classes)
    example = pack([], bucket_shape(network.config, num_classes)).batch
    optimizer = make_optimizer(network.config, 1)
    return init_state(stage, optimizer, example, seed, averages=averages), network.state


@pytest.mark.parametrize("stage", ["cls", "seg"])
def test_all_weights_carry_over_and_the_step_starts_at_zero(store, tmp_path, stage, caplog):
    workdir = write_network(tmp_path / stage, store, stage)
    fresh, trained = fresh_state(workdir, seed=9)
    with caplog.at_level(logging.INFO):
        state = with_weights_of(workdir, fresh, one_device())
    assert f"starting from the weights of {workdir}, step 1" in caplog.text
    assert "another shape" not in caplog.text and int(state.step) == 0
    for name in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state, name), getattr(trained, name))
    drawn = [
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(fresh.params), jax.tree.leaves(state.params), strict=True)
    ]
    assert any(drawn)


def test_averages_start_at_the_weights_that_carry_over(store, tmp_path):
    workdir = write_network(tmp_path / "seg", store, "seg")
    fresh, trained = fresh_state(workdir, seed=9, averages=True)
    state = replicate(with_weights_of(workdir, fresh, one_device()), one_device())
    for found in (state.averages, {"params": state.params, "batch_stats": state.batch_stats}):
        jax.tree.map(np.testing.assert_array_equal, found, trained.variables)
    # A step consumes its state: no two arrays may share memory.
    places = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state)]
    assert len(set(places)) == len(places)


@pytest.mark.slow
def test_after_a_class_was_added_all_but_the_last_layer_carries_over(store, tmp_path, caplog):
    old = write_network(tmp_path / "old", store, "seg")
    rooms = {"train/a": box_room()}
    source = FakeSource(tmp_path / "scans", rooms, classes=("wall", "floor", "table", "sofa"))
    more = prepare(source, tmp_path / "store", CONFIG.data, workers=0).store
    fresh, _ = fresh_state(write_network(tmp_path / "new", more, "seg"), seed=9)
    with caplog.at_level(logging.INFO):
        state = with_weights_of(old, fresh, one_device())
    assert "arrays are of another shape and start anew" in caplog.text
    _, trained = fresh_state(old, seed=9)
    same, other = [], []
    for (path, value), was in zip(
        jax.tree_util.tree_leaves_with_path(state.params),
        jax.tree.leaves(trained.params),
        strict=True,
    ):
        (same if value.shape == was.shape else other).append(jax.tree_util.keystr(path))
        if value.shape == was.shape:
            np.testing.assert_array_equal(value, was)
    assert len(same) > 5 and 1 <= len(other) <= 2


def test_a_place_without_a_run_is_one_line(store, tmp_path):
    fresh, _ = fresh_state(write_network(tmp_path / "seg", store, "seg"), seed=9)
    with pytest.raises(FileNotFoundError, match="not the work directory of a run"):
        with_weights_of(tmp_path / "nowhere", fresh, one_device())
