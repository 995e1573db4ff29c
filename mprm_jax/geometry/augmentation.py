"""Draws the random motion of a ball during training."""

import numpy as np
from jaxtyping import Float32

from mprm_jax.config import AugmentConfig
from mprm_jax.types import Array


def random_transform(rng: np.random.Generator, config: AugmentConfig) -> Float32[Array, "3 3"]:
    """Rotation about z, then anisotropic scale with a possible flip of x, as a matrix.

    Rows of points are multiplied from the left: `points @ transform`.

    Source: mprm `datasets/common.py`, tf_augment_input.
    """
    angle = rng.uniform(0.0, 2.0 * np.pi) if config.rotate else 0.0
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    scale = rng.uniform(config.min_scale, config.max_scale, size=3)
    if config.flip_x and rng.uniform() < 0.5:
        scale[0] = -scale[0]
    return (rotation * scale[None]).astype(np.float32)


def jitter(
    points: Float32[Array, "N 3"], rng: np.random.Generator, config: AugmentConfig
) -> Float32[Array, "N 3"]:
    """Points moved by Gaussian noise of `config.noise` meters per coordinate."""
    if config.noise == 0:
        return points
    noise = rng.standard_normal(points.shape, np.float32)
    return points + np.float32(config.noise) * noise
