"""Average precision against a loop over thresholds."""

import numpy as np
import pytest

from mprm_jax.training.tag_precision import average_precision


def naive_average_precision(scores, labels):
    """Sum over thresholds of precision times the gain in recall, for one class."""
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        recall = np.sum(labels & chosen) / np.sum(labels)
        total += np.sum(labels & chosen) / np.sum(chosen) * (recall - recall_before)
        recall_before = recall
    return total


def one_class(scores, labels):
    return average_precision(np.array(scores)[:, None], np.array(labels, bool)[:, None])[0]


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_matches_the_naive_loop(digits):
    """Few digits make many ties."""
    rng = np.random.default_rng(digits)
    scores = rng.normal(size=(60, 5)).round(digits)
    labels = rng.uniform(size=(60, 5)) < [[0.05, 0.2, 0.5, 0.8, 0.95]]
    labels[0] = True
    expected = [naive_average_precision(s, y) for s, y in zip(scores.T, labels.T, strict=True)]
    np.testing.assert_allclose(average_precision(scores, labels), expected, atol=1e-12)


def test_perfect_ranking_scores_one():
    assert one_class([0.1, 0.9, 0.8, 0.2], [0, 1, 1, 0]) == 1


def test_reversed_ranking_counts_the_clouds_above():
    np.testing.assert_allclose(one_class([3, 2, 1], [0, 0, 1]), 1 / 3)


def test_equal_scores_give_the_share_of_the_class():
    np.testing.assert_allclose(one_class([0.5] * 4, [1, 0, 0, 0]), 0.25)


def test_order_of_equal_scores_does_not_matter():
    assert one_class([2, 1, 1], [0, 0, 1]) == one_class([2, 1, 1], [0, 1, 0])


def test_a_class_that_no_cloud_has_is_undefined():
    assert np.isnan(one_class([0.1, 0.9], [0, 0]))


def test_a_class_that_every_cloud_has_scores_one():
    assert one_class([0.1, 0.9, 0.9], [1, 1, 1]) == 1


def test_classes_do_not_influence_each_other():
    scores = np.array([[0.9, 0.0], [0.1, 5.0]])
    labels = np.array([[True, True], [False, False]])
    np.testing.assert_allclose(average_precision(scores, labels), [1, 0.5])
