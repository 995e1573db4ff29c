import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mprm_jax.ops.chunks import by_rows


@pytest.mark.parametrize("num_rows", [3, 6, 8])
def test_chunks_change_neither_values_nor_gradients(num_rows):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(num_rows, 2)).astype(np.float32)
    index = rng.integers(0, 4, num_rows).astype(np.int32)
    table = rng.normal(size=(4, 2)).astype(np.float32)

    def total(rows, table, chunk):
        def function(row, index):
            assert len(row) == len(index) <= chunk
            return {"product": row * table[index], "index": 2 * index}

        found = by_rows(function, rows, index, chunk=chunk)
        return jnp.sum(jnp.sin(found["product"])), found

    run = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)
    (value, found), gradients = run(rows, table, 3)
    (expected, others), slopes = run(rows, table, 8)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, found, others)
    for a, b in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
