"""Kernel points: the released template, a balanced arrangement for every size, no randomness."""

import numpy as np
import pytest

from mprm_jax.geometry.kernel_points import unit_kernel

SIZES = (2, 3, 4, 9, 15, 19)


def released_template():
    """The 15 points of mprm `kernels/dispositions/k_015_center.ply`, up to a rotation."""
    angle = np.arange(6) * np.pi / 3
    ring = 0.89183 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    staggered = 0.89183 * np.stack([np.cos(angle + np.pi / 6), np.sin(angle + np.pi / 6)], axis=1)
    rings = np.concatenate([np.insert(ring, 2, 0.45575, 1), np.insert(staggered, 2, -0.45575, 1)])
    return np.concatenate([[[0, 0, 0], [0, 0, 0.99082], [0, 0, -0.99082]], rings])


def pair_distances(points):
    first, second = np.triu_indices(len(points), 1)
    return np.sort(np.linalg.norm(points[first] - points[second], axis=1))


def test_fifteen_points_are_the_released_template():
    # The template is known to five digits.
    expected = pair_distances(released_template())
    np.testing.assert_allclose(pair_distances(unit_kernel(15)), expected, atol=1e-4)


@pytest.mark.parametrize("num_points", SIZES)
def test_first_point_is_the_center(num_points):
    np.testing.assert_array_equal(unit_kernel(num_points)[0], 0)


@pytest.mark.parametrize("num_points", SIZES)
def test_outer_points_have_mean_norm_one(num_points):
    norms = np.linalg.norm(unit_kernel(num_points)[1:], axis=1)
    np.testing.assert_allclose(norms.mean(), 1, atol=1e-6)  # float32


@pytest.mark.parametrize("num_points", SIZES)
def test_no_outer_point_is_pushed_sideways(num_points):
    outer = unit_kernel(num_points)[1:].astype(np.float64)
    for i, point in enumerate(outer):
        offsets = point - np.delete(outer, i, axis=0)
        force = np.sum(offsets / np.linalg.norm(offsets, axis=1, keepdims=True) ** 3, axis=0)
        # Forces are of order 10; the points are float32.
        np.testing.assert_allclose(np.cross(force, point), 0, atol=1e-4)


def test_every_call_gives_the_same_array():
    first = unit_kernel(13)
    unit_kernel.cache_clear()
    np.testing.assert_array_equal(unit_kernel(13), first)


def test_a_caller_cannot_change_the_kernel_of_another():
    with pytest.raises(ValueError, match="read-only"):
        unit_kernel(15)[0] = 1


def test_a_single_point_is_refused():
    with pytest.raises(ValueError, match="give 2 or more"):
        unit_kernel(1)
