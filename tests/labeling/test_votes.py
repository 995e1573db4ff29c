"""Votes: what overlapping balls say about a voxel, whichever buckets they came in."""

import jax
import numpy as np
import pytest
from prepared import CONFIG, make_store

from mprm_jax.batches.shapes import calibrate
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.config import MiningConfig, ModelConfig
from mprm_jax.labeling.mining import make_mining, num_votes, scene_votes
from mprm_jax.models.mprm import Mprm
from mprm_jax.overrides import override
from mprm_jax.training.answers import ReadyNetwork
from mprm_jax.training.parallel import make_mesh
from mprm_jax.training.steps import Predicted


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


def votes_of(store, num_devices=2, changes=(), progress=lambda _: None, scenes=None):
    """Votes of a network that says each point's color: as many channels as classes."""
    subclouds = TaggedBalls(store, "train", CONFIG)
    config = override(calibrate(CONFIG, subclouds), changes)
    subclouds = TaggedBalls(store, "train", config)
    mesh = make_mesh(jax.devices()[:num_devices])
    scenes = range(len(subclouds.scenes)) if scenes is None else scenes

    def predict(_, batch):
        return Predicted(batch.features[:, 1:], {})

    votes = scene_votes(ReadyNetwork(predict, None, config, mesh), subclouds, scenes, progress)
    return subclouds, list(votes)


def balls_of(subclouds, scene):
    """Rows and tags of every ball of a scene."""
    indices = np.flatnonzero(subclouds.scene_of == scene)
    return [(whole_ball(subclouds, index), subclouds.tags[index]) for index in indices]


def whole_ball(subclouds, index):
    """Rows within a ball's radius, whatever a bucket holds."""
    coords = subclouds.clouds.cloud(int(subclouds.scene_of[index])).coords
    away = np.linalg.norm(coords - subclouds.centers[index], axis=1)
    return np.flatnonzero(away < subclouds.radii[index])


def test_scenes_come_in_the_order_asked_for(store):
    _, votes = votes_of(store, scenes=[2, 0])
    assert [scene for scene, _ in votes] == [2, 0]


# Tags need no network: a ball too large for a bucket is evidence for all of its voxels.
TOO_SMALL = pytest.mark.parametrize("changes", [[], ["pyramid.bucket_points=60"]])


@TOO_SMALL
def test_a_voxel_counts_the_balls_that_hold_it(store, changes):
    subclouds, votes = votes_of(store, changes=changes)
    for scene, vote in votes:
        expected = np.zeros(len(vote.num_balls), int)
        for rows, _ in balls_of(subclouds, scene):
            expected[rows] += 1
        np.testing.assert_array_equal(vote.num_balls, expected)


@TOO_SMALL
def test_a_voxel_counts_the_tags_of_its_balls(store, changes):
    subclouds, votes = votes_of(store, changes=changes)
    for scene, vote in votes:
        expected = np.zeros(vote.num_tagged.shape, int)
        for rows, tags in balls_of(subclouds, scene):
            expected[rows] += tags
        np.testing.assert_array_equal(vote.num_tagged, expected)


@pytest.mark.parametrize("changes", [[], ["pyramid.bucket_points=60"], ["mining.votes=3"]])
def test_scores_return_to_the_voxel_they_were_said_of(store, changes):
    """Also those of a ball too large for a bucket, which votes in parts; and of moved ones."""
    subclouds, votes = votes_of(store, changes=changes)
    for scene, vote in votes:
        covered = vote.num_balls > 0
        assert covered.any()
        colors = store.voxel_cloud("train", subclouds.scenes[scene]).colors / 255
        # Means of equal float32 values
        np.testing.assert_allclose(vote.scores[covered], colors[covered], atol=1e-6)
        assert not vote.scores[~covered].any()


@TOO_SMALL
def test_progress_counts_every_vote(store, changes):
    seen = []
    changes = [*changes, "mining.votes=2"]
    subclouds, _ = votes_of(store, changes=changes, progress=seen.append)
    scenes = range(len(subclouds.scenes))
    assert sum(seen) == num_votes(subclouds, MiningConfig(votes=2), scenes)
    assert (sum(seen) > 2 * len(subclouds)) == (subclouds.num_thinned > 0)


def test_a_path_that_was_not_trained_is_named():
    model = Mprm(3, ModelConfig(paths=("plain",)), voxel_size=0.1)
    with pytest.raises(ValueError, match="no path 'spatial'; it was trained with plain"):
        make_mining(model, MiningConfig(paths=("spatial",)))
