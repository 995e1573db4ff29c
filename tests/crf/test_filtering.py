import functools

import jax
import numpy as np
import pytest
import reference
from jax.test_util import check_grads

from mprm_jax.crf.filtering import Pairs, gaussian_filter
from mprm_jax.crf.lattice_device import build_lattice_on_host

filtered = jax.jit(gaussian_filter, static_argnames="transpose")


def cloud(num_dims, num_points=60, seed=0):
    """Features in kernel widths, close enough that points share vertices; and values."""
    rng = np.random.default_rng((seed, num_dims))
    features = rng.normal(size=(num_points, num_dims)).astype(np.float32)
    return features, rng.uniform(size=(num_points, 3)).astype(np.float32)


def pairs(features):
    return Pairs(features, np.ones(len(features), bool))


@pytest.mark.parametrize("num_dims", [1, 3, 6])
@pytest.mark.parametrize("transpose", [False, True])
def test_lattice_matches_the_naive_loop(num_dims, transpose):
    features, values = cloud(num_dims)
    expected = reference.lattice_filter(features, values, transpose=transpose)
    result = filtered(build_lattice_on_host(features), values, transpose=transpose)
    # float32 coordinates move weights by 1e-6; sums over up to 60 points
    np.testing.assert_allclose(result, expected, rtol=1e-4)


def test_pairs_match_the_naive_loop():
    features, values = cloud(3, num_points=300)  # more than a block of rows
    expected = reference.gaussian_filter(features, values)
    # float32 sums over 300 points
    np.testing.assert_allclose(filtered(pairs(features), values), expected, rtol=1e-5)


@pytest.mark.parametrize("num_dims, bound", [(1, 0.02), (3, 0.05), (6, 0.2)])
def test_lattice_means_are_near_the_exact_ones(num_dims, bound):
    features, values = cloud(num_dims, num_points=2000)
    values[:, 0] = 1
    lattice, exact = (
        filtered(build_lattice_on_host(features), values),
        filtered(pairs(features), values),
    )
    difference = lattice / lattice[:, :1] - exact / exact[:, :1]
    # bounds: twice what the algorithm makes, of values in [0, 1]
    assert np.sqrt(np.mean(np.square(difference[:, 1:]))) < bound


def test_both_filters_are_linear():
    features, values = cloud(3)
    for operator in (build_lattice_on_host(features), pairs(features)):
        both = filtered(operator, 2 * values[:, :1] - values[:, 1:2])
        one, other = filtered(operator, values[:, :1]), filtered(operator, values[:, 1:2])
        np.testing.assert_allclose(both, 2 * one - other, rtol=1e-4, atol=1e-4)  # cancellation


@pytest.mark.parametrize("num_dims", [1, 3, 6])
def test_transpose_is_the_adjoint(num_dims):
    features, values = cloud(num_dims)
    others = cloud(num_dims, seed=1)[1]
    for operator in (build_lattice_on_host(features), pairs(features)):
        there = np.vdot(others, filtered(operator, values))
        back = np.vdot(filtered(operator, others, transpose=True), values)
        np.testing.assert_allclose(there, back, rtol=1e-5)  # a different reduction order


def test_gradient_is_the_transposed_filter():
    features, values = cloud(3)
    others = cloud(3, seed=1)[1]
    lattice = build_lattice_on_host(features)
    gradient = jax.grad(lambda v: (filtered(lattice, v) * others).sum())(values)
    expected = filtered(lattice, others, transpose=True)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)  # a different fusion


def test_gradients_of_values():
    features, values = cloud(2, num_points=12)
    for operator in (build_lattice_on_host(features), pairs(features)):
        # Both directions of differentiation of a linear function; float32 differences.
        run = functools.partial(filtered, operator)
        check_grads(run, (values,), order=1, modes=["fwd", "rev"], atol=1e-2, rtol=1e-2)


def test_padding_changes_nothing():
    features, values = cloud(3)
    padded = np.pad(values, ((0, 20), (0, 0)), constant_values=9.0)
    expected = filtered(build_lattice_on_host(features), values)
    result = filtered(build_lattice_on_host(features, num_rows=80), padded)
    np.testing.assert_array_equal(result[:60], expected)
    np.testing.assert_array_equal(result[60:], 0)

    exact = Pairs(np.pad(features, ((0, 20), (0, 0))), np.arange(80) < 60)
    result = filtered(exact, padded)
    expected = filtered(pairs(features), values)
    np.testing.assert_allclose(result[:60], expected, rtol=1e-6)  # a different reduction order
    np.testing.assert_array_equal(result[60:], 0)


def test_order_of_points_does_not_matter():
    features, values = cloud(6)
    order = np.random.default_rng(0).permutation(60)
    result = filtered(build_lattice_on_host(features[order]), values[order])
    expected = filtered(build_lattice_on_host(features), values)[order]
    np.testing.assert_allclose(result, expected, rtol=1e-5)  # a different reduction order


def test_a_point_hears_itself_only_when_alone():
    features = np.array([[0.0, 0, 0], [100, 0, 0]], np.float32)
    values = np.array([[1.0], [5.0]], np.float32)
    np.testing.assert_allclose(filtered(pairs(features), values), values, rtol=1e-6)
    alone = filtered(build_lattice_on_host(features[:1]), values[:1])
    np.testing.assert_allclose(
        filtered(build_lattice_on_host(features), values)[0], alone[0], rtol=1e-4
    )
