"""Reading rows by index, safe against the shadow index.

The shadow index, the number of rows, means "no row" and reads a constant. Plain JAX indexing would
clamp it to the last row.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32, Shaped

from mprm_jax.types import Array


def gather_rows(
    rows: Shaped[Array, "N ..."], index: Int32[Array, "..."], fill: float | int = 0.0
) -> Shaped[Array, "..."]:
    """Reads `rows[index]`.

    Gradients of rows narrower than float32 are summed in float32.

    Args:
      index: in [0, N]; N reads `fill`.

    Returns:
      `index.shape + rows.shape[1:]`.
    """
    rows = jnp.asarray(rows)
    if rows.dtype == jnp.bfloat16:
        return _gather_narrow(len(rows), fill, rows, index)
    return _gather(rows, index, fill)


def add_rows(
    values: Float[Array, "..."], index: Int32[Array, "..."], num_rows: int
) -> Float[Array, "{num_rows} ..."]:
    """Adds values to the rows they belong to, the transpose of `gather_rows`; sums in float32.

    Args:
      values: `index.shape + [...]`.
      index: in [0, num_rows]; what belongs to `num_rows` is dropped.

    Returns:
      Of the type of the values.
    """
    sums = jnp.zeros((num_rows, *values.shape[index.ndim :]), jnp.float32)
    sums = sums.at[index].add(values.astype(jnp.float32), mode="drop")
    return sums.astype(values.dtype)


def _gather(rows: Array, index: Array, fill: float | int) -> Array:
    return rows.at[index].get(mode="fill", fill_value=fill)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gather_narrow(num_rows: int, fill: float, rows: Array, index: Array) -> Array:
    return _gather(rows, index, fill)


def _gather_forward(num_rows: int, fill: float, rows: Array, index: Array) -> tuple[Array, Array]:
    return _gather(rows, index, fill), index


def _gather_backward(num_rows: int, fill: float, index: Array, grad: Array) -> tuple[Array, None]:
    return add_rows(grad, index, num_rows), None


_gather_narrow.defvjp(_gather_forward, _gather_backward)
