"""Rigid kernel point convolution: features weighted by where neighbors lie in a point kernel."""

import jax
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
      features: [N, C]; narrower than float32, they are summed in float32 all the same.
      kernel_points: [K, 3] meters, relative to a query.
      weights: [K, C, D].
      extent: meters; the influence of a kernel point falls linearly to 0 here.

    Returns:
      [M, D] of the type of the features; zero for a query with no neighbor.

    Source: Thomas et al. 2019, eqs. 1-3; mprm `kernels/convolution_ops.py`, KPConv_ops.
    """
    offsets = gather_rows(supports, neighbors) - queries[:, None]
    influence = linear_influence(pairwise_sq_dist(offsets, kernel_points[None]), extent)
    gathered = weigh_neighbors(influence, gather_rows(features, neighbors))
    return mix(gathered, weights)


@jax.custom_vjp
def weigh_neighbors(influence: Array, values: Array) -> Array:
    """Sums neighbors [M, H, C], weighed by their influence [M, H, K], to [M, K, C].

    The result has the type of the values.
    """
    # Transposed in memory first, which also needs the hand-written gradient below: XLA on CPUs is
    # twice to four times slower at products over the middle axis of both operands.
    by_point = jnp.swapaxes(influence.astype(values.dtype), 1, 2)
    return _product("mkh,mhc->mkc", jax.lax.optimization_barrier(by_point), values)


def _weigh_forward(influence: Array, values: Array) -> tuple[Array, tuple[Array, Array]]:
    return weigh_neighbors(influence, values), (influence, values)


def _weigh_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    influence, values = saved
    return (
        _product("mkc,mhc->mhk", grad, values).astype(influence.dtype),
        _product("mhk,mkc->mhc", influence.astype(grad.dtype), grad),
    )


weigh_neighbors.defvjp(_weigh_forward, _weigh_backward)


def mix(gathered: Array, weights: Array) -> Array:
    """Sums [M, K, C] with [K, C, D] over K and C."""
    # As one matrix product: XLA on CPUs is five times slower at a sum over two axes.
    num_points, channels, features = weights.shape
    weights = weights.reshape(-1, features).astype(gathered.dtype)
    return _product("ik,kj->ij", gathered.reshape(-1, num_points * channels), weights)


def _product(formula: str, first: Array, second: Array) -> Array:
    """An einsum whose sums run in float32, in the type of the operands."""
    found = jnp.einsum(formula, first, second, preferred_element_type=jnp.float32)
    return found.astype(second.dtype)


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
