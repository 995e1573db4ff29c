"""Normals of surfaces: a naive loop, planes, and clouds that have none."""

import numpy as np
import pytest
import reference

from mprm_jax.geometry.normals import surface_normals


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
