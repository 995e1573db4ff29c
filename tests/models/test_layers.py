import functools

import jax
import jax.numpy as jnp
import numpy as np
from clouds import pack, surface_cloud

from mprm_jax.models.layers import DeformableKPConv, KPConv, MaskedBatchNorm
from mprm_jax.types import DATA_AXIS

NORM = MaskedBatchNorm(keep=0.9, axis_name=DATA_AXIS)
# Compiles in a fifth of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KERNEL = {"num_kernel_points": 15, "extent": 0.08}


def mesh(num_devices):
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh(
        (num_devices,), (DATA_AXIS,), axis_types=auto, devices=jax.devices()[:num_devices]
    )


def train_norm(num_devices, variables, x, mask):
    def step(variables, x, mask):
        return NORM.apply(variables, x, mask, train=True, mutable=["batch_stats"])

    rows, all_ = jax.P(DATA_AXIS), jax.P()
    spread = jax.shard_map(
        step, mesh=mesh(num_devices), in_specs=(all_, rows, rows), out_specs=(rows, all_)
    )
    return jax.jit(spread)(variables, x, mask)


def test_batch_norm_on_four_devices_with_unequal_counts_equals_one(key):
    x = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    x += np.repeat(np.arange(4.0, dtype=np.float32), 6)[:, None]
    mask = np.concatenate([np.arange(6) < count for count in (6, 1, 0, 2)])
    variables = NORM.init(key, x, mask, train=False)
    one, four = (train_norm(n, variables, x, mask) for n in (1, 4))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), four, one)
    y, updated = one
    np.testing.assert_allclose(y[mask].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(y[mask].std(0), 1, rtol=1e-5)
    mean = updated["batch_stats"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * x[mask].mean(0), rtol=1e-5)


def test_kernel_initialization_keeps_the_second_moment_of_features(key):
    pyramid = pack([surface_cloud(90, 0)])
    points, neighbors = pyramid.points[0], pyramid.neighbors[0]
    x = np.abs(np.random.default_rng(0).normal(size=(96, 64))).astype(np.float32)
    y, _ = jit(KPConv(64, **KERNEL).init_with_output)(key, points, points, neighbors, x)
    # He initialization gives twice the second moment, for the activation that follows; the share
    # of the kernel that is reached varies with the cloud.
    assert 0.5 < jnp.mean(jnp.square(y[:90])) / np.mean(np.square(x)) < 4.0


def test_deformable_convolution_starts_as_the_rigid_one(key):
    pyramid = pack([surface_cloud(60, 0)])
    points, neighbors = pyramid.points[0], pyramid.neighbors[0]
    x = np.random.default_rng(0).normal(size=(96, 4)).astype(np.float32)
    rigid, deformable = KPConv(5, **KERNEL), DeformableKPConv(5, **KERNEL, reach_neighbors=64)
    variables = jit(deformable.init)(key, points, points, neighbors, x)
    assert set(variables["params"]) == {"weights", "offset_weights", "offset_bias"}
    apply = jit(functools.partial(deformable.apply, mutable=["losses", "shares"]))
    y, sown = apply(variables, points, points, neighbors, x)
    weights = {"params": {"weights": variables["params"]["weights"]}}
    np.testing.assert_allclose(y, rigid.apply(weights, points, points, neighbors, x), atol=1e-6)
    fitting, repulsion = sown["losses"]["fitting"], sown["losses"]["repulsion"]
    assert fitting.count == 60 * 15 and repulsion.count == 60
    assert sown["shares"]["left_out"].total == 0 < sown["shares"]["left_out"].count
    np.testing.assert_allclose(repulsion.total / repulsion.count, 0.6327, atol=2e-4)


def test_modulations_start_at_one(key):
    pyramid = pack([surface_cloud(60, 0)])
    points, neighbors = pyramid.points[0], pyramid.neighbors[0]
    x = np.random.default_rng(0).normal(size=(96, 4)).astype(np.float32)
    modulated = DeformableKPConv(5, **KERNEL, reach_neighbors=64, modulated=True)
    y, variables = jit(modulated.init_with_output)(key, points, points, neighbors, x)
    assert variables["params"]["offset_bias"].shape == (60,)
    weights = {"params": {"weights": variables["params"]["weights"]}}
    expected = KPConv(5, **KERNEL).apply(weights, points, points, neighbors, x)
    np.testing.assert_allclose(y, expected, atol=1e-6)
