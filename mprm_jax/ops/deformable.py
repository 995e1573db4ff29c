"""Deformable kernel point convolution: each query moves its own copy of the kernel."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from mprm_jax.ops.kpconv import mix, pairwise_sq_dist, relative_positions, weigh_neighbors
from mprm_jax.ops.rows import gather_rows
from mprm_jax.types import Array, Ratio

REPULSION_REACH = 1.5  # extents; deformed points nearer than this repel (mprm KPFCNN_mprm.py)


def deformable_kpconv(
    queries: Float[Array, "M 3"],
    supports: Float[Array, "N 3"],
    neighbors: Int32[Array, "M H"],
    features: Float[Array, "N C"],
    *,
    kernel_points: Float[Array, "K 3"],
    offsets: Float[Array, "M K 3"],
    weights: Float[Array, "K C D"],
    extent: float,
    modulations: Float[Array, "M K"] | None = None,
) -> Float[Array, "M D"]:
    """Convolves packed clouds with a point kernel that every query has deformed.

    Args:
      queries: meters.
      supports: meters, same frame as `queries`.
      neighbors: into `supports`; N marks an empty slot.
      kernel_points: meters, relative to a query.
      offsets: meters, added to the kernel points.
      extent: meters; the influence of a kernel point falls linearly to 0 here.
      modulations: a factor of each kernel point.

    Returns:
      Of the type of the features; zero for a query with no neighbor.

    Source: Thomas et al. 2019, eqs. 4-5; mprm `kernels/convolution_ops.py`, KPConv_deform_ops.
    """
    positions = relative_positions(queries, supports, neighbors)
    points = kernel_points[None] + offsets
    gathered = weigh_neighbors(points, positions, features, neighbors, extent)
    if modulations is not None:
        gathered = gathered * modulations[..., None].astype(gathered.dtype)
    return mix(gathered, weights)


class Reach(NamedTuple):
    """What deformed kernels find in their lists."""

    neighbors: Int32[Array, "M W"]  # in reach of a kernel point, in order of the list
    nearest: Int32[Array, "M K"]  # neighbor of each kernel point; N where the list is empty
    num_reached: Int32[Array, " M"]  # in reach, also beyond the W-th


def find_reach(
    queries: Float[Array, "M 3"],
    supports: Float[Array, "N 3"],
    neighbors: Int32[Array, "M H"],
    *,
    kernel_points: Float[Array, "K 3"],
    offsets: Float[Array, "M K 3"],
    extent: float,
    width: int,
) -> Reach:
    """Looks at all neighbors once, so that the rest goes over the few that matter.

    Arguments as in `deformable_kpconv`. Has no gradient. Neighbors that are reached beyond the
    `width`-th are left out, but counted. `nearest` may confuse distances whose squares differ by
    one in 10 000, or less for lists of less than a thousand slots.

    Source: reading only neighbors in range follows KPConv (Thomas et al. 2019, released code).
    """
    points = jax.lax.stop_gradient(kernel_points[None] + offsets)
    num_slots = neighbors.shape[1]
    # Slots last: what XLA on CPUs vectorizes.
    sq_dist = pairwise_sq_dist(points, relative_positions(queries, supports, neighbors))
    slots = jnp.arange(num_slots, dtype=jnp.int32)
    reached = jnp.any(sq_dist < extent**2, axis=1)
    kept = jnp.sort(jnp.where(reached, slots[None], num_slots), axis=1)[:, :width]
    # Bits of positive floats order as integers. The slot in place of the lowest ones makes this a
    # plain minimum, which XLA on CPUs vectorizes; an argmin it does not.
    low = (1 << (num_slots - 1).bit_length()) - 1
    bits = jax.lax.bitcast_convert_type(sq_dist, jnp.int32)
    nearest = jnp.min((bits & ~low) | slots[None, None], axis=2) & low
    return Reach(
        neighbors=_slots_of(neighbors, kept, len(supports)),
        nearest=_slots_of(neighbors, nearest, len(supports)),
        num_reached=jnp.sum(reached, axis=1, dtype=jnp.int32),
    )


def _slots_of(
    neighbors: Int32[Array, "M H"], slots: Int32[Array, "M S"], shadow: int
) -> Int32[Array, "M S"]:
    """Neighbors at slots of each list; the shadow index past its end."""
    return jnp.take_along_axis(neighbors, slots, axis=1, mode="fill", fill_value=shadow)


def fitting_loss(
    queries: Float[Array, "M 3"],
    supports: Float[Array, "N 3"],
    nearest: Int32[Array, "M K"],
    *,
    kernel_points: Float[Array, "K 3"],
    offsets: Float[Array, "M K 3"],
    extent: float,
) -> Ratio:
    """Squared distance of deformed kernel points to their nearest neighbor, in extents.

    Args:
      nearest: into `supports`, see `find_reach`; N does not count.
      others: as in `deformable_kpconv`.

    Source: Thomas et al. 2019, eq. 7; mprm `models/KPFCNN_mprm.py`, regularization.
    """
    counted = nearest < len(supports)
    away = gather_rows(supports, nearest) - queries[:, None] - (kernel_points[None] + offsets)
    distance = jnp.sum(jnp.square(away), axis=-1)
    return Ratio(jnp.sum(jnp.where(counted, distance, 0.0)) / extent**2, _count(counted))


def repulsion_loss(
    neighbors: Int32[Array, "M H"],
    num_supports: int,
    *,
    kernel_points: Float[Array, "K 3"],
    offsets: Float[Array, "M K 3"],
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


def left_out(num_reached: Int32[Array, " M"], width: int) -> Ratio:
    """Share of the neighbors in reach that kernels do not read, because they read `width`."""
    return Ratio(_count(jnp.maximum(num_reached - width, 0)), _count(num_reached))


def _count(counted: Array) -> Array:
    return jnp.sum(counted, dtype=jnp.float32)
