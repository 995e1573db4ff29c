import jax
import numpy as np
import pytest
import reference
from jax.test_util import check_grads

from mprm_jax.ops.losses import multilabel_loss, point_accuracy, point_loss
from mprm_jax.types import IGNORED

loss = jax.jit(multilabel_loss)
of_points = jax.jit(point_loss)


def case():
    rng = np.random.default_rng(0)
    real = np.array([True, True, False, True])
    return rng.normal(size=(4, 3)).astype(np.float32) * 4, rng.uniform(size=(4, 3)) < 0.5, real


def test_matches_the_naive_loop():
    np.testing.assert_allclose(loss(*case()), reference.multilabel_loss(*case()), rtol=1e-5)


def test_filler_clouds_change_nothing():
    logits, labels, real = case()
    logits[2] = 1e4
    np.testing.assert_array_equal(loss(logits, labels, real), loss(*case()))


def test_gradient():
    logits, labels, real = case()

    def run(logits):
        return loss(logits, labels, real).total

    check_grads(run, (logits,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


EQUAL = np.ones(4, np.float32)


def points():
    rng = np.random.default_rng(1)
    return rng.normal(size=(9, 4)).astype(np.float32) * 3, rng.integers(-1, 4, 9).astype(np.int32)


@pytest.mark.parametrize("weights", [EQUAL, np.array([1, 5, 2, 0.5], np.float32)])
def test_point_loss_matches_the_naive_loop(weights):
    expected = reference.point_loss(*points(), weights)
    np.testing.assert_allclose(of_points(*points(), weights), expected, rtol=1e-5)


def test_points_without_a_label_change_nothing():
    logits, labels = points()
    assert IGNORED in labels
    kept = labels != IGNORED
    logits[~kept] = 1e30
    # Sums of the same terms, grouped differently.
    few = of_points(logits[kept], labels[kept], EQUAL)
    np.testing.assert_allclose(of_points(logits, labels, EQUAL), few, rtol=1e-6)
    np.testing.assert_allclose(
        point_accuracy(logits, labels), point_accuracy(logits[kept], labels[kept])
    )


def test_no_label_at_all_gives_zero_and_no_gradient():
    logits, labels = points()
    none = np.full_like(labels, IGNORED)
    assert of_points(logits, none, EQUAL) == (0.0, 0.0)
    gradient = jax.grad(lambda logits: of_points(logits, none, EQUAL).total)(logits)
    np.testing.assert_array_equal(gradient, 0)


def test_point_loss_gradient():
    logits, labels = points()
    weights = np.array([1, 5, 2, 0.5], np.float32)

    def run(logits):
        return of_points(logits, labels, weights).total

    check_grads(run, (logits,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_accuracy_is_the_share_of_labeled_points_that_are_right():
    logits = np.eye(4, dtype=np.float32)
    labels = np.array([0, 1, 0, IGNORED], np.int32)
    assert point_accuracy(logits, labels) == (2.0, 3.0)
