"""Tuning: what its criterion rewards, by cases with a known answer."""

import numpy as np

from mprm_jax.labeling.refining import boundary_contrast, label_changes, label_entropy


def line(labels, colors):
    """Points one meter apart."""
    coords = np.arange(len(labels))[:, None] * np.array([[1.0, 0, 0]])
    colors = np.repeat(np.array(colors, np.uint8)[:, None], 3, axis=1)
    return label_changes(coords, colors, np.array(labels))


def test_boundaries_at_color_edges_score_one():
    assert boundary_contrast(*line([0] * 20 + [1] * 20, [10] * 20 + [200] * 20)) > 0.99


def test_boundaries_away_from_color_edges_score_low():
    changes, contrasts = line([0] * 10 + [1] * 30, [10] * 20 + [200] * 20)
    assert boundary_contrast(changes, contrasts) < 0.5


def test_boundaries_that_ignore_colors_score_a_half():
    rng = np.random.default_rng(0)
    changes, contrasts = rng.random(20000) < 0.3, rng.integers(0, 256, 20000)
    np.testing.assert_allclose(boundary_contrast(changes, contrasts), 0.5, atol=0.02)
    assert boundary_contrast(np.zeros(5, bool), np.arange(5)) == 0.5


def test_contrast_counts_pairs_as_a_naive_loop_does():
    rng = np.random.default_rng(1)
    changes, contrasts = rng.random(60) < 0.4, rng.integers(0, 9, 60)
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a in contrasts[changes]
        for b in contrasts[~changes]
    ]
    np.testing.assert_allclose(boundary_contrast(changes, contrasts), np.mean(wins))


def test_a_cloud_of_one_point_has_no_pairs():
    changes, contrasts = label_changes(np.zeros((1, 3)), np.zeros((1, 3), np.uint8), np.zeros(1))
    assert len(changes) == len(contrasts) == 0


def test_entropy_falls_when_small_objects_vanish():
    many, few = np.array([0] * 6 + [1] * 3 + [2]), np.array([0] * 7 + [1] * 3)
    assert label_entropy(many) > label_entropy(few) > label_entropy(np.zeros(10, int)) == 0
    assert label_entropy(np.full(3, -1)) == 0
