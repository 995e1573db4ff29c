"""The optimizer and its schedule (paper 5.2; mprm utils/trainer_mb.py)."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mprm_jax.config import Config
from mprm_jax.types import Array

# Parameter names, see mprm_jax.models.layers and paths. Norms, biases and gates do not decay:
# the released code decays the gates because their variable happens to be called "weights".
_DECAYED = ("weights", "kernel", "offset_weights")
_OFFSETS = ("offset_weights", "offset_bias")


def make_schedule(config: Config, steps_per_epoch: float) -> Callable[[Array], Array]:
    """Learning rate of a step: linear warm-up, then exponential decay or a cosine to 0.

    Source: exponential as in the paper, a tenth every `decay_epochs`.
    """
    optim, peak = config.optim, scaled_rate(config)
    total = optim.epochs * steps_per_epoch

    def rate(step: Array) -> Array:
        warm = jnp.minimum(1.0, (step + 1) / (optim.warmup_steps + 1))
        if optim.schedule == "cosine":
            decay = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(1.0, step / total)))
        else:
            decay = 10.0 ** (-step / (optim.decay_epochs * steps_per_epoch))
        return jnp.float32(peak) * warm * decay

    return rate


def scaled_rate(config: Config) -> float:
    """The learning rate for the size of a step.

    With `optim.base_buckets` not 0 it grows with `pyramid.buckets_per_step` over that number:
    in proportion for sgd (Goyal et al. 2017), with the square root for adamw (Malladi et al. 2022).
    """
    optim = config.optim
    if optim.base_buckets == 0:
        return optim.learning_rate
    times = config.pyramid.buckets_per_step / optim.base_buckets
    return optim.learning_rate * (times if optim.optimizer == "sgd" else math.sqrt(times))


def make_optimizer(config: Config, steps_per_epoch: float) -> optax.GradientTransformation:
    """SGD with coupled decay, or AdamW; both clip each variable and slow the offsets."""
    schedule, config = make_schedule(config, steps_per_epoch), config.optim
    if config.optimizer == "sgd":
        stages = [
            optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
            clip_each_variable(config.clip_norm),
            optax.trace(config.momentum),
        ]
    else:
        stages = [
            clip_each_variable(config.clip_norm),
            optax.scale_by_adam(),
            optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
        ]
    slow_offsets = optax.masked(optax.scale(config.offset_rate), offset_mask)
    return optax.chain(*stages, slow_offsets, optax.scale_by_learning_rate(schedule))


def clip_each_variable(max_norm: float) -> optax.GradientTransformation:
    """Scales each gradient whose own norm exceeds `max_norm` down to it."""

    def clip(gradient: Array) -> Array:
        norm = jnp.sqrt(jnp.sum(jnp.square(gradient)))
        return gradient * (max_norm / jnp.maximum(norm, max_norm))

    return optax.stateless(lambda updates, _: jax.tree.map(clip, updates))


def decay_mask(params: Any) -> Any:
    """True for the weights of convolutions and linear layers."""
    return _named(params, _DECAYED)


def offset_mask(params: Any) -> Any:
    """True for what predicts the offsets of deformable kernels."""
    return _named(params, _OFFSETS)


def _named(params: Any, names: tuple[str, ...]) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in names, params)
