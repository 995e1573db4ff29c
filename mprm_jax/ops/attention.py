"""Attention inside each cloud of a bucket: between its points, and between its channels.

Both go over blocks of rows of one cloud each (`cloud_blocks`): no cloud sees another, none can be
too large, and a cloud more costs its own pairs of rows and at most one block of padding.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from mprm_jax.ops.cloud_blocks import CloudBlocks, cloud_blocks
from mprm_jax.ops.pooling import cloud_sizes
from mprm_jax.ops.rows import gather_rows
from mprm_jax.types import Array

BLOCK_ROWS = 128
_LOWEST = -1e30  # below every energy; unlike of -inf, differences are finite


def spatial_attention(
    queries: Float[Array, "T D"],
    keys: Float[Array, "T D"],
    values: Float[Array, "T C"],
    clouds: Int32[Array, " T"],
    num_clouds: int,
    *,
    block_rows: int = BLOCK_ROWS,
) -> Float[Array, "T C"]:
    """Aggregates for each point the values of all points of its cloud.

    Point j of the paper asks with B_j (`queries`), point i answers with C_i (`keys`).

    Args:
      clouds: cloud of the row, in any order; `num_clouds` on padding.
      block_rows: rows of a block; nothing but time and memory depends on it.

    Returns:
      The sum of eq. 4; zero on padding.

    Source: Wei et al. 2020, eqs. 3-4. The running softmax over blocks and its gradient from the
    logarithm of the sums are those of Dao et al. 2022 (FlashAttention).
    """
    blocks = cloud_blocks(clouds, num_clouds, block_rows)
    found = _attend(*(blocks.spread(rows) for rows in (queries, keys, values)), blocks)
    return blocks.collect(found)


def channel_attention(
    features: Float[Array, "T C"],
    clouds: Int32[Array, " T"],
    num_clouds: int,
    *,
    block_rows: int = BLOCK_ROWS,
) -> Float[Array, "T C"]:
    """Aggregates for each channel of a cloud the channels most like it.

    Args:
      clouds: cloud of the row, in any order; `num_clouds` on padding.
      block_rows: rows of a block; nothing but time and memory depends on it.

    Returns:
      The sum of eq. 6; zero on padding.

    Source: Wei et al. 2020, eqs. 5-6.
    """
    blocks = cloud_blocks(clouds, num_clouds, block_rows)
    rows = blocks.spread(features)
    in_cloud = jnp.arange(num_clouds)[:, None] == blocks.clouds[None]
    sizes = jnp.maximum(cloud_sizes(clouds, num_clouds), 1.0)
    # Eq. 5 sums over points; the mean keeps the softmax from saturating in large clouds. Its
    # printed denominator lacks the exp. The released code normalizes over j and inverts the
    # similarity (mprm network_blocks_mprm.py, channel_attention); we follow the paper.
    of_blocks = jnp.einsum("gsj,gsi->gji", rows, rows)
    # A sum over the blocks of each cloud, of which accelerators must not round the terms.
    energy = jnp.einsum("bg,gji->bji", in_cloud, of_blocks, precision=jax.lax.Precision.HIGHEST)
    weights = jax.nn.softmax(energy / sizes[:, None, None], axis=2)
    return blocks.collect(jnp.einsum("gji,gsi->gsj", gather_rows(weights, blocks.clouds), rows))


@jax.custom_vjp
def _attend(
    queries: Float[Array, "G S D"],
    keys: Float[Array, "G S D"],
    values: Float[Array, "G S C"],
    blocks: CloudBlocks,
) -> Float[Array, "G S C"]:
    """Attention of every block to all blocks of its cloud."""
    return _attend_forward(queries, keys, values, blocks)[0]


def _attend_forward(
    queries: Array, keys: Array, values: Array, blocks: CloudBlocks
) -> tuple[Array, tuple[Any, ...]]:
    def look(turn: Array, found: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        largest, total, sums = found
        energy, seen = _energies(queries, keys, blocks, turn)
        reached = jnp.maximum(largest, jnp.max(energy, axis=2))
        weights = jnp.where(seen, jnp.exp(energy - reached[..., None]), 0.0)
        fade = jnp.exp(largest - reached)
        more = jnp.einsum("gst,gtc->gsc", weights, values[_others(blocks, turn)])
        return reached, total * fade + jnp.sum(weights, axis=2), sums * fade[..., None] + more

    lowest = jnp.full_like(queries[..., 0], _LOWEST)
    none = lowest, jnp.zeros_like(lowest), jnp.zeros_like(values)
    largest, total, sums = jax.lax.fori_loop(1, _turns(blocks), look, look(jnp.int32(0), none))
    total = jnp.where(total > 0, total, 1.0)
    result = sums / total[..., None]
    return result, (queries, keys, values, blocks, result, largest + jnp.log(total))


def _attend_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array, Array, Array, None]:
    queries, keys, values, blocks, result, log_total = saved
    mean = jnp.sum(grad * result, axis=2)

    def look(turn: Array, found: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        for_queries, for_keys, for_values = found
        others, back = _others(blocks, turn), _others(blocks, -turn)
        energy, seen = _energies(queries, keys, blocks, turn)
        weights = jnp.where(seen, jnp.exp(energy - log_total[..., None]), 0.0)
        of_value = jnp.einsum("gsc,gtc->gst", grad, values[others])
        of_energy = weights * (of_value - mean[..., None])
        # Every block sees one other at a turn, and one other sees it: nothing adds up.
        of_keys = jnp.einsum("gst,gsd->gtd", of_energy, queries)[back]
        of_values = jnp.einsum("gst,gsc->gtc", weights, grad)[back]
        of_queries = jnp.einsum("gst,gtd->gsd", of_energy, keys[others])
        return for_queries + of_queries, for_keys + of_keys, for_values + of_values

    none = jnp.zeros_like(queries), jnp.zeros_like(keys), jnp.zeros_like(values)
    found = jax.lax.fori_loop(1, _turns(blocks), look, look(jnp.int32(0), none))
    return *found, None


_attend.defvjp(_attend_forward, _attend_backward)


def _turns(blocks: CloudBlocks) -> Int32[Array, ""]:
    """As many as the largest cloud has blocks."""
    return jnp.max(blocks.counts)


def _others(blocks: CloudBlocks, turn: Int32[Array, ""]) -> Int32[Array, " G"]:
    """The block of its cloud that each block sees at a turn: itself first, then those after it."""
    own = jnp.arange(len(blocks.first), dtype=jnp.int32)
    return blocks.first + (own - blocks.first + turn) % jnp.maximum(blocks.counts, 1)


def _energies(
    queries: Array, keys: Array, blocks: CloudBlocks, turn: Int32[Array, ""]
) -> tuple[Float[Array, "G S S"], Array]:
    """Of each block and the one it sees at a turn, and which of them count."""
    others = _others(blocks, turn)
    energy = jnp.einsum("gsd,gtd->gst", queries, keys[others])
    seen = blocks.filled[others] & (turn < blocks.counts)[:, None]
    return jnp.where(seen[:, None], energy, _LOWEST), seen[:, None]
