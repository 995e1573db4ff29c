"""Points near the border of a class, against a loop over all pairs."""

import numpy as np

from mprm_jax.evaluation.borders import near_borders
from mprm_jax.evaluation.quality import confusion_matrix, measure


def test_matches_the_loop_over_all_pairs():
    rng = np.random.default_rng(0)
    coords, labels = rng.uniform(0, 1, (200, 3)), rng.integers(-1, 4, 200)
    expected = [
        any(
            0 <= labels[j] != labels[i] >= 0 and np.linalg.norm(coords[i] - coords[j]) < 0.13
            for j in range(200)
        )
        for i in range(200)
    ]
    np.testing.assert_array_equal(near_borders(coords, labels), expected)
    assert any(expected) and not all(expected)


def test_one_class_and_no_points_have_no_border():
    coords = np.random.default_rng(0).uniform(size=(5, 3))
    assert not near_borders(coords, np.zeros(5, int)).any()
    assert not near_borders(coords, np.full(5, -1)).any()
    assert near_borders(coords[:0], np.zeros(0, int)).shape == (0,)


def test_errors_are_counted_near_borders_and_elsewhere():
    truth, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 0, 1, -1])
    near = np.array([False, True, True, False, False])
    counts = confusion_matrix(truth, predicted, 2)
    found = measure(counts, confusion_matrix(truth[near], predicted[near], 2))
    np.testing.assert_allclose([found.error_near, found.error_far], [1 / 2, 1 / 3])
    assert np.isnan([measure(counts).error_near, measure(counts).error_far]).all()


def test_the_mean_over_classes_that_occur_leaves_out_those_only_predicted():
    found = measure(confusion_matrix(np.array([0, 0, 1]), np.array([0, 0, 2]), 3))
    assert (found.num_classes, found.num_occurring) == (3, 2)
    np.testing.assert_allclose([found.mean_iou, found.occurring_iou], [1 / 3, 1 / 2])
