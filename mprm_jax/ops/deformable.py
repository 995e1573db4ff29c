"""Deformable kernel point convolution: each query moves its own copy of the kernel."""

import jax
import jax.numpy as jnp

from mprm_jax.ops.kpconv import linear_influence, mix, pairwise_sq_dist, weigh_neighbors
from mprm_jax.ops.rows import gather_rows
from mprm_jax.types import Array, Ratio

REPULSION_REACH = 1.5  # extents; deformed points nearer than this repel (mprm KPFCNN_mprm.py)


def deformable_kpconv(
    queries: Array,
    supports: Array,
    neighbors: Array,
    features: Array,
    *,
    kernel_points: Array,
    offsets: Array,
    weights: Array,
    extent: float,
    modulations: Array | None = None,
) -> Array:
    """Convolves packed clouds with a point kernel that every query has deformed.

    Args:
      queries: [M, 3] meters.
      supports: [N, 3] meters, same frame as `queries`.
      neighbors: [M, H] int32 into `supports`; N marks an empty slot.
      features: [N, C].
      kernel_points: [K, 3] meters, relative to a query.
      offsets: [M, K, 3] meters, added to the kernel points.
      weights: [K, C, D].
      extent: meters; the influence of a kernel point falls linearly to 0 here.
      modulations: [M, K], a factor of each kernel point.

    Returns:
      [M, D] of the type of the features; zero for a query with no neighbor.

    Source: Thomas et al. 2019, eqs. 4-5; mprm `kernels/convolution_ops.py`, KPConv_deform_ops.
    """
    positions = gather_rows(supports, neighbors) - queries[:, None]
    sq_dist = pairwise_sq_dist(positions, kernel_points[None] + offsets)
    influence = linear_influence(sq_dist, extent)
    gathered = weigh_neighbors(influence, gather_rows(features, neighbors))
    if modulations is not None:
        gathered = gathered * modulations[..., None].astype(gathered.dtype)
    return mix(gathered, weights)


def fitting_loss(
    queries: Array,
    supports: Array,
    neighbors: Array,
    *,
    kernel_points: Array,
    offsets: Array,
    extent: float,
) -> Ratio:
    """Squared distance of deformed kernel points to their nearest neighbor, in extents.

    Arguments as in `deformable_kpconv`. Each kernel point of a query with a neighbor counts.

    Source: Thomas et al. 2019, eq. 7; mprm `models/KPFCNN_mprm.py`, regularization.
    """
    positions = gather_rows(supports, neighbors) - queries[:, None]
    points = kernel_points[None] + offsets
    found = neighbors < len(supports)
    sq_dist = jnp.where(found[..., None], pairwise_sq_dist(positions, points), jnp.inf)
    # Choosing first keeps the gradient to one neighbor; that of a minimum visits all of them.
    nearest = jnp.take_along_axis(positions, jnp.argmin(sq_dist, axis=1)[..., None], axis=1)
    counted = jnp.any(found, axis=1)[:, None]
    distance = jnp.sum(jnp.square(nearest - points), axis=-1)
    total = jnp.sum(jnp.where(counted, distance, 0.0)) / extent**2
    return Ratio(total, _count(counted) * len(kernel_points))


def repulsion_loss(
    neighbors: Array,
    num_supports: int,
    *,
    kernel_points: Array,
    offsets: Array,
    extent: float,
) -> Ratio:
    """How far deformed kernel points intrude on each other, summed over the kernel.

    Arguments as in `deformable_kpconv`. Each query with a neighbor counts.

    Source: Thomas et al. 2019, eq. 8; mprm `models/KPFCNN_mprm.py`, regularization.
    """
    points = (kernel_points[None] + offsets) / extent
    # Each point flees the others, which stand still: the released code stops their gradient.
    sq_dist = pairwise_sq_dist(points, jax.lax.stop_gradient(points))
    near = (sq_dist < REPULSION_REACH**2) & ~jnp.eye(len(kernel_points), dtype=bool)[None]
    near &= sq_dist > 0
    dist = jnp.sqrt(jnp.where(near, sq_dist, REPULSION_REACH**2))
    intrusion = jnp.sum(jnp.square(REPULSION_REACH - dist), axis=(1, 2))
    counted = jnp.any(neighbors < num_supports, axis=1)
    return Ratio(jnp.sum(jnp.where(counted, intrusion, 0.0)), _count(counted))


def _count(counted: Array) -> Array:
    return jnp.sum(counted, dtype=jnp.float32)
