"""Surface samples: coverage, nearest vertices, and robustness to bad faces."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from mprm_jax.geometry.surfaces import sample_surface

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
TWO_TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]])


def test_large_triangles_are_covered_at_the_spacing():
    samples = sample_surface(SQUARE, TWO_TRIANGLES, 0.05)
    probes = np.random.default_rng(0).uniform(size=(2000, 2))
    distances, _ = cKDTree(samples.coords[:, :2]).query(probes)
    assert distances.max() <= 0.05 / np.sqrt(2) * 1.01
    assert len(samples.coords) < 2.5 * (1 / 0.05 + 1) ** 2


def test_vertices_come_first_and_name_themselves():
    samples = sample_surface(SQUARE, TWO_TRIANGLES, 0.1)
    np.testing.assert_array_equal(samples.coords[:4], SQUARE)
    np.testing.assert_array_equal(samples.vertices[:4], np.arange(4))


def test_samples_belong_to_the_nearest_corner():
    samples = sample_surface(SQUARE, TWO_TRIANGLES, 0.03)
    gaps = np.linalg.norm(samples.coords[:, None] - SQUARE[None], axis=-1)
    own = gaps[np.arange(len(gaps)), samples.vertices]
    # A point may be nearer to the fourth corner, which its triangle lacks.
    assert np.mean(own <= gaps.min(axis=1) + 1e-9) > 0.95


def test_small_triangles_are_covered_by_their_vertices():
    samples = sample_surface(SQUARE, TWO_TRIANGLES, 2.0)
    assert len(samples.coords) == 4


def test_a_shared_edge_is_sampled_once():
    samples = sample_surface(SQUARE, TWO_TRIANGLES, 0.1)
    assert len(np.unique(np.round(samples.coords, 9), axis=0)) == len(samples.coords)


def test_a_sliver_takes_as_many_points_as_its_length():
    sliver = np.array([[0, 0, 0], [10, 0, 0], [5, 0.004, 0]], float)
    assert len(sample_surface(sliver, np.array([[0, 1, 2]]), 0.01).coords) < 2100


def test_the_order_of_corners_changes_no_coverage():
    counts = {
        len(sample_surface(SQUARE, np.roll(TWO_TRIANGLES, a, axis=1), 0.07).coords)
        for a in range(3)
    }
    assert len(counts) == 1


def test_faces_that_are_no_triangles_are_skipped():
    faces = np.array([[0, 0, 1], [0, 1, 9], [-1, 1, 2]])
    assert len(sample_surface(SQUARE, faces, 0.1).coords) == 4


def test_flat_triangles_are_sampled_along_their_edges():
    line = np.array([[0, 0, 0], [1, 0, 0], [0.5, 0, 0]], float)
    samples = sample_surface(line, np.array([[0, 1, 2]]), 0.1)
    assert np.isfinite(samples.coords).all()
    assert len(samples.coords) < 30


def test_no_faces_leave_the_vertices():
    assert len(sample_surface(SQUARE, np.zeros((0, 3), int), 0.1).coords) == 4


def test_chunks_change_nothing(monkeypatch):
    generator = np.random.default_rng(1)
    vertices = generator.uniform(size=(60, 3))
    faces = generator.integers(0, 60, size=(100, 3))
    whole = sample_surface(vertices, faces, 0.05)
    monkeypatch.setattr("mprm_jax.geometry.surfaces.CHUNK_SAMPLES", 500)
    np.testing.assert_array_equal(sample_surface(vertices, faces, 0.05).coords, whole.coords)


def test_a_surface_in_millimeters_is_refused():
    with pytest.raises(ValueError, match="unit"):
        sample_surface(SQUARE * 5000, TWO_TRIANGLES, 0.01)
