"""Random motion in traced code: rigid up to scale and noise, and the cloud's own affair."""

import dataclasses

import jax
import numpy as np
import pytest

from mprm_jax.config import AugmentConfig
from mprm_jax.ops.motion import move

pytestmark = pytest.mark.slow

STILL = AugmentConfig(rotate=False, min_scale=1.0, max_scale=1.0, flip_x=False, noise=0.0)
NUM_CLOUDS, ROWS = 3, 64
CLOUDS = np.repeat([0, 1, 2, NUM_CLOUDS], [20, 30, 4, 10]).astype(np.int32)


@pytest.fixture
def points():
    return np.random.default_rng(0).uniform(-1, 1, (ROWS, 3)).astype(np.float32)


def moved(points, clouds=CLOUDS, seed=0, balls=(5, 6, 7), **settings):
    key = jax.random.key(seed)
    keys = jax.vmap(lambda ball: jax.random.fold_in(key, ball))(np.array(balls))
    (found,) = move((points,), (clouds,), keys, dataclasses.replace(STILL, **settings))
    return np.asarray(found)


def linear_part(before, after):
    """The matrix that moved some points."""
    return np.linalg.lstsq(before, after, rcond=None)[0]


def test_nothing_moves_without_motion(points):
    np.testing.assert_allclose(moved(points), points, atol=1e-7)


def test_rotation_turns_each_cloud_about_z_by_its_own_angle(points):
    after = moved(points, rotate=True)
    turns = [linear_part(points[c == CLOUDS], after[c == CLOUDS]) for c in range(NUM_CLOUDS)]
    for turn in turns:
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)
        np.testing.assert_allclose(turn[2], [0, 0, 1], atol=1e-5)
        assert np.linalg.det(turn) == pytest.approx(1, abs=1e-5)
    assert abs(turns[0] - turns[1]).max() > 1e-2


def test_scale_stretches_each_axis_within_the_limits(points):
    after = moved(points, min_scale=0.8, max_scale=1.3)
    stretch = linear_part(points[CLOUDS == 0], after[CLOUDS == 0])
    factors = np.diag(stretch)
    np.testing.assert_allclose(stretch, np.diag(factors), atol=1e-5)
    assert np.all((factors >= 0.8) & (factors <= 1.3)) and len(set(factors)) == 3


def test_about_half_of_the_clouds_are_mirrored(points):
    flips = [moved(points, seed=s, flip_x=True)[0, 0] * points[0, 0] < 0 for s in range(40)]
    assert 10 < sum(flips) < 30


def test_noise_has_the_deviation_asked_for(points):
    many = np.tile(points, (100, 1))
    noise = moved(many, np.zeros(len(many), np.int32), noise=0.05) - many
    assert noise.std() == pytest.approx(0.05, rel=0.03)
    assert abs(noise.mean()) < 0.002


def test_the_motion_of_a_cloud_depends_on_nothing_but_its_key(points):
    settings = {"rotate": True, "flip_x": True, "max_scale": 1.2, "noise": 0.01}
    together = moved(points, **settings)[20:50]
    alone = np.zeros((ROWS, 3), np.float32)
    alone[3:33] = points[20:50]  # as the second cloud, after one of three points
    clouds = np.repeat([0, 1, NUM_CLOUDS], [3, 30, 31]).astype(np.int32)
    again = moved(alone, clouds, balls=(9, 6, 9), **settings)[3:33]
    np.testing.assert_allclose(again, together, atol=1e-6)


def test_other_seeds_give_other_motions(points):
    assert abs(moved(points, rotate=True) - moved(points, seed=1, rotate=True)).max() > 0.1


def test_levels_move_as_one_and_only_the_first_has_noise(points):
    config = dataclasses.replace(STILL, rotate=True, noise=0.01)
    keys = jax.vmap(jax.random.key)(np.arange(3))
    fine, coarse = move((points, points[::2]), (CLOUDS, CLOUDS[::2]), keys, config)
    difference = np.abs(np.asarray(fine[::2] - coarse))[CLOUDS[::2] < NUM_CLOUDS]
    assert 0 < difference.max() < 0.1
