import jax
import jax.numpy as jnp
import numpy as np
import reference

from mprm_jax.ops.rows import gather_rows


def test_shadow_index_reads_the_fill_value():
    rows = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    index = np.array([[0, 3], [2, 3]], np.int32)
    for fill in (0.0, -np.inf):
        expected = reference.gather_rows(rows, index, fill)
        np.testing.assert_array_equal(gather_rows(rows, index, fill), expected)


def test_shadow_index_has_no_gradient():
    index = np.array([0, 3, 3, 0], np.int32)
    gradient = jax.grad(lambda rows: gather_rows(rows, index).sum())(np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(gradient, [[2, 2], [0, 0], [0, 0]])


def test_gradients_of_narrow_rows_are_summed_in_float32():
    """In bfloat16, with 8 bits, a sum of ones would stop at 256."""
    index = np.array([0] * 1000 + [1, 2, 3], np.int32)
    rows = jnp.ones((3, 2), jnp.bfloat16)
    gradient = jax.grad(lambda rows: gather_rows(rows, index).astype(jnp.float32).sum())(rows)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(gradient, np.float32)[:, 0], [1000, 1, 1], rtol=2**-8)


def test_narrow_rows_are_read_as_they_are():
    rows = jnp.arange(6, dtype=jnp.bfloat16).reshape(3, 2)
    found = gather_rows(rows, np.array([2, 3], np.int32), -1.0)
    np.testing.assert_array_equal(np.asarray(found, np.float32), [[4, 5], [-1, -1]])
