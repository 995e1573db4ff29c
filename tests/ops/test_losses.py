import jax
import numpy as np
import pytest
import reference
from jax.test_util import check_grads

from mprm_jax.ops.losses import lovasz_loss, multilabel_loss, point_accuracy, point_loss
from mprm_jax.types import IGNORED

loss = jax.jit(multilabel_loss)
of_points = jax.jit(point_loss)
of_overlap = jax.jit(lovasz_loss, static_argnums=3)


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


NUM_CLOUDS = 4


def balls():
    """Rows of clouds end to end, then padding; cloud 2 is an empty place, cloud 3 has no label."""
    rng = np.random.default_rng(2)
    clouds = np.repeat([0, 1, 3, NUM_CLOUDS], [12, 7, 5, 6]).astype(np.int32)
    labels = rng.integers(-1, 4, len(clouds)).astype(np.int32)
    labels[clouds >= 3] = IGNORED
    return rng.normal(size=(len(clouds), 5)).astype(np.float32) * 3, labels, clouds, NUM_CLOUDS


def test_lovasz_loss_matches_the_naive_loop():
    found, expected = of_overlap(*balls()), reference.lovasz_loss(*balls())
    assert found.count == expected[1] == 2
    np.testing.assert_allclose(found.total, expected[0], rtol=1e-5)


def test_lovasz_loss_of_a_thousand_rows_matches_the_naive_loop():
    """Differences between neighbors in rank are a millionth there."""
    rng = np.random.default_rng(3)
    case = rng.normal(size=(1000, 2)), rng.integers(0, 2, 1000), np.zeros(1000)
    case = (case[0].astype(np.float32), *(x.astype(np.int32) for x in case[1:]), 1)
    expected = reference.lovasz_loss(*case)[0]
    np.testing.assert_allclose(of_overlap(*case).total, expected, rtol=1e-5)


def test_padding_and_rows_without_a_label_change_no_lovasz_loss():
    logits, labels, clouds, _ = balls()
    kept = labels != IGNORED
    logits[~kept] = 1e30
    few = of_overlap(logits[kept], labels[kept], clouds[kept], NUM_CLOUDS)
    np.testing.assert_allclose(of_overlap(logits, labels, clouds, NUM_CLOUDS), few, rtol=1e-6)
    gradient = jax.grad(lambda logits: of_overlap(logits, *balls()[1:]).total)(logits)
    np.testing.assert_array_equal(gradient[~kept], 0)


def test_the_order_of_rows_does_not_change_the_lovasz_loss():
    logits, labels, clouds, _ = balls()
    order = np.random.default_rng(4).permutation(len(labels))
    found = of_overlap(logits[order], labels[order], clouds[order], NUM_CLOUDS)
    np.testing.assert_allclose(found, of_overlap(*balls()), rtol=1e-6)  # sums in another order


def test_the_lovasz_loss_of_a_cloud_is_the_same_whatever_lies_beside_it():
    logits, labels, clouds, _ = balls()
    alone = [
        of_overlap(logits[clouds == i], labels[clouds == i], clouds[clouds == i], NUM_CLOUDS).total
        for i in (0, 1)
    ]
    np.testing.assert_allclose(of_overlap(*balls()).total, sum(alone), rtol=1e-6)


def test_right_and_certain_rows_have_no_lovasz_loss_and_wrong_ones_the_largest():
    _, labels, clouds, _ = balls()
    right = 100 * np.eye(5, dtype=np.float32)[labels]
    assert of_overlap(right, labels, clouds, NUM_CLOUDS) == (0.0, 2.0)
    wrong = 100 * np.eye(5, dtype=np.float32)[np.full_like(labels, 4)]
    np.testing.assert_allclose(of_overlap(wrong, labels, clouds, NUM_CLOUDS), (2, 2), rtol=1e-6)


def test_no_label_at_all_gives_no_lovasz_loss_and_no_gradient():
    logits, labels, clouds, _ = balls()
    none = np.full_like(labels, IGNORED)
    assert of_overlap(logits, none, clouds, NUM_CLOUDS) == (0.0, 0.0)
    gradient = jax.grad(lambda logits: of_overlap(logits, none, clouds, NUM_CLOUDS).total)(logits)
    np.testing.assert_array_equal(gradient, 0)


def test_lovasz_loss_gradient():
    logits, *rest = balls()

    def run(logits):
        return of_overlap(logits, *rest).total

    # No two errors of these rows are as near as the steps of the check.
    check_grads(run, (logits,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2, eps=1e-4)
