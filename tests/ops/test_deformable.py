import functools

import jax
import numpy as np
import pytest
import reference
from jax.test_util import check_grads

from mprm_jax.geometry.kernel_points import KERNEL_RADIUS, unit_kernel
from mprm_jax.ops.deformable import (
    deformable_kpconv,
    find_reach,
    fitting_loss,
    left_out,
    repulsion_loss,
)
from mprm_jax.ops.kpconv import kpconv

EXTENT = 0.5
POINTS = (unit_kernel(15) * KERNEL_RADIUS * EXTENT).astype(np.float32)
KERNEL = {"kernel_points": POINTS, "extent": EXTENT}
convolve = jax.jit(functools.partial(deformable_kpconv, **KERNEL))
search = jax.jit(functools.partial(find_reach, **KERNEL), static_argnames="width")


@jax.jit
def fit(queries, supports, neighbors, *, offsets):
    reach = find_reach(queries, supports, neighbors, offsets=offsets, width=1, **KERNEL)
    return fitting_loss(queries, supports, reach.nearest, offsets=offsets, **KERNEL)


repel = jax.jit(functools.partial(repulsion_loss, **KERNEL), static_argnums=1)


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    queries, supports = rng.uniform(size=(5, 3)), rng.uniform(size=(9, 3))
    neighbors = np.stack([rng.permutation(10)[:6] for _ in range(5)])  # 9 is the shadow
    neighbors[3] = 9  # row 3 has no neighbor
    rows = queries.astype(np.float32), supports.astype(np.float32), neighbors.astype(np.int32)
    features, weights = rng.normal(size=(9, 4)), rng.normal(size=(15, 4, 3))
    learned = {
        "offsets": rng.normal(scale=0.2, size=(5, 15, 3)).astype(np.float32),
        "modulations": rng.uniform(0, 2, size=(5, 15)).astype(np.float32),
        "weights": weights.astype(np.float32),
    }
    return rows, features.astype(np.float32), learned


def pad(rows):
    queries, supports, neighbors = rows
    neighbors = np.where(neighbors == 9, 12, neighbors)
    return (
        np.pad(queries, ((0, 2), (0, 0)), constant_values=0.5),
        np.pad(supports, ((0, 3), (0, 0)), constant_values=0.5),
        np.pad(neighbors, ((0, 2), (0, 4)), constant_values=12),
    )


def pad_offsets(learned):
    return np.pad(learned["offsets"], ((0, 2), (0, 0), (0, 0)), constant_values=0.1)


def test_matches_the_naive_loop(case):
    rows, features, learned = case
    expected = reference.kpconv(*rows, features, **KERNEL, **learned)
    # float32 sums over 6 neighbors, 15 kernel points, 4 channels
    np.testing.assert_allclose(convolve(*rows, features, **learned), expected, atol=1e-5)


def test_zero_offsets_give_the_rigid_convolution(case):
    rows, features, learned = case
    result = convolve(*rows, features, offsets=learned["offsets"] * 0, weights=learned["weights"])
    expected = kpconv(*rows, features, weights=learned["weights"], **KERNEL)
    np.testing.assert_allclose(result, expected, atol=1e-6)  # a different reduction order


def test_padding_changes_nothing(case):
    rows, features, learned = case
    padded = {
        "offsets": pad_offsets(learned),
        "modulations": np.pad(learned["modulations"], ((0, 2), (0, 0)), constant_values=1.0),
        "weights": learned["weights"],
    }
    result = convolve(*pad(rows), np.pad(features, ((0, 3), (0, 0))), **padded)
    expected = convolve(*rows, features, **learned)
    np.testing.assert_allclose(result[:5], expected, atol=1e-6)  # a different reduction order
    np.testing.assert_array_equal(result[5:], 0)


def test_order_of_slots_does_not_matter(case):
    (queries, supports, neighbors), features, learned = case
    result = convolve(queries, supports, neighbors[:, ::-1], features, **learned)
    expected = convolve(queries, supports, neighbors, features, **learned)
    np.testing.assert_allclose(result, expected, atol=1e-6)  # a different reduction order


def test_gradients_of_everything_learned(case):
    rows, features, learned = case

    def run(features, learned):
        return convolve(*rows, features, **learned)

    # The influence has kinks; none lies within the step of this case.
    check_grads(run, (features, learned), order=1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-3)


