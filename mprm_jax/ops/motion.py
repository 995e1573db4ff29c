"""Moves the clouds of a bucket at random, as `geometry.augmentation` does on the host."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32, Key

from mprm_jax.config import AugmentConfig
from mprm_jax.types import Array


def move(
    points: Float[Array, "T 3"],
    clouds: Int32[Array, " T"],
    keys: Key[Array, " B"],
    config: AugmentConfig,
) -> Float[Array, "T 3"]:
    """Turns each cloud about z, scales it by axis with a possible flip of x, and adds noise.

    The motion of a cloud depends on its key alone, wherever the bucket has it.

    Args:
      points: meters, clouds end to end.
      clouds: B on padding.
      keys: of the clouds.

    Source: mprm `datasets/common.py`, tf_augment_input.
    """
    splits = jax.vmap(lambda key: jax.random.split(key, 2))(keys)
    cloud = jnp.minimum(clouds, len(keys) - 1)  # the motion of padding does not matter
    transforms = jax.vmap(lambda key: _transform(key, config))(splits[:, 0])[cloud]
    # Not a matrix product, which accelerators round to bfloat16 or TF32.
    points = jnp.sum(points[:, :, None] * transforms, axis=1)
    if config.noise == 0:
        return points
    rows = jnp.arange(len(points), dtype=jnp.int32)
    first = jax.ops.segment_min(rows, clouds, num_segments=len(keys))[cloud]
    noise = jax.vmap(_noise)(splits[:, 1][cloud], rows - first)
    return points + jnp.float32(config.noise) * noise


def _transform(key: Key[Array, ""], config: AugmentConfig) -> Float[Array, "3 3"]:
    """Rotation, then scale, as a matrix that rows of points are multiplied with."""
    turn, stretch, mirror = jax.random.split(key, 3)
    angle = jax.random.uniform(turn, maxval=2 * jnp.pi) if config.rotate else 0.0
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotation = jnp.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    scale = jax.random.uniform(stretch, (3,), minval=config.min_scale, maxval=config.max_scale)
    if config.flip_x:
        scale = scale.at[0].multiply(jnp.where(jax.random.bernoulli(mirror), -1.0, 1.0))
    return rotation * scale[None]


def _noise(key: Key[Array, ""], row: Int32[Array, ""]) -> Float[Array, "3"]:
    return jax.random.normal(jax.random.fold_in(key, row), (3,))
