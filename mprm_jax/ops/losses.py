"""Losses: class tags of clouds, and labels of points."""

import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int32

from mprm_jax.ops.rows import gather_rows
from mprm_jax.types import IGNORED, Array, Ratio


def multilabel_loss(
    logits: Float[Array, "B num_classes"],
    labels: Bool[Array, "B num_classes"],
    real: Bool[Array, " B"],
) -> Ratio:
    """Sigmoid cross-entropy, to be averaged over clouds and classes.

    Args:
      labels: class present in the cloud.
      real: False for a cloud that only fills the bucket.

    Source: Wei et al. 2020, 4.1.
    """
    losses = optax.losses.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype))
    total = jnp.sum(jnp.where(real[:, None], losses, 0.0))
    return Ratio(total, jnp.sum(real, dtype=jnp.float32) * logits.shape[1])


def point_loss(
    logits: Float[Array, "T C"], labels: Int32[Array, " T"], weights: Float[Array, " C"]
) -> Ratio:
    """Softmax cross-entropy, to be averaged over labeled points.

    Args:
      labels: IGNORED carries no loss.
      weights: of each point by its label; all 1 gives the plain mean.

    Source: mprm `models/network_blocks_original.py`, segmentation_loss.
    """
    labeled = labels != IGNORED
    safe = jnp.where(labeled, labels, 0)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, safe)
    shares = jnp.where(labeled, gather_rows(weights, safe), 0.0)
    return Ratio(jnp.sum(shares * jnp.where(labeled, losses, 0.0)), jnp.sum(shares))


def point_accuracy(logits: Float[Array, "T C"], labels: Int32[Array, " T"]) -> Ratio:
    """Share of labeled points whose highest logit is that of their label; as of `point_loss`."""
    labeled = labels != IGNORED
    hits = labeled & (jnp.argmax(logits, axis=-1) == labels)
    return Ratio(jnp.sum(hits, dtype=jnp.float32), jnp.sum(labeled, dtype=jnp.float32))
