import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from clouds import bucket, emptied, surface_cloud, widened

from mprm_jax.config import ModelConfig
from mprm_jax.models.mprm import Mprm
from mprm_jax.models.paths import PointAttention
from mprm_jax.ops.pooling import cloud_log_mean_exp
from mprm_jax.types import PATHS

pytestmark = pytest.mark.slow

CONFIG = ModelConfig(first_features=8, attention_features=6)
NET = Mprm(5, CONFIG, voxel_size=0.08)
CLOUDS = [surface_cloud(40, 0), surface_cloud(30, 1)]
# Compiles in a fifth of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def open_gates(params, value=0.5):
    return jax.tree_util.tree_map_with_path(
        lambda path, x: np.full_like(x, value) if path[-1].key == "gate" else x, params
    )


@functools.cache
def variables():
    """Open gates, and the statistics of the data: the initial ones let activations grow."""
    initial = jax.device_get(jit(NET.init)(jax.random.key(0), *bucket(CLOUDS)))
    _, (new, old) = jax.device_get(train_step(initial, *bucket(CLOUDS)))
    stats = jax.tree.map(lambda new, old: (new - 0.98 * old) / 0.02, new, old)
    return {"params": open_gates(initial["params"]), "batch_stats": stats}


evaluate = jit(NET.apply)


@jit
def train_step(variables, pyramid, features):
    """Gradients of all class logits and sown losses, and (new, old) statistics."""

    def loss(params, stats):
        output, updated = NET.apply(
            {"params": params, "batch_stats": stats},
            pyramid,
            features,
            train=True,
            rngs={"dropout": jax.random.key(1)},
            mutable=["batch_stats", "losses"],
        )
        sown = sum(jax.tree.leaves(updated["losses"]))
        return jnp.sum(jnp.square(output.class_logits - 1.0)) + sown, updated["batch_stats"]

    stats = variables["batch_stats"]
    grads, updated = jax.grad(loss, has_aux=True)(variables["params"], stats)
    return grads, (updated, stats)


def test_output_has_one_entry_per_path():
    output = evaluate(variables(), *bucket(CLOUDS))
    assert output.class_logits.shape == (4, 3, 5)
    assert output.point_scores.shape == (4, 24, 5)


def test_class_logits_are_the_mean_of_the_point_scores_of_a_cloud():
    pyramid, features = bucket(CLOUDS)
    output = evaluate(variables(), pyramid, features)
    expected = output.point_scores[:, pyramid.clouds[-1] == 1].mean(axis=1)
    np.testing.assert_allclose(output.class_logits[:, 1], expected, atol=1e-5)


def test_other_clouds_and_their_order_change_no_result():
    pyramid, features = bucket(CLOUDS)
    both = evaluate(variables(), pyramid, features)
    alone_pyramid, *rest = bucket(CLOUDS[1:])
    alone = evaluate(variables(), alone_pyramid, *rest)
    swapped = evaluate(variables(), *bucket(CLOUDS[::-1]))
    # Sums of the same terms, grouped differently.
    np.testing.assert_allclose(alone.class_logits[:, 0], both.class_logits[:, 1], atol=1e-5)
    np.testing.assert_allclose(swapped.class_logits[:, 0], both.class_logits[:, 1], atol=1e-5)
    np.testing.assert_allclose(
        alone.point_scores[:, alone_pyramid.clouds[-1] == 0],
        both.point_scores[:, pyramid.clouds[-1] == 1],
        atol=1e-5,
    )


def test_more_padding_changes_no_result():
    many = evaluate(variables(), *widened(bucket(CLOUDS, rows=(128, 64, 32), num_clouds=4)))
    few = evaluate(variables(), *bucket(CLOUDS))
    np.testing.assert_allclose(many.class_logits[:, :3], few.class_logits, atol=1e-5)
    np.testing.assert_array_equal(many.class_logits[:, 3], 0)


def test_bucket_of_padding_gives_finite_values_and_gradients():
    empty = emptied(bucket(CLOUDS))
    output, step = evaluate(variables(), *empty), train_step(variables(), *empty)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((output, step)))
    np.testing.assert_array_equal(output.class_logits, 0)


