import jax
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