def test_reach_matches_the_naive_loop(case):
    rows, _, learned = case
    neighbors, nearest = reference.find_reach(*rows, offsets=learned["offsets"], **KERNEL)
    result = search(*rows, offsets=learned["offsets"], width=6)
    assert 0 < (neighbors < 9).sum() < (rows[2] < 9).sum()  # some are reached, and not all
    np.testing.assert_array_equal(result.neighbors, neighbors)
    np.testing.assert_array_equal(result.nearest, nearest)
    np.testing.assert_array_equal(result.num_reached, (neighbors < 9).sum(1))


def test_convolving_what_is_reached_is_convolving_all(case):
    rows, features, learned = case
    reach = search(*rows, offsets=learned["offsets"], width=6)
    run = jax.value_and_grad(lambda *a: convolve(*a[:3], features, **a[3]).sum(), argnums=3)
    (value, gradients), (expected, others) = (
        run(*rows[:2], neighbors, learned) for neighbors in (reach.neighbors, rows[2])
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, others[name], atol=1e-5, err_msg=name)


def test_neighbors_reached_beyond_the_width_are_left_out_last_first(case):
    rows, _, learned = case
    whole = search(*rows, offsets=learned["offsets"], width=6)
    narrow = search(*rows, offsets=learned["offsets"], width=2)
    np.testing.assert_array_equal(narrow.neighbors, whole.neighbors[:, :2])
    np.testing.assert_array_equal(narrow.nearest, whole.nearest)
    np.testing.assert_array_equal(narrow.num_reached, whole.num_reached)
    missing, reached = left_out(narrow.num_reached, 2)
    assert missing == (whole.neighbors < 9).sum() - (narrow.neighbors < 9).sum() > 0
    assert reached == (whole.neighbors < 9).sum()


def test_fitting_matches_the_naive_loop(case):
    rows, _, learned = case
    expected = reference.fitting_loss(*rows, offsets=learned["offsets"], **KERNEL)
    np.testing.assert_allclose(fit(*rows, offsets=learned["offsets"]), expected, rtol=1e-5)


def test_repulsion_matches_the_naive_loop(case):
    (_, _, neighbors), _, learned = case
    expected = reference.repulsion_loss(neighbors, 9, offsets=learned["offsets"], **KERNEL)
    np.testing.assert_allclose(repel(neighbors, 9, offsets=learned["offsets"]), expected, rtol=1e-5)


def test_padding_does_not_count_in_the_losses(case):
    rows, _, learned = case
    padded, offsets = pad(rows), pad_offsets(learned)
    np.testing.assert_allclose(
        fit(*padded, offsets=offsets), fit(*rows, offsets=learned["offsets"]), rtol=1e-6
    )
    np.testing.assert_allclose(
        repel(padded[2], 12, offsets=offsets),
        repel(rows[2], 9, offsets=learned["offsets"]),
        rtol=1e-6,
    )


def test_fitting_gradient(case):
    rows, _, learned = case

    def run(offsets):
        return fit(*rows, offsets=offsets).total

    check_grads(run, (learned["offsets"],), order=1, modes=["rev"], rtol=2e-2, eps=1e-3)


def test_repulsion_moves_a_point_from_the_others_as_they_stand(case):
    (_, _, neighbors), _, learned = case

    def run(offsets):
        return repel(neighbors, 9, offsets=offsets).total

    gradient = jax.grad(run)(learned["offsets"])
    step = np.zeros_like(learned["offsets"])
    step[0, 4, 1] = 1e-3
    # Both ends of each pair count in the value; with the others stopped, half of the slope is left.
    slope = (run(learned["offsets"] + step) - run(learned["offsets"] - step)) / 2e-3
    np.testing.assert_allclose(gradient[0, 4, 1], slope / 2, rtol=1e-2)


def test_repulsion_of_the_undeformed_kernel_is_that_of_the_released_template():
    neighbors, offsets = np.zeros((4, 1), np.int32), np.zeros((4, 15, 3), np.float32)
    total, count = repel(neighbors, 1, offsets=offsets)
    np.testing.assert_allclose(total / count, 0.6327, atol=2e-4)


def test_coinciding_kernel_points_have_a_finite_gradient():
    neighbors, offsets = np.zeros((1, 1), np.int32), -POINTS[None]
    gradient = jax.grad(lambda o: repel(neighbors, 1, offsets=o).total)(offsets)
    assert np.isfinite(gradient).all()
