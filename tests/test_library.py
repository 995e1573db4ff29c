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
