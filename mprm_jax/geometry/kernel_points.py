"""Where the points of a convolution kernel sit: one at the center, the others spread evenly."""

import functools

import numpy as np
from jaxtyping import Float32, Float64

from mprm_jax.errors import UserError
from mprm_jax.types import Array

KERNEL_RADIUS = 1.5  # of the outer kernel points, in units of the extent (KPConv-TF)
_ATTRACTION = 10.0  # strength of the pull to the center against the unit repulsion (KPConv-TF)
_STEP = 0.03  # stable for any number of points; 15 converge to rounding in the iterations
_NUM_ITERATIONS = 3000


@functools.cache
def unit_kernel(num_points: int) -> Float32[Array, "{num_points} 3"]:
    """Kernel points in a ball whose outer points have mean norm 1.

    The outer points descend the potential of KPConv, mutual repulsion 1/d and a quadratic pull to
    the center, from a fixed spiral: no random number is drawn, so a checkpoint meets the same
    kernel everywhere. 15 points end in a twisted bicapped hexagonal prism, as in the released code.

    Returns:
      The first point is at the origin.

    Source: Thomas et al. 2019, supplementary material; mprm `kernels/kernel_points.py`.
    """
    if num_points < 2:
        raise UserError(f"A kernel of {num_points} points has no shape; give 2 or more.")
    points = _spiral(num_points - 1)
    for _ in range(_NUM_ITERATIONS):
        points = points - _STEP * _gradient(points)
    points /= np.mean(np.linalg.norm(points, axis=1))
    kernel = np.concatenate([np.zeros((1, 3)), points]).astype(np.float32)
    kernel.setflags(write=False)  # all callers share it
    return kernel


def _spiral(num_points: int) -> Float64[Array, "{num_points} 3"]:
    """A golden-angle spiral on the sphere that includes both poles."""
    height = np.linspace(1.0, -1.0, num_points)
    angle = np.arange(num_points) * np.pi * (3.0 - np.sqrt(5.0))
    ring = np.sqrt(np.maximum(0.0, 1.0 - height**2))
    return 0.5 * np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)


def _gradient(points: Float64[Array, "K 3"]) -> Float64[Array, "K 3"]:
    """Gradient of the potential; the fixed center repels too."""
    others = np.concatenate([np.zeros((1, 3)), points])
    offsets = points[:, None] - others[None]
    distance = np.linalg.norm(offsets, axis=-1)
    np.fill_diagonal(distance[:, 1:], np.inf)
    repulsion = np.sum(offsets / distance[..., None] ** 3, axis=1)
    return _ATTRACTION * points - repulsion
