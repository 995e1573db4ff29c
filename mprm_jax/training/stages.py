"""What a stage adds to the common training loop: a model, its inputs, its losses."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mprm_jax.config import Config
from mprm_jax.models.mprm import Mprm
from mprm_jax.ops.losses import multilabel_loss
from mprm_jax.types import Array, Batch, MprmOutput, Ratio


class Stage(NamedTuple):
    """A model and how the loop feeds and judges it."""

    model: nn.Module
    inputs: Callable[[Batch], tuple[Any, ...]]  # what the model reads of a bucket
    losses: Callable[[Any, Batch], dict[str, Ratio]]  # output, bucket -> terms, summed unweighted
    metrics: Callable[[Any, Batch], dict[str, Ratio]]  # output, bucket -> only watched
    scores: Callable[[Any, Batch], Array]  # variables, bucket -> class probabilities


def cls_stage(config: Config, num_classes: int) -> Stage:
    """The classification network with one multi-label loss per path (paper 4.2).

    Its scores are those of clouds, [B, num_classes].
    """
    model = Mprm(config.model, num_classes, config.data.voxel_size)

    def inputs(batch: Batch) -> tuple[Any, ...]:
        return batch.pyramid, batch.features, len(batch.real)

    def losses(output: MprmOutput, batch: Batch) -> dict[str, Ratio]:
        return {
            path: multilabel_loss(output.class_logits[i], batch.cloud_labels, batch.real)
            for i, path in enumerate(config.model.paths)
        }

    def scores(variables: Any, batch: Batch) -> Array:
        output = model.apply(variables, *inputs(batch), train=False)
        return jnp.mean(jax.nn.sigmoid(output.class_logits), axis=0)

    return Stage(model, inputs, losses, lambda *_: {}, scores)
