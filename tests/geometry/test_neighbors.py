"""Neighbor lists against distances to every point."""

import numpy as np
import pytest

from mprm_jax.geometry.neighbors import count_neighbors, make_tree, nearest, radius_neighbors

RADIUS = 0.3


@pytest.fixture
def points():
    return np.random.default_rng(0).uniform(size=(120, 3)).astype(np.float32)


@pytest.fixture
def queries():
    """The last one is far from every point."""
    near = np.random.default_rng(1).uniform(size=(40, 3))
    return np.concatenate([near, [[5, 5, 5]]]).astype(np.float32)


def distances(queries, points):
    return np.linalg.norm(queries[:, None].astype(np.float64) - points[None], axis=-1)


def lists(queries, points, width, radius=RADIUS):
    return radius_neighbors(queries, make_tree(points), radius, width)


def test_wide_lists_hold_exactly_the_points_within_the_radius(queries, points):
    found = lists(queries, points, len(points))
    for row, inside in zip(found, distances(queries, points) < RADIUS, strict=True):
        assert sorted(row[row < len(points)]) == np.flatnonzero(inside).tolist()


def test_lists_are_nearest_first(queries, points):
    padded = np.pad(distances(queries, points), ((0, 0), (0, 1)), constant_values=np.inf)
    along = np.take_along_axis(padded, lists(queries, points, len(points)), axis=1)
    assert all(np.all(row[:-1] <= row[1:]) for row in along)


def test_narrow_lists_cut_the_farthest(queries, points):
    wide = lists(queries, points, len(points))
    np.testing.assert_array_equal(lists(queries, points, 4), wide[:, :4])


def test_one_neighbor_is_still_a_list(queries, points):
    wide = lists(queries, points, len(points))
    np.testing.assert_array_equal(lists(queries, points, 1), wide[:, :1])


def test_lists_wider_than_the_cloud_end_in_the_shadow(points):
    found = lists(points[:2], points[:2], 5, radius=10.0)
    assert found.tolist() == [[0, 1, 2, 2, 2], [1, 0, 2, 2, 2]]


def test_query_far_from_all_points_gets_the_shadow(queries, points):
    assert set(lists(queries, points, 6)[-1]) == {len(points)}


def test_a_point_at_exactly_the_radius_is_out():
    points = np.array([[0, 0, 0], [0.5, 0, 0], [0.25, 0, 0]], np.float32)
    assert lists(points[:1], points, 3, radius=0.5).tolist() == [[0, 2, 3]]


def test_all_duplicates_are_found():
    points = np.zeros((5, 3), np.float32)
    assert [sorted(row) for row in lists(points, points, 5)] == [list(range(5))] * 5


def test_no_query_gives_no_list(points):
    assert lists(np.zeros((0, 3)), points, 4).shape == (0, 4)


def test_an_empty_cloud_is_all_shadow():
    assert lists(np.zeros((2, 3)), np.zeros((0, 3)), 3).tolist() == [[0, 0, 0]] * 2


def test_lists_are_int32(queries, points):
    assert lists(queries, points, 3).dtype == np.int32


def test_nearest_is_the_point_at_the_smallest_distance(queries, points):
    expected = distances(queries, points).argmin(axis=1)
    np.testing.assert_array_equal(nearest(queries, make_tree(points)), expected)


def test_counts_are_those_of_the_unbounded_lists(queries, points):
    expected = np.sum(distances(queries, points) < RADIUS, axis=1)
    np.testing.assert_array_equal(count_neighbors(queries, make_tree(points), RADIUS), expected)


def test_counts_leave_out_a_point_at_exactly_the_radius():
    points = np.array([[0, 0, 0], [0.5, 0, 0], [0.25, 0, 0]], np.float32)
    assert count_neighbors(points[:1], make_tree(points), 0.5).tolist() == [2]
