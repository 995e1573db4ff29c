"""Pseudo-labels: which classes a point may take, and on which scale their scores compare."""

import numpy as np
import pytest

from mprm_jax.evidence.candidates import allowed_classes
from mprm_jax.labeling.choice import (
    class_scale,
    decide,
    score_sums,
    standardise,
)
from mprm_jax.types import IGNORED

NUM_CLASSES = 4


def allowed_in(*tags_of_balls, rule="intersection", scene_tags=()):
    """Classes allowed for one voxel inside balls with these tags."""
    num_tagged = np.zeros((1, NUM_CLASSES), np.int32)
    for tags in tags_of_balls:
        num_tagged[0, list(tags)] += 1
    scene = np.isin(np.arange(NUM_CLASSES), scene_tags)
    allowed = allowed_classes(np.array([len(tags_of_balls)]), num_tagged, scene, rule)
    return np.flatnonzero(allowed[0]).tolist()


def labels_of(scores, allowed, coords):
    return decide(scores, allowed, coords).label


def scale_of(scenes):
    return class_scale([score_sums(scores) for scores in scenes])


@pytest.fixture
def scenes():
    """Scores of three scenes whose classes differ in mean and spread."""
    rng = np.random.default_rng(0)
    shift, spread = np.array([[-9.0, 0.0, 3.0, 50.0]]), np.array([[0.1, 1.0, 4.0, 20.0]])
    return [
        (shift + spread * rng.normal(size=(size, NUM_CLASSES))).astype(np.float32)
        for size in (300, 20, 111)
    ]


def test_an_absent_class_never_wins():
    scores = np.array([[-5.0, -7.0, 0.0, 9.0]])
    allowed = np.array([[True, True, False, False]])
    assert labels_of(scores, allowed, np.zeros((1, 3))).tolist() == [0]


def test_the_best_allowed_class_wins():
    rng = np.random.default_rng(1)
    scores, allowed = rng.normal(size=(50, NUM_CLASSES)), rng.uniform(size=(50, NUM_CLASSES)) < 0.5
    allowed[:, 2] = True
    expected = [
        max(np.flatnonzero(may), key=lambda c, row=row: scores[row, c])
        for row, may in enumerate(allowed)
    ]
    assert labels_of(scores, allowed, rng.normal(size=(50, 3))).tolist() == expected


def test_a_voxel_without_a_class_takes_the_label_of_the_nearest_with_one():
    coords = np.array([[0, 0, 0], [1, 0, 0], [0.4, 0, 0], [7, 0, 0]])
    scores = np.array([[5.0, 0, 0, 0], [0, 5.0, 0, 0], [0, 0, 5.0, 0], [0, 0, 0, 5.0]])
    allowed = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    has_scores = np.array([True, True, False, False])
    assert decide(scores, allowed, coords, has_scores).label.tolist() == [0, 1, 0, 1]


def test_a_voxel_in_no_ball_takes_the_only_class_left_to_it_or_that_of_the_nearest():
    coords = np.array([[0, 0, 0], [0.1, 0, 0], [0.2, 0, 0]])
    allowed = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], bool)
    has_scores = np.array([True, False, False])
    scores = np.array([[0, 1.0, 2.0, 0]] * 3)
    assert decide(scores, allowed, coords, has_scores).label.tolist() == [2, 0, 0]


def test_a_voxel_that_may_have_no_class_gets_none():
    allowed = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
    found = decide(np.ones((2, 4)), allowed, np.zeros((2, 3)))
    assert found.label.tolist() == [0, IGNORED] and found.confidence[1] == 0


def test_a_scene_without_any_class_gets_no_label():
    labels = labels_of(np.ones((3, 4)), np.zeros((3, 4), bool), np.zeros((3, 3)))
    assert labels.tolist() == [IGNORED] * 3


def test_labels_are_int32():
    labels = labels_of(np.zeros((3, 2)), np.eye(3, 2, dtype=bool), np.zeros((3, 3)))
    assert labels.dtype == np.int32


def test_only_classes_tagged_in_every_ball_are_allowed():
    assert allowed_in([0, 1, 2], [1, 2, 3], [1, 2]) == [1, 2]


def test_one_ball_allows_its_tags():
    assert allowed_in([0, 3]) == [0, 3]


def test_balls_that_agree_on_nothing_allow_any_of_their_tags():
    assert allowed_in([0], [2], [2]) == [0, 2]


def test_a_ball_without_tags_leaves_the_tags_of_the_others():
    assert allowed_in([], [1, 3]) == [1, 3]


def test_a_voxel_in_no_ball_may_take_no_class():
    assert allowed_in() == []


def test_any_ball_may_allow_a_class():
    assert allowed_in([0, 1], [1, 3], rule="ball") == [0, 1, 3]


def test_a_scene_allows_its_tags_wherever_there_is_a_ball():
    assert allowed_in([0], rule="scene", scene_tags=(0, 2)) == [0, 2]
    assert allowed_in(rule="scene", scene_tags=(0, 2)) == []


def test_confidence_is_the_softmax_over_the_allowed_classes():
    scores = np.array([[1.0, 3.0, 50.0, 0.0], [2.0, 0.0, 0.0, 0.0]])
    allowed = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool)
    exponentials = np.exp([1.0, 3.0, 0.0])
    expected = [exponentials[1] / exponentials.sum(), 1.0]
    found = decide(scores, allowed, np.zeros((2, 3))).confidence
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_voxel_without_a_class_takes_the_confidence_of_the_nearest_with_one():
    coords = np.array([[0, 0, 0], [1, 0, 0], [0.9, 0, 0]])
    scores = np.array([[5.0, 0], [0, 0], [0, 9.0]])
    allowed = np.array([[1, 1], [1, 1], [0, 0]], bool)
    confidence = decide(scores, allowed, coords, np.array([True, True, False])).confidence
    assert confidence[2] == confidence[1] == 0.5


def test_standardised_scores_are_z_scores_over_all_scenes(scenes):
    everything = np.concatenate(scenes).astype(np.float64)
    mean, deviation = everything.mean(axis=0), everything.std(axis=0)
    found = standardise(scenes[2], scale_of(scenes))
    expected = (scenes[2] - mean[None]) / deviation[None]
    np.testing.assert_allclose(found, expected, atol=1e-4)  # float32, scores up to 3 deviations


def test_order_of_scenes_does_not_change_the_scale(scenes):
    first, second = scale_of(scenes), scale_of(scenes[::-1])
    # float64 sums in a different order
    np.testing.assert_allclose(
        standardise(scenes[0], first), standardise(scenes[0], second), atol=1e-6
    )


def test_no_point_at_all_has_no_scale():
    with pytest.raises(ValueError, match="no point lies in a tagged ball"):
        scale_of([np.zeros((0, NUM_CLASSES))])


def test_a_class_with_equal_scores_everywhere_stays_finite():
    scores = np.full((10, NUM_CLASSES), 3.3, np.float32)
    np.testing.assert_allclose(standardise(scores, scale_of([scores])), 0, atol=1e-3)


def test_the_scale_brings_up_a_class_that_scores_low_everywhere(scenes):
    """The paper's argmax never picks class 0, whose scores all lie below the others'."""
    scores = np.concatenate(scenes)
    allowed = np.ones(scores.shape, bool)
    coords = np.zeros((len(scores), 3))
    assert 0 not in labels_of(scores, allowed, coords)
    labels = labels_of(standardise(scores, scale_of(scenes)), allowed, coords)
    np.testing.assert_allclose(np.mean(labels == 0), 1 / NUM_CLASSES, atol=0.1)  # 431 draws
