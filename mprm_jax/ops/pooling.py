"""Pooling between levels and over clouds, and upsampling to the next finer level."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int, Int32

from mprm_jax.ops.rows import gather_rows
from mprm_jax.types import Array

_SLOTS = 4  # of a list, looked at together


@jax.custom_vjp
def neighbor_max(features: Float[Array, "N C"], pools: Int32[Array, "M P"]) -> Float[Array, "M C"]:
    """Takes the maximum of each channel over a list of rows.

    Where rows share the maximum, the gradient goes to the first of the list.

    Args:
      pools: into `features`, P >= 1; N marks an empty slot, which never wins.

    Returns:
      Zero where a list is empty.
    """
    return _filled(_largest(features, pools)[0])


def cloud_mean(
    scores: Float[Array, "T C"], clouds: Int32[Array, " T"], num_clouds: int
) -> Float[Array, "{num_clouds} C"]:
    """Averages the rows of each cloud.

    Args:
      clouds: in [0, num_clouds]; num_clouds marks padding.

    Returns:
      Zero for a cloud with no rows.
    """
    totals = jax.ops.segment_sum(scores, clouds, num_clouds)
    return totals / jnp.maximum(cloud_sizes(clouds, num_clouds), 1.0)[:, None]


def cloud_log_mean_exp(
    scores: Float[Array, "T C"], clouds: Int32[Array, " T"], num_clouds: int, sharpness: float
) -> Float[Array, "{num_clouds} C"]:
    """Computes `log(mean(exp(sharpness * scores))) / sharpness` over the rows of each cloud.

    It lies between the mean (sharpness to 0) and the maximum (sharpness to infinity).

    Args:
      clouds: in [0, num_clouds]; num_clouds marks padding.

    Returns:
      Zero for a cloud with no rows.

    Source: Pinheiro and Collobert 2015, eq. 2.
    """
    filled = (cloud_sizes(clouds, num_clouds) > 0)[:, None]
    largest = jax.ops.segment_max(jax.lax.stop_gradient(scores), clouds, num_clouds)
    largest = jnp.where(filled, largest, 0.0)
    shifted = scores - gather_rows(largest, clouds)
    # The sums drop padding, but an overflow there would still make the gradient NaN.
    shifted = jnp.where((clouds < num_clouds)[:, None], shifted, 0.0)
    mean = cloud_mean(jnp.exp(sharpness * shifted), clouds, num_clouds)
    return jnp.where(filled, largest + jnp.log(jnp.where(filled, mean, 1.0)) / sharpness, 0.0)


def cloud_sizes(clouds: Int32[Array, " T"], num_clouds: int) -> Float32[Array, " {num_clouds}"]:
    """Number of rows of each cloud."""
    return jax.ops.segment_sum(jnp.ones(clouds.shape), clouds, num_clouds)


def nearest_upsample(
    features: Float[Array, "N C"], upsamples: Int32[Array, " M"]
) -> Float[Array, "M C"]:
    """Copies to each fine row the features of its nearest coarse row.

    Args:
      features: of the coarse level.
      upsamples: into `features`; N marks padding, which gets zero.
    """
    return gather_rows(features, upsamples)


def _largest(
    features: Float[Array, "N C"], pools: Int32[Array, "M P"]
) -> tuple[Float[Array, "M C"], Int[Array, "M C"]]:
    """The maxima, -inf where a list is empty, and the slots that they are in."""
    lists, num_slots = pools.T, pools.shape[1]
    # Of one byte where that holds them: they are read and written as often as the maxima.
    slot_type = jnp.int8 if num_slots <= jnp.iinfo(jnp.int8).max else jnp.int32

    def look(best: tuple[Array, Array], rows: Array, first: Array) -> tuple[Array, Array]:
        largest, winners = best
        for number, slot in enumerate(rows):
            values = gather_rows(features, slot, fill=-jnp.inf)
            wins = values > largest
            largest = jnp.where(wins, values, largest)
            winners = jnp.where(wins, (first + number).astype(slot_type), winners)
        return largest, winners

    # A few slots at a time: all of them at once take P times the memory, and on a CPU several times
    # as long; one at a time reads and writes the maxima as often as the features.
    lowest = jnp.full_like(features, -jnp.inf, shape=(len(pools), features.shape[1]))
    best = look((lowest, jnp.zeros(lowest.shape, slot_type)), lists[:_SLOTS], jnp.int32(0))
    firsts = jnp.arange(_SLOTS, num_slots - _SLOTS + 1, _SLOTS, dtype=jnp.int32)
    end = _SLOTS * (len(firsts) + 1)
    chunks = lists[_SLOTS:end].reshape(len(firsts), _SLOTS, len(pools))
    best, _ = jax.lax.scan(lambda best, chunk: (look(best, *chunk), None), best, (chunks, firsts))
    return look(best, lists[end:], jnp.int32(end))


def _filled(largest: Float[Array, "M C"]) -> Float[Array, "M C"]:
    # By value, so that without a gradient nobody needs the slots.
    return jnp.where(jnp.isneginf(largest), 0.0, largest)


def _neighbor_max_forward(features: Array, pools: Array) -> tuple[Array, tuple[Array, ...]]:
    largest, winners = _largest(features, pools)
    return _filled(largest), (winners, pools, features)


def _neighbor_max_backward(saved: tuple[Array, ...], grad: Array) -> tuple[Array, None]:
    winners, pools, features = saved
    # Of an empty list the shadow index, which drops what is added to it.
    rows = jnp.take_along_axis(pools, winners.astype(jnp.int32), axis=1)
    sums = jnp.zeros(features.shape, jnp.float32)
    sums = sums.at[rows, jnp.arange(features.shape[1])[None]].add(grad, mode="drop")
    return sums.astype(grad.dtype), None


neighbor_max.defvjp(_neighbor_max_forward, _neighbor_max_backward)
