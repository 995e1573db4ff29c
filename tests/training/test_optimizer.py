"""The optimizer: the paper's schedule, and which variables decay, are clipped and go slowly."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from clouds import pack, surface_cloud

from mprm_jax.config import Config, ModelConfig, OptimConfig, PyramidConfig
from mprm_jax.models.mprm import Mprm
from mprm_jax.training.optimizer import (
    clip_each_variable,
    decay_mask,
    make_optimizer,
    make_schedule,
    offset_mask,
)

PARAMS = {
    "conv": {
        "weights": np.array([1.0, -2.0], np.float32),
        "offset_weights": np.array([0.5, 3.0], np.float32),
        "offset_bias": np.array([2.0], np.float32),
    },
    "linear": {"kernel": np.array([[4.0]], np.float32), "bias": np.array([5.0], np.float32)},
    "norm": {"scale": np.array([1.5], np.float32), "bias": np.array([0.3], np.float32)},
    "path": {"gate": np.float32(0.25)},
}
DECAYED = {"conv/weights", "conv/offset_weights", "linear/kernel"}
OFFSETS = {"conv/offset_weights", "conv/offset_bias"}
SGD = OptimConfig(learning_rate=0.1, momentum=0.9, weight_decay=0.01, decay_epochs=10, epochs=30)
ADAMW = dataclasses.replace(SGD, optimizer="adamw", schedule="cosine")


def flat(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path): leaf for path, leaf in leaves}


def gradients(step):
    """The same for every variable, but different from step to step."""
    return jax.tree.map(lambda x: np.full_like(x, 0.5 + step), PARAMS)


def run_of(optim, buckets_per_step=2):
    pyramid = PyramidConfig(buckets_per_step=buckets_per_step)
    return Config(optim=optim, pyramid=pyramid)


def train(config, num_steps, gradients=gradients):
    """Parameters after some steps of one step per epoch."""
    optimizer = make_optimizer(run_of(config), steps_per_epoch=1)
    update = jax.jit(optimizer.update)
    params, state = PARAMS, jax.jit(optimizer.init)(PARAMS)
    for step in range(num_steps):
        updates, state = update(gradients(step), state, params)
        params = jax.tree.map(np.add, params, updates)
    return flat(params)


def no_gradient(_):
    return jax.tree.map(np.zeros_like, PARAMS)


def rates(steps, steps_per_epoch=10, buckets_per_step=2, **settings):
    config = run_of(OptimConfig(**settings), buckets_per_step)
    schedule = jax.jit(make_schedule(config, steps_per_epoch))
    return np.array([schedule(np.int32(step)) for step in steps])


def test_defaults_are_those_of_the_paper():
    config = OptimConfig()
    assert (config.optimizer, config.learning_rate, config.momentum) == ("sgd", 0.01, 0.98)
    assert (config.weight_decay, config.clip_norm, config.offset_rate) == (1e-3, 100.0, 0.1)


def test_rate_falls_to_a_tenth_in_a_hundred_epochs():
    # float32 powers of ten
    np.testing.assert_allclose(rates([0, 1000, 2000]), [1e-2, 1e-3, 1e-4], rtol=1e-5)


def test_rate_falls_by_the_released_factor_per_epoch():
    """`learning_rate` is multiplied by 0.1^(1/100) after an epoch: mprm training_mprm.py."""
    found = rates([10, 20, 30])
    np.testing.assert_allclose(found[1:] / found[:-1], 0.1 ** (1 / 100), rtol=1e-5)


def test_cosine_ends_at_zero():
    found = rates([0, 100, 200], schedule="cosine", epochs=20)
    np.testing.assert_allclose(found, [0.01, 0.005, 0.0], atol=1e-8)


def test_cosine_stays_at_zero_after_the_end():
    assert rates([250], schedule="cosine", epochs=20)[0] < 1e-8


def test_warm_up_rises_in_equal_parts():
    cold = rates(range(6), warmup_steps=4)
    share = cold / rates(range(6))
    np.testing.assert_allclose(share, [0.2, 0.4, 0.6, 0.8, 1, 1], rtol=1e-5)


@pytest.mark.parametrize(("optimizer", "times"), [("sgd", 4.0), ("adamw", 2.0)])
def test_larger_steps_scale_the_rate_if_asked_for(optimizer, times):
    settings = {"optimizer": optimizer, "buckets_per_step": 8}
    np.testing.assert_array_equal(rates([3], **settings), rates([3], optimizer=optimizer))
    found = rates([3], **settings, base_buckets=2)
    np.testing.assert_allclose(found, times * rates([3], optimizer=optimizer), rtol=1e-6)


def test_each_variable_is_clipped_by_its_own_norm():
    given = {"long": np.array([6.0, 8.0]), "short": np.array([3.0, 4.0]), "zero": np.zeros(2)}
    clipped, _ = jax.jit(clip_each_variable(5.0).update)(given, optax.EmptyState())
    np.testing.assert_allclose(clipped["long"], [3, 4], rtol=1e-6)  # float32
    np.testing.assert_array_equal(clipped["short"], [3, 4])
    np.testing.assert_array_equal(clipped["zero"], [0, 0])


def test_only_weights_decay():
    assert {name for name, decays in flat(decay_mask(PARAMS)).items() if decays} == DECAYED


def test_only_what_predicts_offsets_goes_slowly():
    assert {name for name, slow in flat(offset_mask(PARAMS)).items() if slow} == OFFSETS


def test_every_weight_of_the_network_decays_and_nothing_else():
    """Weights have two axes or more; scales, biases and gates have at most one."""
    model = Mprm(5, ModelConfig(first_features=8, attention_features=6, head_bias=True), 0.08)
    pyramid = pack([surface_cloud(40, 0)])
    features = np.zeros((len(pyramid.points[0]), 4), np.float32)

    def init(key):
        return model.init(key, pyramid, features)["params"]

    params = jax.eval_shape(init, jax.random.key(0))
    expected = jax.tree.map(lambda x: x.ndim >= 2, params)
    assert flat(decay_mask(params)) == flat(expected)


def test_sgd_is_momentum_with_coupled_decay():
    """TensorFlow's: acc = momentum * acc + gradient + decay * w; w -= rate * acc."""
    expected = {}
    for name, start in flat(PARAMS).items():
        weights, accumulated = np.float64(start), 0.0
        for step in range(4):
            decay = 0.01 * weights if name in DECAYED else 0.0
            accumulated = 0.9 * accumulated + (0.5 + step) + decay
            rate = 0.1 * 10 ** (-step / 10) * (0.1 if name in OFFSETS else 1)
            weights = weights - rate * accumulated
        expected[name] = weights
    found = train(SGD, 4)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)  # float32


