"""Covers: balls that leave no point out, of a size that fits."""

import numpy as np
import pytest

from mprm_jax.geometry.balls import cover, in_ball

RADIUS = 0.5


def cloud(num_points=600, seed=0):
    return np.random.default_rng(seed).uniform(0, 2, (num_points, 3)).astype(np.float32)


def cover_of(coords, max_points=1000, seed=0):
    return cover(coords, RADIUS, max_points, np.random.default_rng(seed))


def members(coords, found):
    """Rows of each ball, point by point."""
    balls = zip(found.centers, found.radii, strict=True)
    return [np.flatnonzero(in_ball(coords - center[None], radius)) for center, radius in balls]


@pytest.mark.parametrize("max_points", [1, 7, 1000])
def test_every_point_lies_in_a_ball(max_points):
    coords = cloud()
    rows = np.concatenate(members(coords, cover_of(coords, max_points)))
    assert set(rows) == set(range(len(coords)))


@pytest.mark.parametrize("max_points", [1, 7, 1000])
def test_balls_hold_as_many_points_as_they_say_and_no_more_than_fit(max_points):
    coords = cloud()
    found = cover_of(coords, max_points)
    sizes = [len(rows) for rows in members(coords, found)]
    assert found.num_points.tolist() == sizes
    assert min(sizes) >= 1 and max(sizes) <= max_points


def test_a_ball_is_made_no_smaller_than_it_must():
    """Points on a line, nearest first: seven fit, the eighth is where the ball ends."""
    coords = np.zeros((20, 3), np.float32)
    coords[:, 0] = 0.01 * np.arange(20)
    found = cover_of(coords, 7)
    assert max(found.num_points) == 7
    assert np.all(found.radii[found.num_points < 7] <= RADIUS)
    assert np.all(cover_of(coords).radii == RADIUS)


def test_points_at_equal_distance_stay_out_together():
    coords = np.concatenate([np.zeros((1, 3)), 0.3 * np.eye(3), -0.3 * np.eye(3)])
    found = cover_of(coords.astype(np.float32), 3)
    assert max(found.num_points) <= 3


def test_no_center_lies_in_an_earlier_ball():
    coords = cloud()
    found = cover_of(coords)
    for place in range(1, len(found.centers)):
        offsets = found.centers[:place] - found.centers[place][None]
        assert np.linalg.norm(offsets, axis=1).min() >= RADIUS


def test_equal_generators_give_equal_covers():
    for one, two in zip(cover_of(cloud()), cover_of(cloud()), strict=True):
        np.testing.assert_array_equal(one, two)


def test_covers_differ():
    assert not np.array_equal(cover_of(cloud()).centers[:3], cover_of(cloud(), seed=1).centers[:3])


def test_one_point_is_one_ball():
    found = cover_of(cloud(1))
    assert found.num_points.tolist() == [1] and found.centers.shape == (1, 3)


def test_of_some_points_only_those_are_covered():
    coords = cloud()
    wanted = coords[:, 0] < 0.7
    found = cover(coords, RADIUS, 1000, np.random.default_rng(0), wanted)
    rows = np.concatenate(members(coords, found))
    assert set(np.flatnonzero(wanted)) <= set(rows)
    assert np.all(found.centers[:, 0] < 0.7)
    assert found.num_points.tolist() == [len(ball) for ball in members(coords, found)]
