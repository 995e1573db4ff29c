"""Tiles: each point is one tile's own, and a tile holds all that is near its own points."""

import numpy as np
import pytest

from mprm_jax.geometry.tiles import tiles

MARGIN = 0.7


def cloud(num_points=800, seed=0):
    size = np.array([9.0, 4.0, 2.0])
    return np.random.default_rng(seed).uniform(-1, 1, (num_points, 3)).astype(np.float32) * size


@pytest.mark.parametrize("max_points", [1, 60, 800])
def test_each_point_is_the_own_of_one_tile(max_points):
    own = np.concatenate([t.rows[t.core] for t in tiles(cloud(), max_points, MARGIN)])
    assert sorted(own) == list(range(800))


@pytest.mark.parametrize("max_points", [1, 60, 800])
def test_no_tile_has_more_own_points_than_allowed(max_points):
    sizes = [t.core.sum() for t in tiles(cloud(), max_points, MARGIN)]
    assert max(sizes) <= max_points and min(sizes) > 0.4 * min(max_points, max(sizes))


def test_everything_closer_than_the_margin_is_in_the_tile():
    coords = cloud()
    for tile in tiles(coords, 60, MARGIN):
        own = coords[tile.rows[tile.core]]
        distance = np.linalg.norm(coords[:, None] - own[None], axis=2).min(axis=1)
        assert set(np.flatnonzero(distance < MARGIN)) <= set(tile.rows)


def test_a_margin_is_no_wider_than_it_must_be():
    coords = cloud()
    for tile in tiles(coords, 60, MARGIN):
        low, high = (f(coords[tile.rows[tile.core], :2], axis=0) for f in (np.min, np.max))
        beyond = np.maximum(low - coords[tile.rows, :2], coords[tile.rows, :2] - high)
        assert beyond.max() < MARGIN + 0.01


def test_a_small_cloud_is_one_tile():
    (tile,) = tiles(cloud(), 800, MARGIN)
    np.testing.assert_array_equal(tile.rows, np.arange(800))
    assert tile.core.all()


def test_points_above_each_other_stay_together():
    coords = np.zeros((50, 3), np.float32)
    coords[:, 2] = np.arange(50)
    assert [t.core.sum() for t in tiles(coords, 10, MARGIN)] == [50]


def test_most_points_at_one_place_do_not_stop_the_halving():
    coords = np.zeros((100, 3), np.float32)
    coords[60:, 0] = np.arange(1, 41)
    assert [t.core.sum() for t in tiles(coords, 20, MARGIN)] == [60, 20, 20]
