"""Reading and writing rows by index, safe against the shadow index.

The shadow index, the number of rows, means "no row": it reads a constant and writes nothing. Plain
JAX indexing would clamp it to the last row.
"""

import jax.numpy as jnp

from mprm_jax.types import Array


def gather_rows(rows: Array, index: Array, fill: float = 0.0) -> Array:
    """Reads `rows[index]`.

    Args:
      rows: [N, ...].
      index: [...] int32 in [0, N]; N reads `fill`.

    Returns:
      `index.shape + rows.shape[1:]`.
    """
    return jnp.asarray(rows).at[index].get(mode="fill", fill_value=fill)


def scatter_rows(values: Array, index: Array, num_rows: int) -> Array:
    """Writes each value to its row; the inverse of `gather_rows` where indices do not repeat.

    Args:
      values: `index.shape + [...]`.
      index: int32 in [0, num_rows], no row twice; num_rows writes nothing.

    Returns:
      [num_rows, ...]; zero in rows that no index names.
    """
    rows = jnp.zeros((num_rows, *values.shape[index.ndim :]), values.dtype)
    return rows.at[index].set(values, mode="drop")
