"""Random motion of a subcloud: what it keeps, what it may change, and by how much."""

import dataclasses

import numpy as np

from mprm_jax.config import AugmentConfig
from mprm_jax.geometry.augmentation import jitter, random_transform

STILL = AugmentConfig(rotate=False, min_scale=1.0, max_scale=1.0, flip_x=False, noise=0.0)
POINTS = np.random.default_rng(0).uniform(-2, 2, (50, 3)).astype(np.float32)


def transforms(config, num=200):
    rng = np.random.default_rng(1)
    return np.stack([random_transform(rng, config) for _ in range(num)])


def moved(**settings):
    return POINTS @ transforms(dataclasses.replace(STILL, **settings), 1)[0]


def test_rotation_about_z_leaves_heights_unchanged():
    np.testing.assert_array_equal(moved(rotate=True)[:, 2], POINTS[:, 2])


def test_rotation_about_z_leaves_distances_unchanged():
    def distances(points):
        return np.linalg.norm(points[:, None] - points[None], axis=-1)

    # float32 coordinates of a few meters
    np.testing.assert_allclose(distances(moved(rotate=True)), distances(POINTS), atol=1e-5)


def test_rotation_keeps_the_orientation():
    determinants = np.linalg.det(transforms(dataclasses.replace(STILL, rotate=True)))
    np.testing.assert_allclose(determinants, 1, atol=1e-6)  # float32 entries


def test_rotations_turn_in_every_direction():
    found = transforms(dataclasses.replace(STILL, rotate=True))
    quadrants = np.unique(np.sign(found[:, 0, :2]), axis=0)
    assert len(quadrants) == 4


def test_half_of_the_clouds_are_flipped_along_x():
    found = transforms(dataclasses.replace(STILL, flip_x=True))
    flipped = np.all(found == np.diag([-1, 1, 1])[None], axis=(1, 2))
    kept = np.all(found == np.eye(3)[None], axis=(1, 2))
    assert np.all(flipped | kept)
    assert 70 < flipped.sum() < 130  # 200 draws of a fair coin, four deviations


def test_scales_fill_their_range_on_every_axis():
    found = transforms(dataclasses.replace(STILL, min_scale=0.9, max_scale=1.1))
    scales = np.diagonal(found, axis1=1, axis2=2)
    assert np.all((scales >= np.float32(0.9)) & (scales <= np.float32(1.1)))
    assert np.all(scales.min(axis=0) < 0.91) and np.all(scales.max(axis=0) > 1.09)


def test_axes_are_scaled_independently():
    scale = np.diagonal(transforms(dataclasses.replace(STILL, min_scale=0.9, max_scale=1.1), 1)[0])
    assert len(set(scale.tolist())) == 3


def test_scale_follows_the_rotation():
    config = dataclasses.replace(STILL, rotate=True, min_scale=0.9, max_scale=1.1)
    matrix = transforms(config, 1)[0]
    # A rotation times a diagonal has orthogonal columns; the other order has orthogonal rows.
    gram = matrix.T @ matrix
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-6)


def test_noise_has_the_stated_deviation():
    points = np.zeros((20000, 3), np.float32)
    noise = jitter(points, np.random.default_rng(2), dataclasses.replace(STILL, noise=0.01))
    # 60000 draws: the deviation is known to 0.3 %.
    np.testing.assert_allclose([noise.std(), noise.mean()], [0.01, 0], atol=2e-4)


def test_no_motion_leaves_points_unchanged():
    still = jitter(POINTS @ transforms(STILL, 1)[0], np.random.default_rng(3), STILL)
    np.testing.assert_array_equal(still, POINTS)


def test_equal_generators_give_equal_motions():
    def move():
        rng = np.random.default_rng((4, 5))
        return jitter(POINTS @ random_transform(rng, AugmentConfig()), rng, AugmentConfig())

    np.testing.assert_array_equal(move(), move())


def test_points_stay_float32():
    assert jitter(moved(rotate=True), np.random.default_rng(6), AugmentConfig()).dtype == np.float32
