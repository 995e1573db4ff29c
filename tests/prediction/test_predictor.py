"""Prediction of whole clouds: tiles change nothing, and every point has an answer."""

import functools

import jax
import numpy as np
import pytest
from prepared import CONFIG, make_store

from mprm_jax.batches.covering import CoveringBalls
from mprm_jax.batches.shapes import calibrate
from mprm_jax.prediction.network import most_probable
from mprm_jax.prediction.predictor import NOWHERE, Predictor, PredictSettings, VoxelizedScan
from mprm_jax.prediction.scenes import segment
from mprm_jax.store.scenes import CloudArrays, LooseClouds, StoredClouds
from mprm_jax.training.answers import ReadyNetwork
from mprm_jax.training.parallel import make_mesh
from mprm_jax.training.steps import Predicted


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("data"))
    return calibrate(CONFIG, CoveringBalls(StoredClouds(store, "train"), 3, CONFIG, 1))


def voxels(num_voxels=700, width=4.0):
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, width, (num_voxels, 3)).astype(np.float32)
    coords[:, 2] /= 2
    return CloudArrays(coords, rng.integers(0, 256, (num_voxels, 3)).astype(np.uint8))


def colors(_, batch):
    """A network whose classes are red, green and blue."""
    features = np.asarray(batch.features)[:, 1:] + 1e-3
    return Predicted(features / features.sum(axis=1, keepdims=True), {})


def surroundings(_, batch):
    """A network to which the number of points of a ball and their place in it matter."""
    clouds = np.asarray(batch.pyramid.clouds[0])
    sizes = np.bincount(clouds)[clouds].astype(np.float32)
    points = np.abs(np.asarray(batch.pyramid.points[0]))
    return Predicted(np.stack([points[:, 0], points[:, 1], sizes / 1000], axis=1) / 3, {})


def predictor(config, network=colors, num_devices=2, **settings):
    mesh = make_mesh(jax.devices()[:num_devices])
    ready = ReadyNetwork(network, None, config, mesh)
    choose = functools.partial(most_probable, allowed=np.ones(3, bool))
    return Predictor(ready, 3, PredictSettings(**settings), choose)


def predicted(config, cloud, *arguments, **settings):
    return predictor(config, *arguments, **settings).voxels(cloud, "a.ply", lambda _: None)


@pytest.mark.parametrize("tile_voxels", [40, 250])
@pytest.mark.parametrize("augment", [False, True])
def test_tiles_change_nothing(config, tile_voxels, augment):
    whole = predicted(config, voxels(), augment=augment)
    tiled = predicted(config, voxels(), tile_voxels=tile_voxels, augment=augment)
    np.testing.assert_array_equal(tiled.label, whole.label)
    # Means of equal float32 values
    np.testing.assert_allclose(tiled.confidence, whole.confidence, atol=1e-6)


def test_each_voxel_has_its_own_answer(config):
    shares = voxels().colors / 255 + 1e-3
    shares = shares / shares.sum(axis=1, keepdims=True)
    found = predicted(config, voxels(), tile_voxels=100, votes=2)
    np.testing.assert_array_equal(found.label, shares.argmax(axis=1))
    np.testing.assert_allclose(found.confidence, shares.max(axis=1), atol=1e-6)


@pytest.mark.parametrize("votes", [1, 3])
def test_one_tile_is_what_segment_says(config, votes):
    found = predicted(config, voxels(), surroundings, votes=votes)
    balls = CoveringBalls(LooseClouds({"a": voxels()}, "a.ply"), 3, config, votes)
    ready = ReadyNetwork(surroundings, None, config, make_mesh(jax.devices()[:2]))
    ((_, expected),) = segment(ready, balls)
    np.testing.assert_array_equal(found.label, expected.probabilities.argmax(axis=1))
    np.testing.assert_allclose(found.confidence, expected.probabilities.max(axis=1), atol=1e-6)


def test_the_number_of_devices_changes_nothing(config):
    one, four = (predicted(config, voxels(), surroundings, n, tile_voxels=100) for n in (1, 4))
    np.testing.assert_array_equal(one.label, four.label)
    np.testing.assert_array_equal(one.confidence, four.confidence)


def test_confidence_is_never_above_one(config):
    def sure(_, batch):
        return Predicted(np.tile(np.float32([1 + 1e-6, 0, 0]), (len(batch.features), 1)), {})

    assert predicted(config, voxels(), sure, votes=3).confidence.max() == 1


def test_progress_adds_up_to_the_whole_cloud(config):
    shares = []
    ask = predictor(config, tile_voxels=100, votes=2)
    ask.voxels(voxels(), "a.ply", shares.append)
    assert sum(shares) == pytest.approx(1) and min(shares) > 0


def test_every_point_has_the_answer_of_its_voxel(config):
    cloud = voxels()
    point_voxel = np.random.default_rng(1).integers(0, 700, 2000).astype(np.int32)
    point_voxel[5] = NOWHERE
    scan = VoxelizedScan(None, cloud, point_voxel)
    found = predictor(config).points(scan, "a.ply", lambda _: None)
    of_voxels = predicted(config, cloud)
    for i, voxel in enumerate(point_voxel):
        expected = (of_voxels.label[voxel], of_voxels.confidence[voxel]) if i != 5 else (-1, 0)
        assert (found.label[i], found.confidence[i]) == expected
    assert np.all(np.delete(found.label, 5) >= 0)


def test_types_stay_small(config):
    scan = VoxelizedScan(None, voxels(), np.array([0, NOWHERE], np.int32))
    found = predictor(config).points(scan, "a.ply", lambda _: None)
    assert (found.label.dtype, found.confidence.dtype) == (np.int16, np.float32)


@pytest.mark.parametrize("name", ["votes", "tile_voxels"])
def test_impossible_settings_are_refused(name):
    with pytest.raises(ValueError, match=rf"^{name} is 0; give 1 or more"):
        PredictSettings(**{name: 0})
