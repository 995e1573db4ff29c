"""Attention inside each cloud of a bucket: between its points, and between its channels.

Both work on packed rows with a mask, so no cloud sees another, no cloud can be too large, and
nothing is gathered. A bucket's clouds are few, so that the pairs of rows masked out cost less than
the padding of a block per cloud would.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32

from mprm_jax.types import Array


def spatial_attention(
    queries: Float[Array, "T D"],
    keys: Float[Array, "T D"],
    values: Float[Array, "T C"],
    clouds: Int32[Array, " T"],
) -> Float[Array, "T C"]:
    """Aggregates for each point the values of all points of its cloud.

    Point j of the paper asks with B_j (`queries`), point i answers with C_i (`keys`).

    Args:
      clouds: cloud of the row. Padding counts as a cloud of its own.

    Returns:
      The sum of eq. 4; of no meaning on padding.

    Source: Wei et al. 2020, eqs. 3-4.
    """
    energy = jnp.einsum("jd,id->ji", queries, keys)
    together = clouds[:, None] == clouds[None]
    weights = jax.nn.softmax(jnp.where(together, energy, -jnp.inf), axis=1)
    return jnp.einsum("ji,ic->jc", weights, values)


def channel_attention(
    features: Float[Array, "T C"], clouds: Int32[Array, " T"], num_clouds: int
) -> Float[Array, "T C"]:
    """Aggregates for each channel of a cloud the channels most like it.

    Args:
      clouds: cloud of the row; `num_clouds` on padding.

    Returns:
      The sum of eq. 6; zero on padding.

    Source: Wei et al. 2020, eqs. 5-6.
    """
    # One cloud after the other: as a batch of products this takes twice the time on a CPU.
    return sum(_attend_channels(features, clouds == cloud) for cloud in range(num_clouds))


def _attend_channels(features: Float[Array, "T C"], mask: Bool[Array, " T"]) -> Float[Array, "T C"]:
    """The sum of eq. 6 for the rows of one cloud; zero elsewhere."""
    features = jnp.where(mask[:, None], features, 0.0)
    # Eq. 5 sums over points; the mean keeps the softmax from saturating in large clouds. Its
    # printed denominator lacks the exp. The released code normalizes over j and inverts the
    # similarity (mprm network_blocks_mprm.py, channel_attention); we follow the paper.
    energy = jnp.einsum("tj,ti->ji", features, features) / jnp.maximum(jnp.sum(mask), 1)
    weights = jax.nn.softmax(energy, axis=1)
    return jnp.einsum("ji,ti->tj", weights, features)