def test_sgd_clips_the_gradient_and_not_the_accumulated_one():
    config = dataclasses.replace(SGD, weight_decay=0.0, clip_norm=0.5)
    still = dataclasses.replace(config, decay_epochs=10**6)
    moved = flat(PARAMS)["norm/scale"] - train(still, 2)["norm/scale"]
    np.testing.assert_allclose(moved, 0.1 * (0.5 + 0.9 * 0.5 + 0.5), rtol=1e-5)


def test_adamw_takes_steps_of_the_learning_rate():
    config = dataclasses.replace(ADAMW, weight_decay=0.0)
    moved = {name: flat(PARAMS)[name] - value for name, value in train(config, 1).items()}
    for name, step in moved.items():
        expected = 0.01 if name in OFFSETS else 0.1
        np.testing.assert_allclose(step, expected, rtol=1e-4, err_msg=name)  # Adam's epsilon


def test_adamw_decays_weights_apart_from_the_gradient():
    found = train(ADAMW, 1, no_gradient)
    kernel = flat(PARAMS)["linear/kernel"]
    np.testing.assert_allclose(found["linear/kernel"], kernel * (1 - 0.1 * 0.01), rtol=1e-6)


@pytest.mark.parametrize("config", [SGD, ADAMW], ids=lambda config: config.optimizer)
def test_without_a_gradient_only_decayed_variables_move(config):
    found, before = train(config, 1, no_gradient), flat(PARAMS)
    assert {name for name in found if np.any(found[name] != before[name])} == DECAYED
