import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.test_util import check_grads

from mprm_jax.crf import mean_field as module
from mprm_jax.crf.filtering import Pairs, gaussian_filter
from mprm_jax.crf.lattice_device import build_lattice_on_host
from mprm_jax.crf.normalization import FAINTEST, NORMALIZATIONS

infer = jax.jit(module.mean_field, static_argnames="num_iterations")
make_kernel = jax.jit(module.make_kernel, static_argnames="normalization")
WEIGHTS = np.array([1.0, 2.0], np.float32)
POTTS = 1 - np.eye(4)


@pytest.fixture
def case():
    """Two feature sets of 30 points, energies of 4 classes, and who sends."""
    rng = np.random.default_rng(0)
    narrow = rng.normal(size=(30, 3)).astype(np.float32)
    wide = rng.normal(size=(30, 2)).astype(np.float32)
    sender = (rng.uniform(size=30) < 0.8).astype(np.float32)
    return narrow, wide, rng.uniform(0, 2, (30, 4)).astype(np.float32), sender


def exact_kernels(case, normalization="symmetric"):
    *features, _, sender = case
    operators = [Pairs(f, np.ones(len(f), bool)) for f in features]
    return tuple(make_kernel(operator, sender, normalization) for operator in operators)


def naive(case, num_iterations, compatibility=POTTS, normalization="symmetric"):
    *features, unary, sender = case
    kernels = [reference.gaussian_filter(f, np.eye(len(f))) for f in features]
    return reference.mean_field(
        unary, kernels, WEIGHTS, num_iterations, compatibility, sender, normalization
    )


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_matches_the_naive_loop(case, normalization):
    kernels = exact_kernels(case, normalization)
    result = infer(case[2], kernels, WEIGHTS, num_iterations=3)
    expected = naive(case, 3, normalization=normalization)
    # float32 energies of up to 40 (without normalization), rounded to 4e-6 at each iteration
    np.testing.assert_allclose(result, expected, atol=3e-5)


def test_a_full_compatibility_matches_the_naive_loop(case):
    compatibility = np.random.default_rng(1).uniform(-1, 1, (4, 4)).astype(np.float32)
    kernels = exact_kernels(case)
    result = infer(
        case[2], kernels, WEIGHTS, num_iterations=3, compatibility=jnp.asarray(compatibility)
    )
    # float32 sums of 30 messages, three times
    np.testing.assert_allclose(result, naive(case, 3, compatibility), atol=1e-5)


def test_no_iteration_gives_the_softmax(case):
    result = infer(case[2], exact_kernels(case), WEIGHTS, num_iterations=0)
    np.testing.assert_allclose(result, jax.nn.softmax(-case[2], axis=1), atol=1e-6)


def test_infinite_energies_rule_classes_out_and_keep_gradients_finite(case):
    unary = case[2].copy()
    unary[:, 1], unary[3, [0, 2]] = np.inf, np.inf
    kernels = exact_kernels(case)

    def loss(unary, weights):
        return infer(unary, kernels, weights, num_iterations=2)[:, 0].sum()

    result = infer(unary, kernels, WEIGHTS, num_iterations=2)
    np.testing.assert_array_equal(result[:, 1], 0)
    np.testing.assert_array_equal(result[3], [0, 0, 0, 1])
    gradients = jax.grad(loss, argnums=(0, 1))(unary, WEIGHTS)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_who_does_not_send_changes_nobody(case):
    unary, sender = case[2], case[3]
    silent = np.flatnonzero(sender == 0)
    other = unary.copy()
    other[silent] = 7 * other[silent] ** 2
    kernels = exact_kernels(case)
    expected = infer(unary, kernels, WEIGHTS, num_iterations=3)
    result = infer(other, kernels, WEIGHTS, num_iterations=3)
    np.testing.assert_array_equal(result[sender > 0], expected[sender > 0])


def test_who_hears_nobody_keeps_its_own_mind():
    features = np.array([[0.0], [1000.0]], np.float32)
    unary = np.array([[1.0, 2.0], [1.0, 3.0]], np.float32)
    kernel = make_kernel(build_lattice_on_host(features), np.array([1.0, 0.0], np.float32))
    result = infer(unary, (kernel,), np.ones(1, np.float32), num_iterations=3)
    np.testing.assert_allclose(result[1], jax.nn.softmax(-unary[1]), atol=1e-6)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("make", [build_lattice_on_host, lambda f: Pairs(f, np.ones(len(f), bool))])
def test_the_tail_of_the_kernel_is_not_heard(make, normalization):
    """Points 2, 3.5 and 5 widths from the only sender; its tail of 0.01 ends 3 widths away."""
    features = np.array([[0.0], [2.0], [3.5], [5.0]], np.float32)
    kernel = make_kernel(make(features), np.array([1, 0, 0, 0], np.float32), normalization)
    heard = jax.jit(module.messages)(kernel, np.ones((4, 1), np.float32))[:, 0]
    assert heard[0] > 0 and heard[1] > 0
    np.testing.assert_array_equal(heard[2:], 0)


@pytest.mark.parametrize("num_dims", [1, 3, 6])
def test_every_sender_hears_itself(num_dims):
    rng = np.random.default_rng(0)
    features = (30 * rng.normal(size=(200, num_dims))).astype(np.float32)
    kernel = make_kernel(build_lattice_on_host(features), np.ones(200, np.float32))
    sums = gaussian_filter(kernel.operator, np.ones((200, 1), np.float32))
    assert sums.min() > 5 * FAINTEST
    assert kernel.receive.min() > 0


def test_after_normalization_hears_means():
    features = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    kernel = make_kernel(build_lattice_on_host(features), np.ones(40, np.float32), "after")
    heard = jax.jit(module.messages)(kernel, np.full((40, 2), 0.25, np.float32))
    np.testing.assert_allclose(heard, 0.25, rtol=1e-5)


def test_gradients_of_unary_weights_and_compatibility(case):
    *features, unary, sender = case
    lattice = make_kernel(build_lattice_on_host(features[1]), sender)
    kernels = (exact_kernels(case)[0], lattice)

    def run(unary, weights, compatibility):
        return infer(unary, kernels, weights, num_iterations=2, compatibility=compatibility)

    arguments = (unary, WEIGHTS, POTTS.astype(np.float32))
    check_grads(run, arguments, order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_unknown_normalization_names_the_valid_ones(case):
    with pytest.raises(ValueError, match="'none', 'before', 'after', 'symmetric'"):
        exact_kernels(case, "rows")
