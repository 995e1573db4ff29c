"""Reading rows by index, safe against the shadow index.

The shadow index, the number of rows, means "no row" and reads a constant. Plain JAX indexing would
clamp it to the last row.
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
