"""Moves the clouds of a bucket at random, as `geometry.augmentation` does on the host."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32, Key

from mprm_jax.config import AugmentConfig
from mprm_jax.types import Array


def move(
    levels: tuple[Float[Array, "_ 3"], ...],
    clouds: tuple[Int32[Array, " _"], ...],
    keys: Key[Array, " B"],
    config: AugmentConfig,
) -> tuple[Float[Array, "_ 3"], ...]:
    """Turns each cloud about z, scales it by axis with a possible flip of x, and adds noise.

    The motion of a cloud depends on its key alone, wherever the bucket has it. Levels move as one,
    but only the first has noise: coarser points are means, in which it is averaged out.

    Args:
      levels: points in meters, clouds end to end.
      clouds: of each level; B on padding.
      keys: of the clouds.

    Source: mprm `datasets/common.py`, tf_augment_input.
    """
    splits = jax.vmap(lambda key: jax.random.split(key, 2))(keys)
    transforms = jax.vmap(lambda key: _transform(key, config))(splits[:, 0])
    # The motion of padding does not matter.
    of_rows = [jnp.minimum(of, len(keys) - 1) for of in clouds]
    # Not a matrix product, which accelerators round to bfloat16 or TF32.
    points, *coarser = (
        jnp.sum(level[:, :, None] * transforms[of], axis=1)
        for level, of in zip(levels, of_rows, strict=True)
    )
    if config.noise > 0:
        rows = jnp.arange(len(points), dtype=jnp.int32)
        first = jax.ops.segment_min(rows, clouds[0], num_segments=len(keys))[of_rows[0]]
        noise = jax.vmap(_noise)(splits[:, 1][of_rows[0]], rows - first)
        points = points + jnp.float32(config.noise) * noise
    return (points, *coarser)


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
