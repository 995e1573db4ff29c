"""Bits of words: every set one is found by its number, and nothing past the last."""

import jax.numpy as jnp
import numpy as np
import pytest

from mprm_jax.ops.bits import nth_set_bits, pack_bits


@pytest.mark.parametrize("count", [1, 31, 32, 33, 600])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0])
def test_set_bits_are_found_by_their_number(count, share):
    flags = np.random.default_rng(count).random(count) < share
    words = pack_bits(jnp.asarray(flags))
    expected = np.flatnonzero(flags)
    found = nth_set_bits(words, jnp.arange(count + 5, dtype=jnp.int32))
    np.testing.assert_array_equal(found[: len(expected)], expected)
    assert np.all(found[len(expected) :] == 32 * len(words))


def test_numbers_may_come_in_any_order():
    words = jnp.array([0b1010, 0, 0x80000001] + [0] * 13, jnp.uint32)
    found = nth_set_bits(words, jnp.array([3, 0, 9, 2, 1, 0], jnp.int32))
    np.testing.assert_array_equal(found, [95, 1, 32 * 16, 64, 3, 1])
