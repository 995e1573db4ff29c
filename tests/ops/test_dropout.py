"""Dropout draws by cloud: neither padding, place nor device changes what a point loses."""

import jax
import jax.numpy as jnp
import numpy as np

from mprm_jax.ops.dropout import kept_features

SIZES = (7, 3, 5)
NUM_FEATURES = 6


def kept(key, sizes, *, rows=20, places=4, first_cloud=0, keep=0.5):
    clouds = np.full(rows, places, np.int32)
    clouds[: sum(sizes)] = np.repeat(np.arange(len(sizes)), sizes)
    first = jnp.int32(first_cloud)
    return np.asarray(
        kept_features(key, clouds, places, NUM_FEATURES, keep=keep, first_cloud=first)
    )


def test_padding_and_places_change_nothing(key):
    number = sum(SIZES)
    np.testing.assert_array_equal(
        kept(key, SIZES)[:number], kept(key, SIZES, rows=50, places=9)[:number]
    )


def test_a_cloud_draws_the_same_on_another_device(key):
    """Two devices with a bucket each, and one with both."""
    both = kept(key, (*SIZES, 0, 4, 6), places=8, rows=40)  # the first bucket has four places
    second = kept(key, (4, 6), first_cloud=4)
    np.testing.assert_array_equal(both[sum(SIZES) :][:10], second[:10])


def test_other_clouds_change_nothing(key):
    np.testing.assert_array_equal(kept(key, (7, 3))[7:10], kept(key, (2, 3))[2:5])


def test_clouds_points_and_keys_draw_differently(key):
    rows = kept(key, (12, 8), rows=20, keep=0.5)
    assert not np.array_equal(rows[:8], rows[12:20])
    assert len(np.unique(rows, axis=0)) > 10
    assert not np.array_equal(rows, kept(jax.random.key(1), (12, 8), rows=20))


def test_the_stated_share_is_kept(key):
    # 4000 draws: the deviation of their mean is 0.007.
    found = np.asarray(
        kept_features(key, np.zeros(400, np.int32), 1, 10, keep=0.8, first_cloud=jnp.int32(0))
    )
    assert abs(found.mean() - 0.8) < 0.03
