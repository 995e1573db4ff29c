"""Voxels: barycenters and majority labels against loops over cells."""

import collections

import numpy as np
import pytest

from mprm_jax.geometry.voxels import voxel_grid, voxel_majority, voxel_means

SIZE = 0.25
NUM_CLASSES = 4


def cells_of(coords):
    """Rows of each occupied cell, cells in lexicographic order."""
    rows = collections.defaultdict(list)
    for row, point in enumerate(np.asarray(coords, np.float64)):
        rows[tuple(np.floor(point / SIZE).astype(int))].append(row)
    return [rows[cell] for cell in sorted(rows)]


@pytest.fixture
def coords():
    """About five points per cell, on both sides of the origin."""
    return np.random.default_rng(0).uniform(-0.5, 0.6, (400, 3)).astype(np.float32)


def majority(labels, coords=None):
    coords = np.zeros((len(labels), 3)) if coords is None else coords
    return voxel_majority(np.array(labels), voxel_grid(coords, SIZE), NUM_CLASSES).tolist()


def test_voxels_are_the_occupied_cells_in_lexicographic_order(coords):
    grid = voxel_grid(coords, SIZE)
    for voxel, rows in enumerate(cells_of(coords)):
        np.testing.assert_array_equal(np.flatnonzero(grid.inverse == voxel), rows)


def test_counts_are_the_points_of_each_voxel(coords):
    expected = [len(rows) for rows in cells_of(coords)]
    np.testing.assert_array_equal(voxel_grid(coords, SIZE).counts, expected)


def test_means_match_the_naive_loop(coords):
    expected = [coords[rows].mean(axis=0, dtype=np.float64) for rows in cells_of(coords)]
    means = voxel_means(coords, voxel_grid(coords, SIZE))
    np.testing.assert_allclose(means, expected, atol=1e-12)  # float64 sums of a few points


def test_means_are_of_any_point_values(coords):
    colors = np.random.default_rng(1).integers(0, 256, (len(coords), 2), np.uint8)
    expected = [colors[rows].mean(axis=0) for rows in cells_of(coords)]
    np.testing.assert_allclose(voxel_means(colors, voxel_grid(coords, SIZE)), expected)


def test_majority_matches_the_naive_loop(coords):
    labels = np.random.default_rng(2).integers(-1, NUM_CLASSES, len(coords))
    expected = []
    for rows in cells_of(coords):
        votes = [np.sum(labels[rows] == label) for label in range(-1, NUM_CLASSES)]
        expected.append(votes.index(max(votes)) - 1)
    assert majority(labels, coords) == expected


def test_the_largest_id_does_not_win_over_the_majority():
    assert majority([1, 1, 3]) == [1]


def test_ties_go_to_the_smallest_id():
    assert majority([3, 1, 3, 1, 2]) == [1]


def test_unannotated_points_vote_like_a_class():
    assert majority([-1, -1, 3]) == [-1]


def test_cells_do_not_move_with_the_cloud():
    grid = voxel_grid(np.array([[-0.01, 0, 0], [0.01, 0, 0], [0.24, 0, 0]]), SIZE)
    assert grid.inverse.tolist() == [0, 1, 1]


def test_empty_cloud_has_no_voxels():
    grid = voxel_grid(np.zeros((0, 3)), SIZE)
    assert voxel_means(np.zeros((0, 3)), grid).shape == (0, 3)
    assert voxel_majority(np.zeros(0, int), grid, NUM_CLASSES).shape == (0,)


@pytest.mark.parametrize("far", [1e6, 1e30])
def test_too_wide_a_cloud_is_refused(far):
    with pytest.raises(ValueError, match="check its unit"):
        voxel_grid(np.array([[0, 0, 0], [far, 0, 0]]), SIZE)


def test_the_widest_cloud_keeps_its_corners_apart():
    corners = np.stack(np.meshgrid(*3 * [[0.5, 2**21 - 0.5]], indexing="ij"), -1).reshape(-1, 3)
    assert voxel_grid(corners, 1.0).inverse.tolist() == list(range(8))
