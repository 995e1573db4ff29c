import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clouds import bucket, emptied, pack, surface_cloud, widened

from mprm_jax.config import ModelConfig
from mprm_jax.models.unet import UNet
from mprm_jax.presets import PRESETS

pytestmark = pytest.mark.slow

# mprm training_segmentation.py, counted from the shapes of its variables.
PAPER_PARAMETERS = {
    "level0_simple": 3_968,
    "level0_block": 30_336,
    "level0_stride": 23_936,
    "level1_block": 120_064,
    "level1_stride": 94_976,
    "level2_block": 564_141,
    "level2_stride": 464_813,
    "level3_block": 2_078_509,
    "level3_stride": 1_683_245,
    "level4_block": 7_958_061,
    "level3_decoder": 1_573_888,
    "level2_decoder": 262_656,
    "level1_decoder": 65_792,
    "level0_decoder": 16_512,
    "head": 4_224,
    "classifier": 1_300,
}
CLOUDS = [surface_cloud(40, 0), surface_cloud(30, 1)]
# Compiles in a fifth of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Network:
    """A small network on three levels, with the statistics of the data."""

    def __init__(self, deformable):
        config = ModelConfig(
            first_features=8, deformable=deformable, first_deformable=1, head_bias=True
        )
        self.net = UNet(5, config, voxel_size=0.08)
        self.apply = jit(self.net.apply)
        self.train_step = jit(self._train_step)
        initial = jax.device_get(jit(self.net.init)(jax.random.key(0), *bucket(CLOUDS)))
        _, (new, old) = jax.device_get(self.train_step(initial, *bucket(CLOUDS)))
        stats = jax.tree.map(lambda new, old: (new - 0.98 * old) / 0.02, new, old)
        self.variables = {"params": initial["params"], "batch_stats": stats}

    def __call__(self, full):
        return np.asarray(self.apply(self.variables, *full))

    def _train_step(self, variables, pyramid, features):
        """Gradients of the valid logits and sown losses, and (new, old) statistics."""
        valid = pyramid.clouds[0] < pyramid.num_clouds

        def loss(params, stats):
            logits, updated = self.net.apply(
                {"params": params, "batch_stats": stats},
                pyramid,
                features,
                train=True,
                rngs={"dropout": jax.random.key(1)},
                mutable=["batch_stats", "losses"],
            )
            sown = sum(jax.tree.leaves(updated.get("losses", {})), 0.0)
            squares = jnp.square(logits - jnp.arange(5.0)[None])
            return jnp.sum(jnp.where(valid[:, None], squares, 0.0)) + sown, updated["batch_stats"]

        stats = variables["batch_stats"]
        grads, updated = jax.grad(loss, has_aux=True)(variables["params"], stats)
        return grads, (updated, stats)


@pytest.fixture(scope="module", params=[False, True], ids=["rigid", "deformable"])
def network(request):
    return Network(request.param)


def test_paper_preset_has_the_parameters_of_the_released_network():
    config = PRESETS["paper"]("seg")
    net = UNet(20, config.model, voxel_size=0.04)
    pyramid = pack(CLOUDS[:1], rows=(96, 48, 24, 12, 12))
    params = jax.eval_shape(net.init, jax.random.key(0), pyramid, np.ones((96, 4), np.float32))
    blocks = {**params["params"]["encoder"], **params["params"]}
    del blocks["encoder"]
    sizes = {name: sum(x.size for x in jax.tree.leaves(block)) for name, block in blocks.items()}
    assert sizes == PAPER_PARAMETERS
    assert sum(sizes.values()) == 14_946_421


def test_every_row_gets_a_score_per_class(network):
    assert network(bucket(CLOUDS)).shape == (96, 5)


def test_other_clouds_and_their_order_change_no_result(network):
    both, alone, swapped = map(network, map(bucket, (CLOUDS, CLOUDS[1:], CLOUDS[::-1])))
    # Sums of the same terms, grouped differently.
    np.testing.assert_allclose(alone[:30], both[40:70], atol=1e-5)
    np.testing.assert_allclose(swapped[:30], both[40:70], atol=1e-5)
    np.testing.assert_allclose(swapped[30:70], both[:40], atol=1e-5)


def test_more_padding_changes_no_result(network):
    many = network(widened(bucket(CLOUDS, rows=(128, 64, 32), num_clouds=4)))
    np.testing.assert_allclose(many[:70], network(bucket(CLOUDS))[:70], atol=1e-5)


def test_bucket_of_padding_gives_finite_values_and_gradients(network):
    empty = emptied(bucket(CLOUDS))
    step = network.train_step(network.variables, *empty)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((network(empty), step)))


def test_every_parameter_receives_a_gradient(network):
    grads, _ = network.train_step(network.variables, *bucket(CLOUDS))
    silent = [
        jax.tree_util.keystr(path)
        for path, grad in jax.tree_util.tree_leaves_with_path(grads)
        if not np.abs(grad).max() > 0
    ]
    assert not silent


def test_the_color_of_one_point_reaches_many(network):
    changed = bucket([CLOUDS[0], CLOUDS[1]])
    changed.features[0, 1] += 1.0
    moved = np.abs(network(changed) - network(bucket(CLOUDS)))[:40].max(axis=1)
    assert np.sum(moved > 1e-6) > 20
