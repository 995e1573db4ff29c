"""Peak rates of the devices at hand, measured: copying memory, and multiplying matrices."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mprm_jax.types import DATA_AXIS, Array

_LONG = 0.02  # seconds; a call that takes longer shows the rate
_REPEATS = 5
_SMALLEST = 256  # rows of a square matrix
_LARGEST = 16384


class MachineRates(NamedTuple):
    """Of all devices of a mesh together."""

    copy: float  # bytes per second, read and written
    matmul: float  # floating point operations per second


def machine_rates(mesh: jax.sharding.Mesh, dtype: str, rows: int | None = None) -> MachineRates:
    """The best of several calls, each large enough to show the rate.

    Args:
      dtype: of the factors of the product; sums run in float32.
      rows: of the square matrices; None looks for the size, which compiles each.
    """

    def copy(x: Array) -> Array:
        return x + 1

    def product(x: Array) -> Array:
        return jnp.einsum("bij,bjk->bik", x, x, preferred_element_type=jnp.float32)

    size = jnp.dtype(dtype).itemsize
    seconds, side = _best(copy, mesh, dtype, rows)
    copied = 2 * size * mesh.size * side**2 / seconds
    seconds, side = _best(product, mesh, dtype, rows)
    return MachineRates(copied, 2 * mesh.size * side**3 / seconds)


def _best(
    function: Callable[[Array], Array], mesh: jax.sharding.Mesh, dtype: str, only: int | None
) -> tuple[float, int]:
    """Fewest seconds of a call on one square matrix per device, and the rows of the matrix."""
    sharding = jax.NamedSharding(mesh, jax.P(DATA_AXIS))
    compiled = jax.jit(function, out_shardings=sharding)
    rows = only or _SMALLEST
    while True:
        x = jax.device_put(jnp.full((mesh.size, rows, rows), 0.5, dtype), sharding)
        jax.block_until_ready(compiled(x))
        times = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            jax.block_until_ready(compiled(x))
            times.append(time.perf_counter() - start)
        if only or min(times) > _LONG or rows == _LARGEST:
            return min(times), rows
        rows *= 2