def test_every_parameter_receives_a_gradient():
    grads, _ = train_step(variables(), *bucket(CLOUDS))
    silent = [
        jax.tree_util.keystr(path)
        for path, grad in jax.tree_util.tree_leaves_with_path(grads)
        if not np.abs(grad).max() > 0
    ]
    assert not silent


@pytest.mark.parametrize("path", ["spatial", "channel"])
def test_closed_gates_leave_the_plain_path(path):
    params = open_gates(variables()["params"], 0.0)
    params[f"{path}_head"] = params["plain_head"]
    output = evaluate({**variables(), "params": params}, *bucket(CLOUDS))
    scores = output.point_scores
    np.testing.assert_allclose(scores[PATHS.index(path)], scores[0], atol=1e-6)


def attention(unary):
    config = dataclasses.replace(CONFIG, attention_unary=unary)
    return PointAttention(config, num_clouds=1)


def test_queries_keys_and_values_are_plain_convolutions(key):
    """Paper 4.2.1: softmax over the points of C Bᵀ, with no norm, bias or nonlinearity before."""
    features = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    clouds = np.array([0] * 6 + [1], np.int32)
    module = attention("plain")
    variables = jit(functools.partial(module.init, train=False))(key, features, clouds)
    assert set(variables) == {"params"}
    assert jax.tree.map(np.shape, variables["params"]) == {
        name: {"kernel": (5, 6)} for name in ("queries", "keys", "values")
    }
    queries, keys, values = (
        features @ np.asarray(variables["params"][name]["kernel"])
        for name in ("queries", "keys", "values")
    )
    for train in (False, True):
        found = jit(functools.partial(module.apply, train=train))(variables, features, clouds)
        expected = reference.spatial_attention(queries, keys, values, clouds == 0)
        # float32 sums of 5 and 6 products, through an exponential
        np.testing.assert_allclose(found[:6], expected[:6], rtol=1e-4, atol=1e-5)


def test_queries_keys_and_values_can_be_normed_as_released(key):
    """The parameters of networks trained before there was a choice."""
    run = functools.partial(attention("normed").init, train=False)
    shapes = jax.eval_shape(run, key, np.zeros((7, 5), np.float32), np.zeros(7, np.int32))
    block = {"unary": {"kernel": (5, 6)}, "norm": {"scale": (6,), "bias": (6,)}}
    names = ("queries", "keys", "values")
    assert jax.tree.map(np.shape, shapes["params"]) == dict.fromkeys(names, block)
    assert set(shapes["batch_stats"]) == set(names)


def test_paths_can_be_chosen():
    config = ModelConfig(first_features=8, paths=("plain",), deformable=False, head_bias=True)
    pcam = Mprm(5, config, voxel_size=0.08)
    output, variables = jax.eval_shape(pcam.init_with_output, jax.random.key(0), *bucket(CLOUDS))
    assert output.class_logits.shape == (1, 3, 5)
    assert set(variables["params"]) == {"encoder", "plain_head"}
    assert set(variables["params"]["plain_head"]) == {"weights", "bias"}


def test_clouds_can_be_pooled_by_log_mean_exp(key):
    config = ModelConfig(
        first_features=4, paths=("plain",), deformable=False, pooling="log_mean_exp"
    )
    sharp = Mprm(5, config, voxel_size=0.08)
    pyramid, features = bucket(CLOUDS)
    output, _ = jit(sharp.init_with_output)(key, pyramid, features)
    expected = cloud_log_mean_exp(
        output.point_scores[0], pyramid.clouds[-1], 3, config.pooling_sharpness
    )
    np.testing.assert_allclose(output.class_logits[0], expected, rtol=1e-5)


def test_narrow_features_change_the_scores_by_little():
    """The types of parameters, statistics and scores stay float32."""
    narrow = Mprm(5, dataclasses.replace(CONFIG, dtype="bfloat16"), voxel_size=0.08)
    found = jit(narrow.apply)(variables(), *bucket(CLOUDS))
    expected = evaluate(variables(), *bucket(CLOUDS))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == jnp.float32
        assert jnp.linalg.norm(one - other) < 0.05 * jnp.linalg.norm(other)
        assert jnp.any(one != other)
