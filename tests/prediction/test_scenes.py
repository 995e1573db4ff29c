"""Segmentation of whole scenes: every voxel is seen, and its probabilities come back to it."""

import jax
import numpy as np
import pytest
from prepared import CONFIG, make_store

from mprm_jax.batches.covering import CoveringBalls
from mprm_jax.batches.shapes import calibrate
from mprm_jax.prediction.scenes import segment
from mprm_jax.store.scenes import CloudArrays, LooseClouds, StoredClouds
from mprm_jax.training.answers import ReadyNetwork
from mprm_jax.training.parallel import make_mesh
from mprm_jax.training.steps import Predicted


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def config(store):
    return calibrate(CONFIG, CoveringBalls(StoredClouds(store, "train"), 3, CONFIG, 1))


def colors(_, batch):
    """A network that says the color of each point: as many channels as classes."""
    return Predicted(batch.features[:, 1:], {})


def segmented(clouds, config, rounds=1, num_devices=2, **changes):
    balls = CoveringBalls(clouds, 3, config, rounds)
    mesh = make_mesh(jax.devices()[:num_devices])
    return dict(segment(ReadyNetwork(colors, None, config, mesh), balls, **changes))


def test_scenes_come_in_order(store, config):
    found = segmented(StoredClouds(store, "train"), config)
    assert list(found) == list(store.scenes("train"))


def test_some_scenes_can_be_asked_for(store, config):
    found = segmented(StoredClouds(store, "train"), config, scenes=[2, 1])
    assert list(found) == ["room2", "room1"]


@pytest.mark.parametrize("rounds", [1, 3])
def test_every_voxel_is_seen_in_every_round(store, config, rounds):
    for scene in segmented(StoredClouds(store, "train"), config, rounds).values():
        assert scene.num_seen.min() >= rounds


@pytest.mark.parametrize("augment", [False, True])
def test_what_is_said_of_a_voxel_returns_to_it(store, config, augment):
    found = segmented(StoredClouds(store, "train"), config, 2, augment=augment)
    for name, scene in found.items():
        expected = store.voxel_cloud("train", name).colors / 255
        # Means of equal float32 values
        np.testing.assert_allclose(scene.probabilities, expected, atol=1e-6)


def test_the_number_of_devices_changes_nothing(store, config):
    one, four = (segmented(StoredClouds(store, "train"), config, 2, n) for n in (1, 4))
    for name, scene in one.items():
        np.testing.assert_array_equal(scene.probabilities, four[name].probabilities)


def test_progress_counts_every_ball(store, config):
    seen = []
    clouds = StoredClouds(store, "train")
    segmented(clouds, config, 2, progress=seen.append)
    assert sum(seen) == len(CoveringBalls(clouds, 3, config, 2))


def test_a_cloud_of_no_store_can_be_segmented(config):
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 3, (700, 3)).astype(np.float32)
    cloud = CloudArrays(coords, rng.integers(0, 256, (700, 3)).astype(np.uint8))
    (scene,) = segmented(LooseClouds({"mine": cloud}, "mine.ply"), config).values()
    np.testing.assert_allclose(scene.probabilities, cloud.colors / 255, atol=1e-6)
