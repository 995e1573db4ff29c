"""Measures against sets of points, naive loops and the rules of the benchmarks."""

import numpy as np
import pytest

from mprm_jax.evaluation.quality import class_iou, confusion_matrix, measure, sum_six_areas
from mprm_jax.scans.scannet import NYU40_IDS, to_benchmark_labels

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


def measured(truth, predicted, num_classes=NUM_CLASSES):
    return measure(confusion_matrix(np.array(truth), np.array(predicted), num_classes))


def test_the_matrix_matches_the_naive_loop(truth, predicted):
    predicted[::7] = -1
    expected = np.zeros((NUM_CLASSES, NUM_CLASSES + 1), int)
    for row, column in zip(truth, predicted, strict=True):
        if row != -1:
            expected[row, NUM_CLASSES if column == -1 else column] += 1
    found = confusion_matrix(truth, predicted, NUM_CLASSES)
    np.testing.assert_array_equal(found, expected)


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


def test_the_mean_leaves_out_classes_in_neither_and_says_so():
    found = measured([0, 0, 1, 1], [0, 0, 1, 0])
    assert found.num_classes == 2
    np.testing.assert_allclose(found.mean_iou, (2 / 3 + 1 / 2) / 2)


def test_a_class_that_is_only_predicted_lowers_the_mean():
    found = measured([0, 0], [0, 4])
    assert found.num_classes == 2
    np.testing.assert_allclose(found.mean_iou, (1 / 2 + 0) / 2)


def test_accuracies_by_hand():
    found = measured([0, 0, 0, 1, 2, 2, -1], [0, 0, 1, 1, -1, 2, 3])
    np.testing.assert_allclose(found.class_accuracy, [2 / 3, 1, 1 / 2, np.nan, np.nan])
    np.testing.assert_allclose(found.mean_accuracy, (2 / 3 + 1 + 1 / 2) / 3)
    np.testing.assert_allclose(found.accuracy, 4 / 6)
    assert (found.num_points, found.num_unlabeled) == (6, 1)


def test_without_an_annotated_point_there_is_no_measure():
    with pytest.raises(ValueError, match=r"no annotated point.* choose a split with labels"):
        measured([-1, -1], [0, 1])


def test_perfect_labels_score_one(truth):
    np.testing.assert_array_equal(iou(truth, np.maximum(truth, 0))[:4], 1)


def test_scenes_add_up(truth, predicted):
    halves = [confusion_matrix(truth[i::2], predicted[i::2], NUM_CLASSES) for i in (0, 1)]
    np.testing.assert_array_equal(sum(halves), confusion_matrix(truth, predicted, NUM_CLASSES))


def scannet_ious(truth, predicted):
    """The benchmark's rule, written as its text says it: NYU40 ids, unknown predictions 40."""
    matrix = np.zeros((41, 41), int)
    for row, column in zip(truth, predicted, strict=True):
        if row in NYU40_IDS:
            matrix[row, column if column in NYU40_IDS else 40] += 1
    ious = []
    for nyu40 in NYU40_IDS:
        hits = matrix[nyu40, nyu40]
        misses = matrix[nyu40].sum() - hits
        false = sum(matrix[other, nyu40] for other in NYU40_IDS if other != nyu40)
        ious.append(hits / (hits + misses + false))
    return ious


def test_scannet_scenes_are_measured_by_the_rule_of_the_benchmark():
    rng = np.random.default_rng(2)
    scenes = [rng.integers(0, 41, (2, 3000)) for _ in range(2)]
    scenes = [(a, np.where(rng.uniform(size=3000) < 0.5, a, b)) for a, b in scenes]
    total = sum(
        confusion_matrix(to_benchmark_labels(truth), to_benchmark_labels(predicted), 20)
        for truth, predicted in scenes
    )
    expected = scannet_ious(*np.concatenate(scenes, axis=1))
    np.testing.assert_allclose(measure(total).iou, expected)
    np.testing.assert_allclose(measure(total).mean_iou, np.mean(expected))
    assert measure(total).num_classes == 20


def area_matrices():
    """One area with many points of class 0 all right, five with one wrong point each."""
    right = confusion_matrix(np.zeros(95, int), np.zeros(95, int), 13)
    wrong = confusion_matrix(np.array([0]), np.array([12]), 13)
    return {area: right if area == 5 else wrong for area in range(1, 7)}


def test_six_fold_sums_points_and_not_scores():
    found = measure(sum_six_areas(area_matrices()))
    np.testing.assert_allclose(found.iou[[0, 12]], [0.95, 0])
    assert (found.num_points, found.num_classes) == (100, 2)


def test_six_fold_needs_every_area():
    matrices = area_matrices()
    del matrices[2]
    with pytest.raises(
        ValueError, match=r"6-fold over areas 1, 3, 4, 5, 6; measure each of Area_1"
    ):
        sum_six_areas(matrices)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="3 true labels but 2 predicted ones; both"):
        measured([0, 1, 2], [0, 1])


@pytest.mark.parametrize(
    ("truth", "predicted", "what"), [([0, 5], [0, 0], "true"), ([0, 0], [0, 255], "predicted")]
)
def test_a_label_of_no_class_is_refused(truth, predicted, what):
    with pytest.raises(ValueError, match=rf"{what} label (5|255) is not among 5 classes; give"):
        measured(truth, predicted)


def test_permuting_points_changes_nothing(truth, predicted):
    order = np.random.default_rng(3).permutation(len(truth))
    np.testing.assert_array_equal(iou(truth[order], predicted[order]), iou(truth, predicted))
