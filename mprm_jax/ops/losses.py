"""Losses: class tags of clouds, and labels of points."""

import jax
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


def lovasz_loss(
    logits: Float[Array, "T C"],
    labels: Int32[Array, " T"],
    clouds: Int32[Array, " T"],
    num_clouds: int,
) -> Ratio:
    """Lovász-softmax, a surrogate of 1 - IoU, to be averaged over clouds with a labeled point.

    The loss of a cloud is the mean over the classes that its labels have. Other clouds of a bucket
    do not change it.

    Args:
      labels: IGNORED carries no loss.
      clouds: in any order; `num_clouds` on padding.

    Source: Berman et al. 2018; their `pytorch/lovasz_losses.py`, lovasz_softmax with
    per_image=True and classes="present".
    """
    labeled = (labels != IGNORED) & (clouds < num_clouds)
    places = jnp.where(labeled, clouds, num_clouds)
    truth = labels[:, None] == jnp.arange(logits.shape[1])[None]
    shares = jax.nn.softmax(logits)
    errors = jnp.where(truth, 1.0 - shares, shares)
    counts = jax.ops.segment_sum(truth.astype(jnp.int32), places, num_clouds)
    weights, order = _lovasz_weights(jax.lax.stop_gradient(errors), truth, places, counts)
    ranked = jnp.take_along_axis(jnp.where(labeled[:, None], errors, 0.0), order, axis=0)
    num_labeled = jnp.sum(jnp.any(counts > 0, axis=1), dtype=jnp.float32)
    return Ratio(jnp.sum(weights * ranked), num_labeled)


def point_accuracy(logits: Float[Array, "T C"], labels: Int32[Array, " T"]) -> Ratio:
    """Share of labeled points whose highest logit is that of their label; as of `point_loss`."""
    labeled = labels != IGNORED
    hits = labeled & (jnp.argmax(logits, axis=-1) == labels)
    return Ratio(jnp.sum(hits, dtype=jnp.float32), jnp.sum(labeled, dtype=jnp.float32))


def _lovasz_weights(
    errors: Float[Array, "T C"],
    truth: Bool[Array, "T C"],
    clouds: Int32[Array, " T"],
    counts: Int32[Array, "B C"],
) -> tuple[Float[Array, "T C"], Int32[Array, "T C"]]:
    """Weights of the errors in a cloud's loss: how much each lets the Jaccard loss grow.

    Args:
      truth: the row is of the class.
      clouds: B on rows that do not count.
      counts: rows of each class in each cloud.

    Returns:
      The weights by class in the order of (cloud, error), the largest errors first; and that order,
      as rows.
    """
    rows = jnp.broadcast_to(jnp.arange(len(errors), dtype=jnp.int32)[:, None], errors.shape)
    keys = jnp.broadcast_to(clouds[:, None], errors.shape), -errors
    # The row is a key as well: that is as reproducible as a stable sort, and a third faster.
    *_, order = jax.lax.sort((*keys, rows), dimension=0, num_keys=3, is_stable=False)
    hit = jnp.take_along_axis(truth, order, axis=0)
    ranked = jnp.sort(clouds)  # clouds of the ordered rows, the same for every class
    in_cloud = gather_rows(counts, ranked)
    before = gather_rows(jnp.cumsum(counts, axis=0) - counts, ranked)
    # The labels of a cloud add up to its rows: where it starts is the sum of those before.
    rank = rows + 1 - jnp.sum(before, axis=1, keepdims=True)
    left = in_cloud - (jnp.cumsum(hit, axis=0) - before)  # rows of the class still to come
    union = jnp.maximum(rank + left, 1)
    # Differences of the Jaccard loss from row to row, in closed form: float32 would lose them.
    of_others = left / (union * jnp.maximum(union - 1, 1).astype(jnp.float32))
    slopes = jnp.where(hit, 1.0 / union, of_others)
    num_present = jnp.sum(in_cloud > 0, axis=1, keepdims=True)
    return jnp.where(in_cloud > 0, slopes / jnp.maximum(num_present, 1), 0.0), order
