import jax
import numpy as np
import pytest
import reference
from jax.test_util import check_grads

from mprm_jax.ops.pooling import cloud_log_mean_exp, cloud_mean, nearest_upsample, neighbor_max

SHARPNESS = 3.0
mean = jax.jit(cloud_mean, static_argnums=2)
log_mean_exp = jax.jit(cloud_log_mean_exp, static_argnums=(2, 3))


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32) - 3.0


POOLS = np.array([[0, 3, 8], [7, 8, 8], [8, 8, 8], [1, 2, 5]], np.int32)
CLOUDS = np.array([0, 0, 2, 2, 2, 0, 4, 4], np.int32)  # clouds 1 and 3 of 4 have no rows


def test_neighbor_max_matches_the_naive_loop(features):
    expected = reference.neighbor_max(features, POOLS)
    np.testing.assert_array_equal(neighbor_max(features, POOLS), expected.astype(np.float32))


def test_shadow_never_wins_although_all_features_are_negative(features):
    assert (neighbor_max(features, POOLS)[:2] < 0).all()


def test_neighbor_max_of_an_empty_list_is_zero(features):
    np.testing.assert_array_equal(neighbor_max(features, POOLS)[2], 0)


def test_neighbor_max_gradient(features):
    run = jax.jit(lambda x: neighbor_max(x, POOLS))
    check_grads(run, (features,), order=1, modes=["rev"], rtol=1e-2)


def gradient(features, pools, weights):
    return jax.grad(lambda x: jax.numpy.sum(weights * neighbor_max(x, pools)))(features)


# Lists are read a few slots at a time; numbers of slots above 127 need more than a byte.
@pytest.mark.parametrize("num_slots", [1, 2, 4, 5, 8, 11, 127, 128, 200])
def test_neighbor_max_of_lists_of_any_length(features, num_slots):
    rng = np.random.default_rng(num_slots)
    pools = rng.integers(0, len(features) + 1, (6, num_slots)).astype(np.int32)
    pools[0] = len(features)
    pools[1, :-1] = len(features)  # the last slot alone
    expected = reference.neighbor_max(features, pools).astype(np.float32)
    np.testing.assert_array_equal(neighbor_max(features, pools), expected)
    weights = rng.normal(size=expected.shape).astype(np.float32)
    wanted = np.zeros(features.shape, np.float32)
    for row, slots in enumerate(pools):
        for channel in range(features.shape[1]):
            found = slots[slots < len(features)]
            if len(found):
                wanted[found[np.argmax(features[found, channel])], channel] += weights[row, channel]
    np.testing.assert_allclose(gradient(features, pools, weights), wanted, rtol=1e-6)


def test_of_equal_neighbors_the_first_of_the_list_gets_the_gradient():
    equal, order = np.ones((9, 1), np.float32), np.array([[9, 4, 8, 0, 1, 2, 3, 5, 6]], np.int32)
    found = gradient(equal, order, np.ones((1, 1), np.float32))
    np.testing.assert_array_equal(np.flatnonzero(found), [4])


def test_cloud_means_match_the_naive_loop(features):
    expected = reference.cloud_mean(features, CLOUDS, 4)
    np.testing.assert_allclose(mean(features, CLOUDS, 4), expected, rtol=1e-6)
    expected = reference.cloud_log_mean_exp(features, CLOUDS, 4, SHARPNESS)
    result = log_mean_exp(features, CLOUDS, 4, SHARPNESS)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_cloud_without_rows_gets_zero(features):
    for result in (mean(features, CLOUDS, 4), log_mean_exp(features, CLOUDS, 4, SHARPNESS)):
        np.testing.assert_array_equal(np.asarray(result)[[1, 3]], 0)


def test_padding_and_row_order_change_no_pooled_cloud(features):
    order = np.random.default_rng(1).permutation(8)
    padded = np.pad(features[order], ((0, 4), (0, 0)), constant_values=500.0)
    clouds = np.pad(CLOUDS[order], (0, 4), constant_values=4)
    for pool in (mean, lambda *a: log_mean_exp(*a, SHARPNESS)):
        result, expected = pool(padded, clouds, 4), pool(features, CLOUDS, 4)
        np.testing.assert_allclose(result, expected, rtol=1e-6)  # a different reduction order


def test_log_mean_exp_survives_large_scores(features):
    large = np.where(CLOUDS[:, None] == 4, 1e4, features * 1e3)
    result, gradient = jax.value_and_grad(lambda x: log_mean_exp(x, CLOUDS, 4, SHARPNESS).sum())(
        large.astype(np.float32)
    )
    assert np.isfinite(result) and np.isfinite(gradient).all()


def test_cloud_pooling_gradients(features):
    check_grads(lambda x: mean(x, CLOUDS, 4), (features,), order=1, modes=["rev"], rtol=1e-2)

    def run(x):
        return log_mean_exp(x, CLOUDS, 4, SHARPNESS)

    check_grads(run, (features,), order=1, modes=["rev"], rtol=1e-2)


def test_upsampling_copies_the_nearest_row_and_leaves_padding_zero(features):
    upsamples = np.array([2, 2, 0, 8], np.int32)
    expected = reference.gather_rows(features, upsamples).astype(np.float32)
    np.testing.assert_array_equal(nearest_upsample(features, upsamples), expected)
