"""What a stage adds to the common training loop: a model, its losses, its scores."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mprm_jax.config import Config
from mprm_jax.models.mprm import Mprm
from mprm_jax.models.unet import UNet
from mprm_jax.ops.losses import lovasz_loss, multilabel_loss, point_accuracy, point_loss
from mprm_jax.types import DATA_AXIS, Array, Batch, MprmOutput, Ratio


class Stage(NamedTuple):
    """A model and how the loop judges it."""

    model: nn.Module
    losses: Callable[[Any, Batch], dict[str, Ratio]]  # output, bucket -> terms, summed unweighted
    metrics: Callable[[Any, Batch], dict[str, Ratio]]  # output, bucket -> only watched
    scores: Callable[[Any, Batch], Array]  # variables, bucket -> class probabilities


def make_stage(name: str, config: Config, num_classes: int) -> Stage:
    """The stage "cls" or "seg" of a trained network; the loss of "seg" weighs classes alike."""
    return {"cls": cls_stage, "seg": seg_stage}[name](config, num_classes)


def cls_stage(config: Config, num_classes: int) -> Stage:
    """The classification network with one multi-label loss per path (paper 4.2).

    Its scores are those of clouds, [B, num_classes].
    """
    model = Mprm(num_classes, config.model, config.data.voxel_size, DATA_AXIS)

    def losses(output: MprmOutput, batch: Batch) -> dict[str, Ratio]:
        return {
            path: multilabel_loss(output.class_logits[i], batch.cloud_labels, batch.pyramid.real)
            for i, path in enumerate(config.model.paths)
        }

    def scores(variables: Any, batch: Batch) -> Array:
        output = model.apply(variables, batch.pyramid, batch.features)
        return jnp.mean(jax.nn.sigmoid(output.class_logits), axis=0)

    return Stage(model, losses, lambda *_: {}, scores)


def seg_stage(
    config: Config, num_classes: int, class_weights: tuple[float, ...] | None = None
) -> Stage:
    """The segmentation network with one loss over labeled points (paper 5.2).

    Its scores are those of rows, [T_0, num_classes].

    Args:
      class_weights: of a point by its label; all alike if None.
    """
    model = UNet(num_classes, config.model, config.data.voxel_size, DATA_AXIS)
    weights = np.array(class_weights or [1.0] * num_classes, np.float32)

    def losses(logits: Array, batch: Batch) -> dict[str, Ratio]:
        terms = {"points": point_loss(logits, batch.point_labels, weights)}
        if weight := config.seg.lovasz:
            pyramid = batch.pyramid
            overlap = lovasz_loss(logits, batch.point_labels, pyramid.clouds[0], pyramid.num_clouds)
            terms["lovasz"] = overlap._replace(total=weight * overlap.total)
        return terms

    def metrics(logits: Array, batch: Batch) -> dict[str, Ratio]:
        return {"accuracy": point_accuracy(logits, batch.point_labels)}

    def scores(variables: Any, batch: Batch) -> Array:
        return jax.nn.softmax(model.apply(variables, batch.pyramid, batch.features))

    return Stage(model, losses, metrics, scores)
