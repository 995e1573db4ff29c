import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.test_util import check_grads

from mprm_jax.geometry.kernel_points import KERNEL_RADIUS, unit_kernel
from mprm_jax.ops.kpconv import kpconv, linear_influence, weigh_neighbors

EXTENT = 0.5
POINTS = (unit_kernel(15) * KERNEL_RADIUS * EXTENT).astype(np.float32)
convolve = jax.jit(functools.partial(kpconv, kernel_points=POINTS, extent=EXTENT))


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    queries, supports = rng.uniform(size=(7, 3)), rng.uniform(size=(11, 3))
    supports[:3] = queries[:3] + POINTS[:3]  # at distance 0 of a kernel point
    neighbors = np.stack([rng.permutation(12)[:6] for _ in range(7)])  # 11 is the shadow
    neighbors[:3, 0], neighbors[5] = np.arange(3), 11  # row 5 has no neighbor
    features, weights = rng.normal(size=(11, 4)), rng.normal(size=(15, 4, 3))
    single = [x.astype(np.float32) for x in (queries, supports, features, weights)]
    return single[0], single[1], neighbors.astype(np.int32), single[2], single[3]


def test_matches_the_naive_loop(case):
    *rows, weights = case
    expected = reference.kpconv(*rows, kernel_points=POINTS, extent=EXTENT, weights=weights)
    # float32 sums over 6 neighbors, 15 kernel points, 4 channels
    np.testing.assert_allclose(convolve(*rows, weights=weights), expected, atol=1e-5)


def test_query_without_a_neighbor_gets_zero(case):
    *rows, weights = case
    np.testing.assert_array_equal(convolve(*rows, weights=weights)[5], 0)


def test_padding_changes_nothing(case):
    queries, supports, neighbors, features, weights = case
    padded = np.where(neighbors == 11, 14, neighbors)
    padded = np.pad(padded, ((0, 2), (0, 3)), constant_values=14)
    result = convolve(
        np.pad(queries, ((0, 2), (0, 0)), constant_values=9.0),
        np.pad(supports, ((0, 3), (0, 0)), constant_values=9.0),
        padded,
        np.pad(features, ((0, 3), (0, 0)), constant_values=9.0),
        weights=weights,
    )
    expected = convolve(queries, supports, neighbors, features, weights=weights)
    np.testing.assert_allclose(result[:7], expected, atol=1e-6)  # a different reduction order
    np.testing.assert_array_equal(result[7:], 0)


def test_order_of_rows_and_slots_does_not_matter(case):
    queries, supports, neighbors, features, weights = case
    rng = np.random.default_rng(1)
    order = rng.permutation(11)
    place = np.append(np.argsort(order), 11).astype(np.int32)
    result = convolve(
        queries, supports[order], place[neighbors[:, ::-1]], features[order], weights=weights
    )
    expected = convolve(queries, supports, neighbors, features, weights=weights)
    np.testing.assert_allclose(result, expected, atol=1e-6)  # a different reduction order


def test_isolated_point_meets_the_central_kernel_point_only():
    here = np.zeros((1, 3), np.float32)
    weights = np.arange(15.0, dtype=np.float32)[:, None, None] + 1
    lists = np.zeros((1, 1), np.int32)
    result = convolve(here, here, lists, np.ones((1, 1), np.float32), weights=weights)
    np.testing.assert_array_equal(result, [[1.0]])


def test_gradients_of_features_and_weights(case):
    queries, supports, neighbors, features, weights = case

    def run(features, weights):
        return convolve(queries, supports, neighbors, features, weights=weights)

    check_grads(run, (features, weights), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_influence_falls_linearly_and_has_no_gradient_where_points_meet():
    positions = np.zeros((1, 4, 3), np.float32)
    positions[0, :, 1] = [0.0, 0.25, 0.5, 1.0]
    points = np.zeros((1, 1, 3), np.float32)
    found = linear_influence(points, positions, EXTENT)
    np.testing.assert_allclose(found[0, 0], [1, 0.5, 0, 0], atol=1e-7)
    rows = np.ones((4, 1), np.float32), np.arange(4, dtype=np.int32)[None]
    gradient = jax.grad(lambda x: weigh_neighbors(points, x, *rows, EXTENT).sum())(positions)
    np.testing.assert_allclose(gradient[0, :, 1], [0, -1 / EXTENT, 0, 0], rtol=1e-6)


def test_gradients_of_weighed_neighbors_are_those_of_the_plain_formula():
    rng = np.random.default_rng(2)
    points, positions = (rng.uniform(size=(3, n, 3)).astype(np.float32) for n in (4, 6))
    features = rng.normal(size=(5, 2)).astype(np.float32)
    neighbors = rng.integers(0, 6, size=(3, 6)).astype(np.int32)  # 5 is the shadow
    positions[neighbors == 5] = 1e18
    weights = rng.normal(size=(3, 4, 2)).astype(np.float32)

    def plain(points, positions, features):
        distance = jnp.linalg.norm(points[:, :, None] - positions[:, None], axis=-1)
        values = jnp.pad(features, ((0, 1), (0, 0)))[neighbors]
        influence = jnp.maximum(0.0, 1 - distance / EXTENT)
        return jnp.sum(weights * jnp.einsum("mkh,mhc->mkc", influence, values))

    def fast(points, positions, features):
        return jnp.sum(weights * weigh_neighbors(points, positions, features, neighbors, EXTENT))

    grad = functools.partial(jax.grad, argnums=(0, 1, 2))
    found, expected = (grad(run)(points, positions, features) for run in (fast, plain))
    assert all(np.abs(gradient).max() > 1 for gradient in expected)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found, expected)


def test_narrow_features_give_the_same_to_their_precision(case):
    """Positions and influences stay float32; features, weights and results have 8 bits."""
    *rows, features, weights = case
    expected = convolve(*rows, features, weights=weights)
    found = convolve(*rows, features.astype(jnp.bfloat16), weights=weights)
    assert found.dtype == jnp.bfloat16
    # Four roundings of relative size 2^-9 each, in sums of terms of order 1.
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, atol=0.05, rtol=0.02)


def test_narrow_features_have_gradients_close_to_wide_ones(case):
    *rows, features, weights = case

    def total(features, weights):
        return jnp.sum(jnp.square(convolve(*rows, features, weights=weights).astype(jnp.float32)))

    gradient = jax.grad(total, argnums=(0, 1))
    wide = gradient(jnp.asarray(features), jnp.asarray(weights))
    narrow = gradient(jnp.asarray(features, jnp.bfloat16), jnp.asarray(weights))
    assert (narrow[0].dtype, narrow[1].dtype) == (jnp.bfloat16, jnp.float32)
    for one, other in zip(wide, narrow, strict=True):
        difference = np.linalg.norm(one - other.astype(jnp.float32))
        assert difference < 0.02 * np.linalg.norm(one)
