"""IoU against sets of points."""

import numpy as np
import pytest

from mprm_jax.labeling.quality import class_iou, confusion_matrix, mean_iou

NUM_CLASSES = 5


@pytest.fixture
def truth():
    """Class 4 never occurs; -1 is unannotated."""
    return np.random.default_rng(0).integers(-1, 4, 500).astype(np.int32)


@pytest.fixture
def predicted(truth):
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 4, len(truth))
    return np.where((rng.uniform(size=len(truth)) < 0.6) & (truth >= 0), truth, noise)


def iou(truth, predicted):
    return class_iou(confusion_matrix(np.array(truth), np.array(predicted), NUM_CLASSES))


def test_iou_matches_sets_of_points(truth, predicted):
    expected = []
    for label in range(4):
        annotated = set(np.flatnonzero(truth >= 0))
        own = set(np.flatnonzero(truth == label))
        given = set(np.flatnonzero(predicted == label)) & annotated
        expected.append(len(own & given) / len(own | given))
    np.testing.assert_allclose(iou(truth, predicted)[:4], expected)


def test_unannotated_points_do_not_count(truth, predicted):
    other = np.where(truth < 0, 3 - predicted, predicted)
    np.testing.assert_array_equal(iou(truth, predicted), iou(truth, other))


def test_a_point_without_a_predicted_label_is_wrong():
    np.testing.assert_array_equal(iou([0, 0, 1, -1], [0, -1, 1, -1])[:2], [1 / 2, 1])


def test_rows_are_truth():
    confusion = confusion_matrix(np.array([2, 2, 0]), np.array([1, 1, 0]), NUM_CLASSES)
    assert confusion[2, 1] == 2
    assert confusion.sum() == 3


def test_a_class_that_never_occurs_is_undefined(truth, predicted):
    assert np.isnan(iou(truth, predicted)[4])


def test_a_class_that_is_only_predicted_scores_zero():
    assert iou([0, 0], [0, 4])[4] == 0


def test_the_mean_leaves_out_undefined_classes():
    confusion = confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), NUM_CLASSES)
    np.testing.assert_allclose(mean_iou(confusion), (2 / 3 + 1 / 2) / 2)


def test_perfect_labels_score_one(truth):
    np.testing.assert_array_equal(iou(truth, np.maximum(truth, 0))[:4], 1)


def test_scenes_add_up(truth, predicted):
    halves = [confusion_matrix(truth[i::2], predicted[i::2], NUM_CLASSES) for i in (0, 1)]
    np.testing.assert_array_equal(sum(halves), confusion_matrix(truth, predicted, NUM_CLASSES))
