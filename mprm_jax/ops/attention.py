"""Attention inside one cloud: between its points, and between its channels.

One cloud per call; `jax.vmap` maps over the clouds of a bucket, so none sees another.
"""

import jax
import jax.numpy as jnp

from mprm_jax.types import Array


def spatial_attention(queries: Array, keys: Array, values: Array, mask: Array) -> Array:
    """Aggregates the values of all points of a cloud for each of them.

    Point j of the paper asks with B_j (`queries`), point i answers with C_i (`keys`).

    Args:
      queries, keys: [N, D].
      values: [N, C].
      mask: [N] bool, False on padding.

    Returns:
      [N, C], the sum of eq. 4; zero on padding.

    Source: Wei et al. 2020, eqs. 3-4.
    """
    energy = jnp.einsum("jd,id->ji", queries, keys)
    # A finite floor: with -inf a cloud without points would divide 0 by 0.
    energy = jnp.where(mask[None], energy, jnp.finfo(energy.dtype).min)
    weights = jax.nn.softmax(energy, axis=1)
    return jnp.where(mask[:, None], jnp.einsum("ji,ic->jc", weights, values), 0.0)


def channel_attention(features: Array, mask: Array) -> Array:
    """Aggregates for each channel of a cloud the channels most like it.

    Args:
      features: [N, C].
      mask: [N] bool, False on padding.

    Returns:
      [N, C], the sum of eq. 6; zero on padding.

    Source: Wei et al. 2020, eqs. 5-6.
    """
    features = jnp.where(mask[:, None], features, 0.0)
    # Eq. 5 sums over points; the mean keeps the softmax from saturating in large clouds. Its
    # printed denominator lacks the exp. The released code normalizes over j and inverts the
    # similarity (mprm network_blocks_mprm.py, channel_attention); we follow the paper.
    count = jnp.maximum(jnp.sum(mask), 1)
    energy = jnp.einsum("nj,ni->ji", features, features) / count
    weights = jax.nn.softmax(energy, axis=1)
    return jnp.einsum("ji,ni->nj", weights, features)
