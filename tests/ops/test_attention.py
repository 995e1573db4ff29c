import jax
import numpy as np
import pytest
import reference
from jax.test_util import check_grads

from mprm_jax.ops.attention import channel_attention, spatial_attention

spatial = jax.jit(jax.vmap(spatial_attention))
channel = jax.jit(jax.vmap(channel_attention))


@pytest.fixture
def clouds():
    """Queries, keys, values, mask of three clouds of 4, 0 and 6 points."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(3, 6, width)).astype(np.float32) for width in (4, 4, 5)]
    return *parts, np.arange(6)[None] < np.array([4, 0, 6])[:, None]


def attend(clouds):
    return spatial(*clouds), channel(clouds[2], clouds[3])


def test_matches_the_naive_loop(clouds):
    queries, keys, values, mask = clouds
    by_point, by_channel = attend(clouds)
    for b in range(3):
        expected = reference.spatial_attention(queries[b], keys[b], values[b], mask[b])
        np.testing.assert_allclose(by_point[b], expected, atol=1e-5)
        expected = reference.channel_attention(values[b], mask[b])
        np.testing.assert_allclose(by_channel[b], expected, atol=1e-5)


def test_padding_and_clouds_without_points_get_zero(clouds):
    for result in attend(clouds):
        np.testing.assert_array_equal(result[~clouds[3]], 0)


def test_more_padding_changes_nothing(clouds):
    padded = [np.pad(x, ((0, 0), (0, 3), (0, 0)), constant_values=50.0) for x in clouds[:3]]
    mask = np.pad(clouds[3], ((0, 0), (0, 3)))
    for result, expected in zip(attend((*padded, mask)), attend(clouds), strict=True):
        np.testing.assert_allclose(result[:, :6], expected, atol=1e-6)


def test_points_may_come_in_any_order(clouds):
    order = np.random.default_rng(1).permutation(6)
    shuffled = attend([x[:, order] for x in clouds])
    for result, expected in zip(shuffled, attend(clouds), strict=True):
        np.testing.assert_allclose(result, expected[:, order], atol=1e-6)


def test_permuting_clouds_permutes_the_result(clouds):
    order = np.array([2, 0, 1])
    for result, expected in zip(attend([x[order] for x in clouds]), attend(clouds), strict=True):
        np.testing.assert_allclose(result, expected[order], atol=1e-6)


def test_other_clouds_change_nothing(clouds):
    changed = [x.copy() for x in clouds]
    for x in changed[:3]:
        x[2] *= 7.0
    for result, expected in zip(attend(changed), attend(clouds), strict=True):
        np.testing.assert_array_equal(result[0], expected[0])


def test_repeating_a_cloud_does_not_sharpen_channel_attention(clouds):
    features, mask = clouds[2][2:], clouds[3][2:]
    twice = channel(np.concatenate([features] * 2, axis=1), np.concatenate([mask] * 2, axis=1))
    np.testing.assert_allclose(twice[:, :6], channel(features, mask), atol=1e-6)


def test_gradients(clouds):
    *parts, mask = clouds

    def run(*parts):
        return spatial(*parts, mask)

    check_grads(run, tuple(parts), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)

    def run(values):
        return channel(values, mask)

    check_grads(run, (parts[2],), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)
