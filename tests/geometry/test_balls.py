"""Ball seeds by the released rule, and the points inside a ball."""

import numpy as np
import pytest

from mprm_jax.geometry.balls import ball_rows, grid_seed_counts, grid_seeds, in_ball, scan_ball
from mprm_jax.geometry.neighbors import make_tree

RADIUS = 2.0
BOX = np.array([[-1.0, 2.0, 0.5], [4.5, 7.1, 2.9]])  # 5.5 x 5.1 x 2.4 m, the paper's mean room


def searched(coords, center, radius):
    return ball_rows(coords, make_tree(coords), center, radius)


both_ways = pytest.mark.parametrize("find", [searched, scan_ball])


def test_counts_follow_the_released_rule():
    assert grid_seed_counts(BOX, RADIUS).tolist() == [3, 3, 2]


def test_outer_seeds_lie_on_the_faces_of_the_box():
    seeds = grid_seeds(BOX, RADIUS, "ends")
    np.testing.assert_allclose([seeds.min(axis=0), seeds.max(axis=0)], BOX)


def test_seeds_are_equally_spaced():
    seeds = grid_seeds(BOX, RADIUS, "ends")
    np.testing.assert_allclose(np.unique(seeds[:, 0]), [-1.0, 1.75, 4.5])


def test_an_axis_shorter_than_the_radius_has_one_seed_at_its_minimum():
    low_room = np.array([[0, 0, 0.3], [5, 5, 2.2]])
    assert np.unique(grid_seeds(low_room, RADIUS, "ends")[:, 2]).tolist() == [0.3]


def test_an_axis_of_exactly_the_radius_has_two_seeds():
    room = np.array([[0, 0, 0], [2, 1, 1]])
    assert grid_seeds(room, RADIUS, "ends").tolist() == [[0, 0, 0], [2, 0, 0]]


def test_x_changes_slowest():
    seeds = grid_seeds(BOX, RADIUS, "ends")
    order = np.lexsort(seeds.T[::-1])
    np.testing.assert_array_equal(order, np.arange(len(seeds)))


def test_a_single_point_has_one_seed_where_it_is():
    assert grid_seeds(BOX[:1], RADIUS, "ends").tolist() == [BOX[0].tolist()]


def test_balls_at_cell_centers_cover_the_box():
    probes = np.random.default_rng(0).uniform(*BOX, size=(5000, 3))
    seeds = grid_seeds(BOX, RADIUS, "centres")
    dist = np.linalg.norm(probes[:, None] - seeds[None], axis=-1).min(axis=1)
    assert dist.max() < RADIUS


def test_both_placements_have_equally_many_seeds():
    assert len(grid_seeds(BOX, RADIUS, "ends")) == len(grid_seeds(BOX, RADIUS, "centres")) == 18


def test_unknown_placement_names_the_valid_ones():
    with pytest.raises(ValueError, match="choose ends or centres"):
        grid_seeds(BOX, RADIUS, "corners")


@both_ways
def test_ball_holds_exactly_the_points_closer_than_the_radius(find):
    coords = np.random.default_rng(1).uniform(*BOX, size=(2000, 3)).astype(np.float32)
    center = np.array([0.5, 4.0, 1.0], np.float32)
    dist = np.linalg.norm(coords - center[None], axis=1)
    rows = find(coords, center, RADIUS)
    np.testing.assert_array_equal(rows, np.flatnonzero(dist < RADIUS))


def test_a_point_at_the_surface_of_the_ball_is_out():
    offsets = np.array([[2, 0, 0], [0, -1.9999999, 0], [0, 0, 0]], np.float32)
    assert in_ball(offsets, RADIUS).tolist() == [False, True, True]


@both_ways
@pytest.mark.parametrize("far", [0.0, 1000.0])
def test_search_and_rule_agree_at_the_surface_of_the_ball(find, far):
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(2000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    center = np.full(3, far, np.float32)
    coords = (center[None] + RADIUS * directions).astype(np.float32)
    inside = in_ball(coords - center[None], RADIUS)
    rows = find(coords, center, RADIUS)
    np.testing.assert_array_equal(rows, np.flatnonzero(inside))


@both_ways
def test_a_ball_without_points_has_no_rows(find):
    coords = BOX.astype(np.float32)
    rows = find(coords, np.full(3, 50, np.float32), RADIUS)
    assert rows.shape == (0,)
    assert rows.dtype == np.int32


@both_ways
def test_a_radius_between_two_floats_loses_no_point(find):
    # The square of an offset just above such a radius may be rounded to below that of the radius.
    offsets = np.linspace(2.7, 2.7001, 200, dtype=np.float32)
    coords = np.stack([offsets, np.zeros_like(offsets), np.zeros_like(offsets)], axis=1)
    lost = 0
    for radius in offsets * (1 - np.float64(1e-8)):
        inside = in_ball(coords, radius)
        rows = find(coords, np.zeros(3, np.float32), radius)
        np.testing.assert_array_equal(rows, np.flatnonzero(inside))
        lost += np.any(inside & (offsets > radius))
    assert lost
