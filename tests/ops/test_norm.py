import jax
import numpy as np
from jax.test_util import check_grads

from mprm_jax.ops.norm import masked_moments

moments = jax.jit(masked_moments, static_argnums=2)


def rows():
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32) + 5.0
    return x, np.arange(10) % 3 > 0


def test_matches_the_moments_of_the_valid_rows():
    x, mask = rows()
    mean, var = moments(x, mask, None)
    np.testing.assert_allclose(mean, x[mask].mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, x[mask].var(0), rtol=1e-5)


def test_no_valid_row_gives_zero():
    x, mask = rows()
    np.testing.assert_array_equal(moments(x, mask & False, None), np.zeros((2, 3)))


def test_large_means_do_not_cancel():
    x, mask = rows()
    _, var = moments(x + 1e3, mask, None)
    # 1e3 leaves float32 a resolution of 6e-5 around variances of 1
    np.testing.assert_allclose(var, x[mask].var(0), rtol=1e-3)


def test_gradient():
    x, mask = rows()
    check_grads(lambda x: moments(x, mask, None), (x,), order=1, modes=["rev"], rtol=1e-2)


def test_four_devices_with_unequal_counts_give_the_moments_of_one():
    x = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    x += np.repeat(np.arange(4.0, dtype=np.float32), 6)[:, None]
    mask = np.concatenate([np.arange(6) < count for count in (6, 1, 0, 2)])
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.jit(
        jax.shard_map(
            lambda x, mask: masked_moments(x, mask, "data"),
            mesh=mesh,
            in_specs=(jax.P("data"), jax.P("data")),
            out_specs=jax.P(),
        )
    )
    np.testing.assert_allclose(spread(x, mask), moments(x, mask, None), rtol=1e-5)
