"""Upsampling from a coarse level to the next finer one."""

from mprm_jax.ops.rows import gather_rows
from mprm_jax.types import Array


def nearest_upsample(features: Array, upsamples: Array) -> Array:
    """Copies to each fine row the features of its nearest coarse row.

    Args:
      features: [N, C] of the coarse level.
      upsamples: [M] int32 into `features`; N marks padding, which gets zero.

    Returns:
      [M, C].
    """
    return gather_rows(features, upsamples)
