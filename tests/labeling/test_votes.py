"""Votes: what overlapping balls say about a voxel, whichever buckets they came in."""

import jax
import numpy as np
import pytest
from prepared import CONFIG, make_store

from mprm_jax.data.shapes import calibrate
from mprm_jax.data.subclouds import Subclouds
from mprm_jax.labeling.pseudo_labels import mean_scores
from mprm_jax.labeling.votes import scene_votes
from mprm_jax.overrides import override
from mprm_jax.training.parallel import make_mesh


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


def votes_of(store, num_devices=2, changes=(), progress=lambda _: None):
    """Votes of a network that says each point's color: as many channels as classes."""
    subclouds = Subclouds(store, "train", CONFIG)
    config = override(calibrate(CONFIG, subclouds), changes)
    subclouds = Subclouds(store, "train", config)
    mesh = make_mesh(jax.devices()[:num_devices])

    def predict(_, batch):
        return batch.features[:, 1:]

    return subclouds, list(scene_votes(predict, None, subclouds, config, mesh, progress))


def balls_of(subclouds, scene):
    """Rows and tags of every ball of a scene."""
    place = subclouds.scenes.index(scene)
    indices = np.flatnonzero(subclouds.scene_of == place)
    return [(subclouds.read(index).rows, subclouds.tags[index]) for index in indices]


def test_every_scene_is_yielded_once(store):
    subclouds, votes = votes_of(store)
    assert sorted(scene for scene, _ in votes) == sorted(subclouds.scenes)


def test_a_voxel_counts_the_balls_that_hold_it(store):
    subclouds, votes = votes_of(store)
    for scene, vote in votes:
        expected = np.zeros(len(vote.num_balls), int)
        for rows, _ in balls_of(subclouds, scene):
            expected[rows] += 1
        np.testing.assert_array_equal(vote.num_balls, expected)


def test_a_voxel_counts_the_tags_of_its_balls(store):
    subclouds, votes = votes_of(store)
    for scene, vote in votes:
        expected = np.zeros(vote.num_tagged.shape, int)
        for rows, tags in balls_of(subclouds, scene):
            expected[rows] += tags
        np.testing.assert_array_equal(vote.num_tagged, expected)


def test_scores_return_to_the_voxel_they_were_said_of(store):
    _, votes = votes_of(store)
    for scene, vote in votes:
        covered = vote.num_balls > 0
        colors = store.voxel_cloud("train", scene).colors / 255
        # Means of equal float32 values
        np.testing.assert_allclose(mean_scores(vote)[covered], colors[covered], atol=1e-6)


def test_the_number_of_devices_changes_nothing(store):
    one, four = (dict(votes_of(store, num_devices)[1]) for num_devices in (1, 4))
    for scene, vote in one.items():
        for a, b in zip(vote, four[scene], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)  # a different order of sums


def test_progress_counts_every_subcloud(store):
    seen = []
    subclouds, _ = votes_of(store, progress=seen.append)
    assert sum(seen) == len(subclouds)


def test_a_thinned_ball_votes_with_the_points_it_kept(store):
    _, votes = votes_of(store, changes=["pyramid.bucket_points=60"])
    for scene, vote in votes:
        covered = vote.num_balls > 0
        colors = store.voxel_cloud("train", scene).colors / 255
        np.testing.assert_allclose(mean_scores(vote)[covered], colors[covered], atol=1e-6)
