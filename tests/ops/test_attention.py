import jax
import numpy as np
import pytest
import reference
from jax.test_util import check_grads

from mprm_jax.ops.attention import channel_attention, spatial_attention

SIZES = (4, 0, 6)  # points of the clouds; two rows of padding follow
CLOUDS = np.repeat([0, 1, 2, 3], [*SIZES, 2]).astype(np.int32)
VALID = CLOUDS < 3

spatial = jax.jit(spatial_attention, static_argnums=4, static_argnames="block_rows")
channel = jax.jit(channel_attention, static_argnums=2, static_argnames="block_rows")

# One block per cloud; several of different numbers, the last not full; one row each.
BLOCKS = (128, 4, 1)


@pytest.fixture
def rows():
    """Queries, keys, values of all rows, padding included."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(len(CLOUDS), width)).astype(np.float32) for width in (4, 4, 5)]


def attend(rows, clouds=CLOUDS, num_clouds=3, block_rows=4):
    layout = {"block_rows": block_rows}
    by_point = spatial(*rows, clouds, num_clouds, **layout)
    return by_point, channel(rows[2], clouds, num_clouds, **layout)


@pytest.mark.parametrize("block_rows", BLOCKS)
def test_matches_the_naive_loop(rows, block_rows):
    by_point, by_channel = attend(rows, block_rows=block_rows)
    for cloud, size in enumerate(SIZES):
        queries, keys, values = (x[cloud == CLOUDS] for x in rows)
        mask = np.ones(size, bool)
        expected = reference.spatial_attention(queries, keys, values, mask)
        np.testing.assert_allclose(by_point[cloud == CLOUDS], expected, atol=1e-5)
        expected = reference.channel_attention(values, mask)
        np.testing.assert_allclose(by_channel[cloud == CLOUDS], expected, atol=1e-5)


def test_more_padding_changes_nothing(rows):
    padded = [np.pad(x, ((0, 3), (0, 0)), constant_values=50.0) for x in rows]
    longer = np.pad(CLOUDS, (0, 3), constant_values=3)
    for result, expected in zip(attend(padded, longer), attend(rows), strict=True):
        np.testing.assert_allclose(result[:10], expected[:10], atol=1e-6)


def test_more_places_for_clouds_change_nothing(rows):
    clouds = np.where(VALID, CLOUDS, 5).astype(np.int32)
    expected = channel(rows[2], CLOUDS, 3)
    np.testing.assert_allclose(channel(rows[2], clouds, 5), expected, atol=1e-6)


def test_rows_may_come_in_any_order(rows):
    order = np.random.default_rng(1).permutation(len(CLOUDS))
    shuffled = attend([x[order] for x in rows], CLOUDS[order])
    for result, expected in zip(shuffled, attend(rows), strict=True):
        np.testing.assert_allclose(result, expected[order], atol=1e-6)


def test_other_clouds_change_nothing(rows):
    factor = np.where(CLOUDS == 2, 7.0, 1.0).astype(np.float32)[:, None]
    for result, expected in zip(attend([x * factor for x in rows]), attend(rows), strict=True):
        np.testing.assert_array_equal(result[CLOUDS == 0], expected[CLOUDS == 0])


def test_a_bucket_of_padding_gives_finite_values_and_gradients(rows):
    padding = np.full_like(CLOUDS, 3)

    def total(rows):
        by_channel = channel_attention(rows[2], padding, 3)
        return spatial_attention(*rows, padding, 3).sum() + by_channel.sum()

    results = jax.value_and_grad(total)(rows)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(results))


def test_repeating_a_cloud_does_not_sharpen_channel_attention(rows):
    twice = channel(np.concatenate([rows[2]] * 2), np.concatenate([CLOUDS] * 2), 3)
    np.testing.assert_allclose(twice[: len(CLOUDS)], channel(rows[2], CLOUDS, 3), atol=1e-6)


def test_padding_gets_zero(rows):
    for result in attend(rows):
        assert not np.any(result[~VALID])


def test_large_energies_do_not_overflow(rows):
    sharp = [100 * rows[0], 100 * rows[1], rows[2]]
    points = [x[CLOUDS == 0] for x in sharp]
    expected = reference.spatial_attention(*points, np.ones(4, bool))
    np.testing.assert_allclose(attend(sharp)[0][CLOUDS == 0], expected, atol=1e-5)


@pytest.mark.parametrize("block_rows", BLOCKS)
def test_gradients(rows, block_rows):
    def run(*rows):
        return spatial(*rows, CLOUDS, 3, block_rows=block_rows)

    check_grads(run, tuple(rows), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)

    def run(values):
        return channel(values, CLOUDS, 3, block_rows=block_rows)

    check_grads(run, (rows[2],), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)
