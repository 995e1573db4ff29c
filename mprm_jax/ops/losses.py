"""Losses of the class tags of a cloud."""

import jax.numpy as jnp
import optax

from mprm_jax.types import Array, Ratio


def multilabel_loss(logits: Array, labels: Array, real: Array) -> Ratio:
    """Sigmoid cross-entropy, to be averaged over clouds and classes.

    Args:
      logits: [B, num_classes].
      labels: [B, num_classes] bool, class present in the cloud.
      real: [B] bool, False for a cloud that only fills the bucket.

    Source: Wei et al. 2020, 4.1.
    """
    losses = optax.losses.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype))
    total = jnp.sum(jnp.where(real[:, None], losses, 0.0))
    return Ratio(total, jnp.sum(real, dtype=jnp.float32) * logits.shape[1])
