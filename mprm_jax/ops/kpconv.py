"""Rigid kernel point convolution: features weighted by where neighbors lie in a point kernel."""

import jax.numpy as jnp

from mprm_jax.ops.rows import gather_rows
from mprm_jax.types import Array


def kpconv(
    queries: Array,
    supports: Array,
    neighbors: Array,
    features: Array,
    *,
    kernel_points: Array,
    weights: Array,
    extent: float,
) -> Array:
    """Convolves packed clouds with a rigid point kernel.

    Args:
      queries: [M, 3] meters.
      supports: [N, 3] meters, same frame as `queries`.
      neighbors: [M, H] int32 into `supports`; N marks an empty slot.
      features: [N, C].
      kernel_points: [K, 3] meters, relative to a query.
      weights: [K, C, D].
      extent: meters; the influence of a kernel point falls linearly to 0 here.

    Returns:
      [M, D]; zero for a query with no neighbor.

    Source: Thomas et al. 2019, eqs. 1-3; mprm `kernels/convolution_ops.py`, KPConv_ops.
    """
    offsets = gather_rows(supports, neighbors) - queries[:, None]
    influence = linear_influence(pairwise_sq_dist(offsets, kernel_points[None]), extent)
    gathered = jnp.einsum("mhk,mhc->mkc", influence, gather_rows(features, neighbors))
    return jnp.einsum("mkc,kcd->md", gathered, weights)


def pairwise_sq_dist(points: Array, others: Array) -> Array:
    """Squared distances [..., H, K] of `points` [..., H, 3] to `others` [..., K, 3]."""
    # One coordinate at a time: XLA on CPUs reduces a trailing axis of three ten times slower.
    deltas = [points[..., :, None, axis] - others[..., None, :, axis] for axis in range(3)]
    return sum(jnp.square(delta) for delta in deltas)


def linear_influence(sq_dist: Array, extent: float) -> Array:
    """1 at a kernel point, falling linearly to 0 at `extent` meters (Thomas et al. 2019, eq. 3)."""
    away = sq_dist > 0  # the square root has no gradient at 0
    dist = jnp.where(away, jnp.sqrt(jnp.where(away, sq_dist, 1.0)), 0.0)
    return jnp.maximum(0.0, 1.0 - dist / extent)
