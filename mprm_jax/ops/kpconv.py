"""Rigid kernel point convolution: features weighted by where neighbors lie in a point kernel."""

import functools

import jax
import jax.numpy as jnp

from mprm_jax.ops.rows import add_rows, gather_rows
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
    positions = gather_rows(supports, neighbors) - queries[:, None]
    points = jnp.broadcast_to(kernel_points[None], (len(queries), *kernel_points.shape))
    influence = linear_influence(positions, points, extent)
    gathered = weigh_neighbors(influence, features, neighbors)
    return mix(gathered, weights)


@jax.custom_vjp
def weigh_neighbors(influence: Array, features: Array, neighbors: Array) -> Array:
    """Sums the features of neighbors, weighed by their influence.

    The gradient reads the features of the neighbors again: keeping them would take most of the
    memory of a training step.

    Args:
      influence: [M, H, K].
      features: [N, C].
      neighbors: [M, H] int32 into `features`; N marks an empty slot.

    Returns:
      [M, K, C] of the type of the features.
    """
    # Transposed in memory first, which also needs the hand-written gradient below: XLA on CPUs is
    # twice to four times slower at products over the middle axis of both operands.
    by_point = jnp.swapaxes(influence.astype(features.dtype), 1, 2)
    by_point = jax.lax.optimization_barrier(by_point)
    return _product("mkh,mhc->mkc", by_point, gather_rows(features, neighbors))


def _weigh_forward(
    influence: Array, features: Array, neighbors: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    return weigh_neighbors(influence, features, neighbors), (influence, features, neighbors)


def _weigh_backward(saved: tuple[Array, Array, Array], grad: Array) -> tuple[Array, Array, None]:
    # Without the barrier the compiler sees that they were read before, and keeps them after all.
    (influence, features, neighbors), grad = jax.lax.optimization_barrier((saved, grad))
    values = gather_rows(features, neighbors)
    for_influence = _product("mkc,mhc->mhk", grad, values).astype(influence.dtype)
    for_values = _product("mhk,mkc->mhc", influence.astype(grad.dtype), grad)
    return for_influence, add_rows(for_values, neighbors, len(features)), None


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def linear_influence(positions: Array, points: Array, extent: float) -> Array:
    """1 at a kernel point, falling linearly to 0 at `extent` meters; its gradient at both is 0.

    Args:
      positions: [M, H, 3] meters, neighbors relative to their query.
      points: [M, K, 3] meters, kernel points of each query.

    Returns:
      [M, H, K].

    Source: Thomas et al. 2019, eq. 3.
    """
    return jnp.maximum(0.0, 1.0 - jnp.sqrt(pairwise_sq_dist(positions, points)) / extent)


def _influence_forward(
    positions: Array, points: Array, extent: float
) -> tuple[Array, tuple[Array, Array, Array]]:
    influence = linear_influence(positions, points, extent)
    return influence, (positions, points, influence)


def _influence_backward(
    extent: float, saved: tuple[Array, Array, Array], grad: Array
) -> tuple[Array, Array]:
    # All that derivatives of the distances would keep follows from the influence; the sums over
    # neighbors are products.
    positions, points, influence = saved
    inside = (influence > 0) & (influence < 1)
    pull = jnp.where(inside, grad / (extent**2 * jnp.where(inside, 1 - influence, 1.0)), 0.0)
    to_points = jnp.einsum("mhk,mhd->mkd", pull, positions)
    to_points -= jnp.sum(pull, axis=1)[..., None] * points
    to_positions = jnp.einsum("mhk,mkd->mhd", pull, points)
    to_positions -= jnp.sum(pull, axis=2)[..., None] * positions
    return to_positions, to_points


linear_influence.defvjp(_influence_forward, _influence_backward)
