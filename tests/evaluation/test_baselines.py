"""Tag-only baselines: what they choose once absent classes are excluded."""

import numpy as np

from mprm_jax.labeling.choice import decide
from mprm_jax.labeling.measuring import frequent_labels, random_labels

FREQUENCY = np.array([0.1, 0.8, 0.3])


def chosen(baseline, allowed, seed=0):
    allowed = np.array(allowed, bool)
    scores = baseline(allowed, FREQUENCY, np.random.default_rng(seed))
    return decide(scores, allowed, np.zeros((len(allowed), 3))).label


def test_most_frequent_of_the_allowed_classes_is_chosen():
    allowed = [[1, 1, 1], [1, 0, 1], [1, 0, 0]]
    assert chosen(frequent_labels, allowed).tolist() == [1, 2, 0]


def test_random_choice_takes_each_allowed_class_equally_often():
    labels = chosen(random_labels, [[1, 0, 1]] * 4000)
    shares = np.bincount(labels, minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.5, 0, 0.5], atol=0.04)  # five deviations


def test_equal_generators_choose_equally():
    allowed = [[1, 1, 1]] * 100
    np.testing.assert_array_equal(chosen(random_labels, allowed), chosen(random_labels, allowed))


def test_random_choice_differs_between_points():
    assert len(set(chosen(random_labels, [[1, 1, 1]] * 100).tolist())) == 3
