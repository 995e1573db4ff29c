import jax
import numpy as np
import reference
from jax.test_util import check_grads

from mprm_jax.ops.losses import multilabel_loss

loss = jax.jit(multilabel_loss)


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
