"""Batch statistics over the valid rows of every device."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32

from mprm_jax.types import Array


def masked_moments(
    x: Float[Array, "T C"], mask: Bool[Array, " T"], axis_name: str | None
) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
    """Computes mean and (biased) variance of each channel over rows and devices.

    Args:
      mask: False on padding.
      axis_name: mesh axis the rows are spread over; None for a single device.

    Returns:
      Mean and variance; zero if no row is valid.
    """
    count, total = _sum_devices((_count(mask), _masked_sum(x, mask)), axis_name)
    count = jnp.maximum(count, 1.0)
    mean = total / count
    # A second pass: E[x^2] - E[x]^2 cancels in float32.
    total_sq = _sum_devices(_masked_sum(jnp.square(x - mean[None]), mask), axis_name)
    return mean, total_sq / count


def _count(mask: Bool[Array, " T"]) -> Float32[Array, ""]:
    return jnp.sum(mask, dtype=jnp.float32)


def _masked_sum(x: Float[Array, "T C"], mask: Bool[Array, " T"]) -> Float[Array, " C"]:
    return jnp.sum(jnp.where(mask[:, None], x, 0.0), axis=0)


def _sum_devices(values, axis_name: str | None):
    return values if axis_name is None else jax.lax.psum(values, axis_name)
