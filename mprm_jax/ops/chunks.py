"""Functions of rows, computed for some rows at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mprm_jax.types import Array

_CPU_ROWS = 256  # what a deformable convolution makes of them stays near the caches


def by_rows(function: Callable[..., Any], *rows: Array, chunk: int | None = None) -> Any:
    """Calls a function of rows, on CPUs for a chunk of them at a time.

    The gradient computes every chunk again, so that little more than a chunk is ever in memory.
    Accelerators take all rows at once: they need the parallel work.

    Args:
      function: takes m rows of each array and returns arrays of m rows, row by row.
      rows: [M, ...] each.
      chunk: rows at a time; None leaves it to what computes.

    Returns:
      `function(*rows)`.
    """
    if chunk is None:
        chunk = _CPU_ROWS if jax.default_backend() == "cpu" else len(rows[0])
    num_rows = len(rows[0])
    if num_rows <= chunk:
        return function(*rows)
    padding = -num_rows % chunk
    # The first rows fill the last chunk; what comes of them is cut off.
    padded = [jnp.concatenate([x, x[:padding]]) for x in rows]
    chunks = tuple(x.reshape(-1, chunk, *x.shape[1:]) for x in padded)
    found = jax.lax.map(lambda part: jax.checkpoint(function)(*part), chunks)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_rows], found)
