"""Normals of surfaces: a naive loop, planes, and clouds that have none."""

import numpy as np
import pytest
import reference

from mprm_jax.geometry.normals import mean_axes, sign_free, surface_normals


def plane(normal, seed=0):
    """Points of a square of 2 m through the origin, and the unit normal."""
    normal = np.array(normal) / np.linalg.norm(normal)
    points = np.random.default_rng(seed).uniform(-1, 1, (2000, 3))
    return points - (points @ normal)[:, None] * normal[None], normal


def along(normals, others):
    """Absolute cosine of each pair."""
    return np.abs(np.sum(normals * others, axis=1))


def test_matches_the_naive_loop():
    rng = np.random.default_rng(0)
    supports, queries = rng.uniform(0, 1, (300, 3)), rng.uniform(0, 1, (60, 3))
    for num_neighbors, radius in ((20, 0.3), (8, 0.15)):
        found = surface_normals(queries, supports, num_neighbors, radius)
        expected = reference.surface_normals(queries, supports, num_neighbors, radius)
        has_normal = expected.any(axis=1)
        np.testing.assert_array_equal(found.any(axis=1), has_normal)
        # Eigenvectors of a 3 x 3 matrix in float64; close eigenvalues cost some digits.
        np.testing.assert_allclose(along(found, expected)[has_normal], 1, atol=1e-8)


@pytest.mark.parametrize("normal", [(0, 0, 1), (1, 2, -0.5)])
def test_a_plane_has_its_normal_everywhere(normal):
    points, normal = plane(normal)
    found = surface_normals(points, points)
    np.testing.assert_allclose(along(found, normal[None]), 1, atol=1e-6)


def test_an_order_of_points_changes_nothing_but_the_order():
    points, _ = plane((1, 1, 1))
    points += np.random.default_rng(1).normal(scale=0.02, size=points.shape)
    order = np.random.default_rng(2).permutation(len(points))
    found, again = surface_normals(points, points), surface_normals(points[order], points[order])
    np.testing.assert_allclose(along(found[order], again), 1, atol=1e-8)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_neighbors_have_no_normal(count):
    points = np.random.default_rng(3).uniform(0, 0.1, (count, 3))
    assert not surface_normals(np.zeros((4, 3)), points).any()


def test_points_on_a_line_have_no_normal():
    points = np.linspace(0, 1, 50)[:, None] * np.array([[1.0, 2.0, 3.0]])
    assert not surface_normals(points, points).any()


def test_repeated_points_have_no_normal():
    assert not surface_normals(np.ones((30, 3)), np.ones((30, 3))).any()


def test_no_queries_give_no_rows():
    assert surface_normals(np.zeros((0, 3)), np.ones((5, 3))).shape == (0, 3)


def unit_normals(count, seed=0):
    normals = np.random.default_rng(seed).normal(size=(count, 3))
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def test_sign_free_features_match_the_naive_loop():
    normals = unit_normals(50)
    np.testing.assert_allclose(sign_free(normals), reference.sign_free(normals), atol=1e-15)


def test_sign_free_features_do_not_know_the_sign_and_measure_the_angle():
    normals, others = unit_normals(50), unit_normals(50, seed=1)
    np.testing.assert_array_equal(sign_free(normals), sign_free(-normals))
    sq_dist = np.sum(np.square(sign_free(normals) - sign_free(others)), axis=1)
    sq_sine = 1 - np.square(np.sum(normals * others, axis=1))
    np.testing.assert_allclose(sq_dist, 2 * sq_sine, atol=1e-12)
    assert not sign_free(np.zeros((1, 3))).any()


def test_mean_axes_match_the_naive_loop_whatever_the_signs():
    rng = np.random.default_rng(0)
    normals, group = unit_normals(200), rng.integers(0, 12, 200)
    normals[group == 3] = 0
    found = mean_axes(normals, group, 13)  # group 12 is empty
    expected = reference.mean_axes(normals, group, 13)
    np.testing.assert_array_equal(found.any(axis=1), expected.any(axis=1))
    some = found.any(axis=1)
    assert some.sum() == 11
    np.testing.assert_allclose(along(found, expected)[some], 1, atol=1e-9)
    signs = rng.choice([-1.0, 1.0], 200)[:, None]
    np.testing.assert_allclose(mean_axes(normals * signs, group, 13), found, atol=1e-12)
