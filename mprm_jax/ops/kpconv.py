"""Rigid kernel point convolution: features weighted by where neighbors lie in a point kernel."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from mprm_jax.ops.rows import add_rows
from mprm_jax.types import Array

_FAR = 1e18  # meters; its square is still finite in float32


def kpconv(
    queries: Float[Array, "M 3"],
    supports: Float[Array, "N 3"],
    neighbors: Int32[Array, "M H"],
    features: Float[Array, "N C"],
    *,
    kernel_points: Float[Array, "K 3"],
    weights: Float[Array, "K C D"],
    extent: float,
) -> Float[Array, "M D"]:
    """Convolves packed clouds with a rigid point kernel.

    Args:
      queries: meters.
      supports: meters, same frame as `queries`.
      neighbors: into `supports`; N marks an empty slot.
      features: narrower than float32, they are summed in float32 all the same.
      kernel_points: meters, relative to a query.
      extent: meters; the influence of a kernel point falls linearly to 0 here.

    Returns:
      Of the type of the features; zero for a query with no neighbor.

    Source: Thomas et al. 2019, eqs. 1-3; mprm `kernels/convolution_ops.py`, KPConv_ops.
    """
    positions = relative_positions(queries, supports, neighbors)
    # As many as the queries, and on the same devices.
    points = kernel_points[None] + jnp.zeros_like(queries)[:, None]
    return mix(weigh_neighbors(points, positions, features, neighbors, extent), weights)


def relative_positions(
    queries: Float[Array, "M 3"], supports: Float[Array, "N 3"], neighbors: Int32[Array, "M H"]
) -> Float[Array, "M H 3"]:
    """Neighbors relative to their query; an empty slot is further away than any kernel reaches.

    Args:
      queries: meters.
      supports: meters, same frame as `queries`.
      neighbors: into `supports`; N marks an empty slot.
    """
    # By coordinate, slots last: what XLA on CPUs vectorizes. A point for the empty slots, because
    # a mask would be computed again for each pair of neighbor and kernel point.
    moves = [
        jnp.take(jnp.append(supports[:, axis], _FAR), neighbors, mode="clip")
        - queries[:, axis, None]
        for axis in range(3)
    ]
    return jnp.stack(moves, axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def weigh_neighbors(
    points: Float[Array, "M K 3"],
    positions: Float[Array, "M H 3"],
    features: Float[Array, "N C"],
    neighbors: Int32[Array, "M H"],
    extent: float,
) -> Float[Array, "M K C"]:
    """Sums the features of neighbors, weighed by their influence on each kernel point.

    The gradient computes influences and reads features again: keeping them would take most of the
    memory of a training step.

    Args:
      points: meters, kernel points of each query, relative to it.
      positions: meters, of `relative_positions`.
      neighbors: into `features`; N marks an empty slot.
      extent: meters, of `linear_influence`.

    Returns:
      Of the type of the features.
    """
    influence = linear_influence(points, positions, extent).astype(features.dtype)
    return _product("mkh,mhc->mkc", influence, _read(features, neighbors))


def _weigh_forward(
    points: Array, positions: Array, features: Array, neighbors: Array, extent: float
) -> tuple[Array, tuple[Array, Array, Array, Array]]:
    saved = points, positions, features, neighbors
    return weigh_neighbors(*saved, extent), saved


def _weigh_backward(
    extent: float, saved: tuple[Array, Array, Array, Array], grad: Array
) -> tuple[Array, Array, Array, None]:
    # Without the barrier the compiler sees that all this was computed before, and keeps it.
    saved, grad = jax.lax.optimization_barrier((saved, grad))
    points, positions, features, neighbors = saved
    # By neighbor, not by kernel point as forward: XLA on CPUs is twice to four times slower at
    # products over the middle axis of both operands, and at writing the longer axis last.
    influence = linear_influence(positions, points, extent)
    for_values = _product("mhk,mkc->mhc", influence.astype(grad.dtype), grad)
    values = _read(features, neighbors)
    for_influence = _product("mkc,mhc->mhk", grad, values).astype(influence.dtype)
    for_points, for_positions = _pull(points, positions, influence, for_influence, extent)
    return for_points, for_positions, add_rows(for_values, neighbors, len(features)), None


weigh_neighbors.defvjp(_weigh_forward, _weigh_backward)


def _read(features: Float[Array, "N C"], neighbors: Int32[Array, "M H"]) -> Float[Array, "M H C"]:
    """Features of neighbors; of an empty slot, which has no influence, those of any row."""
    return jnp.take(features, neighbors, axis=0, mode="clip")


def _pull(
    points: Float[Array, "M K 3"],
    positions: Float[Array, "M H 3"],
    influence: Float[Array, "M H K"],
    grad: Float[Array, "M H K"],
    extent: float,
) -> tuple[Float[Array, "M K 3"], Float[Array, "M H 3"]]:
    """Gradients of points and positions, given that of their influence."""
    # All that derivatives of the distances would keep follows from the influence; the sums over
    # neighbors are products.
    inside = (influence > 0) & (influence < 1)
    pull = jnp.where(inside, grad / (extent**2 * jnp.where(inside, 1 - influence, 1.0)), 0.0)
    for_points = jnp.einsum("mhk,mhd->mkd", pull, positions)
    for_points -= jnp.sum(pull, axis=1)[..., None] * points
    for_positions = jnp.einsum("mhk,mkd->mhd", pull, points)
    for_positions -= jnp.sum(pull, axis=2)[..., None] * positions
    return for_points, for_positions


def mix(gathered: Float[Array, "M K C"], weights: Float[Array, "K C D"]) -> Float[Array, "M D"]:
    """Sums the products over K and C."""
    # As one matrix product: XLA on CPUs is five times slower at a sum over two axes.
    num_points, channels, features = weights.shape
    weights = weights.reshape(-1, features).astype(gathered.dtype)
    return _product("ik,kj->ij", gathered.reshape(-1, num_points * channels), weights)


def _product(formula: str, first: Array, second: Array) -> Array:
    """An einsum whose sums run in float32, in the type of the operands."""
    found = jnp.einsum(formula, first, second, preferred_element_type=jnp.float32)
    return found.astype(second.dtype)


def pairwise_sq_dist(
    points: Float[Array, "*#sets A 3"], others: Float[Array, "*#sets B 3"]
) -> Float[Array, "*#sets A B"]:
    """Squared distances between the points of two sets, for each pair of sets."""
    # One coordinate at a time: XLA on CPUs reduces a trailing axis of three ten times slower.
    deltas = [points[..., :, None, axis] - others[..., None, :, axis] for axis in range(3)]
    return sum(jnp.square(delta) for delta in deltas)


def linear_influence(
    points: Float[Array, "*#sets A 3"], others: Float[Array, "*#sets B 3"], extent: float
) -> Float[Array, "*#sets A B"]:
    """1 where points meet, falling linearly to 0 at `extent` meters.

    Its derivative where they meet is not defined; `weigh_neighbors` takes 0.

    Args:
      points: meters.
      others: meters, in the same frame.

    Source: Thomas et al. 2019, eq. 3.
    """
    return jnp.maximum(0.0, 1.0 - jnp.sqrt(pairwise_sq_dist(points, others)) / extent)
