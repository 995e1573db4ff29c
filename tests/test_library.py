"""The package from a notebook: what it exports, networks in one's own loop, examples that run."""

import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from clouds import surface_cloud

import mprm_jax

DOCS = Path(__file__).parents[1] / "docs"
WITH_EXAMPLES = ["mprm_jax.clouds", "mprm_jax.crf.refinement"]


def test_importing_the_package_loads_nothing():
    check = (
        "heavy = {'jax', 'flax', 'numpy', 'scipy'} & sys.modules.keys(); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", f"import sys, mprm_jax; {check}"], check=True)


def test_naming_the_networks_starts_no_device():
    build = "import mprm_jax; mprm_jax.Mprm(num_classes=3), mprm_jax.UNet(num_classes=3)"
    names = "[getattr(mprm_jax, name) for name in mprm_jax.__all__]"
    # The first use of a device would end in an error: there is no such platform.
    environment = os.environ | {"JAX_PLATFORMS": "none"}
    subprocess.run([sys.executable, "-c", f"{build}; {names}"], check=True, env=environment)


@pytest.mark.parametrize("name", mprm_jax.__all__)
def test_every_name_exists_and_is_explained(name):
    assert getattr(mprm_jax, name).__doc__


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        mprm_jax.lod  # noqa: B018


def test_the_documentation_lists_what_is_exported():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)", text, re.M)) == set(mprm_jax.__all__)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_run(module):
    found = importlib.import_module(module)
    result = doctest.testmod(found, extraglobs={"np": np, "mprm_jax": mprm_jax})
    assert result.attempted and not result.failed


def test_a_network_trains_in_a_loop_of_ones_own(key):
    coords = mprm_jax.voxelize(surface_cloud(60, 0), 0.08).coords
    pyramid = mprm_jax.pyramid(coords, voxel_size=0.08, num_levels=2, first_deformable=None)
    features = np.column_stack([np.ones(len(coords)), np.sin(9 * coords)]).astype(np.float32)
    config = mprm_jax.ModelConfig(
        first_features=4, attention_features=4, deformable=False, paths=("plain", "channel")
    )
    model = mprm_jax.Mprm(num_classes=3, config=config, voxel_size=0.08)
    with pytest.raises(ValueError, match="rows of features for"):
        model.init(key, pyramid, features[:-1])
    variables = model.init(key, pyramid, features)
    params, stats = variables["params"], variables["batch_stats"]
    optimizer = optax.adam(1e-2)
    tags = np.array([[True, False, True]])

    @jax.jit
    def step(params, stats, state):
        def loss(params):
            output, updates = model.apply(
                {"params": params, "batch_stats": stats},
                pyramid,
                features,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )
            losses = [
                mprm_jax.multilabel_loss(logits, tags, pyramid.real)
                for logits in output.class_logits
            ]
            return sum(x.total / x.count for x in losses), updates["batch_stats"]

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), stats, state, value

    state, losses = optimizer.init(params), []
    for _ in range(8):
        params, stats, state, value = step(params, stats, state)
        losses.append(float(value))
    assert losses[-1] < losses[0]
    scores = model.apply({"params": params, "batch_stats": stats}, pyramid, features)
    assert scores.class_logits.shape == (2, 1, 3)


def test_a_network_on_two_devices_of_ones_own_mesh_is_that_of_one(key):
    config = mprm_jax.ModelConfig(
        first_features=4, attention_features=4, deformable=False, paths=("plain",), dropout=0.0
    )
    clouds = [mprm_jax.voxelize(surface_cloud(90, seed), 0.08).coords for seed in (0, 1)]

    def read(clouds, rows):
        levels = {"num_levels": 2, "first_deformable": None, "max_neighbors": 40, "rows": rows}
        pyramid = mprm_jax.pyramid(clouds, 0.08, **levels)
        colors = np.sin(9 * pyramid.points[0])
        return pyramid, np.column_stack([np.ones(len(colors)), colors]).astype(np.float32)

    def trained(axis_name):
        net = mprm_jax.Mprm(3, config, 0.08, axis_name)
        return lambda *inputs: net.apply(*inputs, train=True, mutable=["batch_stats"])

    whole = read(clouds, (192, 96))
    apart = jax.tree.map(lambda *x: np.concatenate(x), *(read([x], (96, 48)) for x in clouds))
    variables = mprm_jax.Mprm(3, config, 0.08).init(key, *whole)
    mesh = jax.make_mesh(
        (2,), ("mine",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2]
    )
    by_cloud = mprm_jax.MprmOutput(jax.P(None, "mine"), jax.P(None, "mine"))
    specs = {"in_specs": (jax.P(), jax.P("mine")), "out_specs": (by_cloud, jax.P())}
    step = trained("mine")
    spread = jax.shard_map(lambda v, x: step(v, *x), mesh=mesh, check_vma=False, **specs)
    output, updates = jax.jit(spread)(variables, apart)
    expected, statistics = jax.jit(trained(None))(variables, *whole)
    # Sums over devices are taken in another order.
    np.testing.assert_allclose(output.class_logits, expected.class_logits, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), updates, statistics)
