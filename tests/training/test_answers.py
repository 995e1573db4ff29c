"""Asking a network about balls: whatever the scan, no row of it is left out."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_source import CLASSES, FakeSource
from prepared import CONFIG

from mprm_jax.batches.covering import CoveringBalls
from mprm_jax.batches.shapes import calibrate, calibrate_candidates
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.ops.pooling import nearest_upsample
from mprm_jax.overrides import override
from mprm_jax.scans.scene import Scene
from mprm_jax.store.prepare import prepare
from mprm_jax.store.scenes import StoredClouds
from mprm_jax.training.answers import Answers, ReadyNetwork
from mprm_jax.training.parallel import make_mesh
from mprm_jax.training.steps import make_predict_step

SIZE = 4.0  # meters


def surface(spacing):
    """A floor with a wall, points about `spacing` apart; no two distances are equal."""
    steps = np.arange(0, SIZE, spacing)
    x, y = map(np.ravel, np.meshgrid(steps, steps))
    floor = np.stack([x, y, 0 * x], axis=1)
    points = np.concatenate([floor, np.stack([x, 0 * x, y + spacing], axis=1)])
    return points + np.random.default_rng(0).normal(0, 0.005, points.shape)


def mixed():
    """One half dense, the other sparse."""
    dense, sparse = surface(0.16), surface(0.7)
    return np.concatenate([dense[dense[:, 0] < SIZE / 2], sparse[sparse[:, 0] > SIZE / 2]])


SCANS = {"dense": surface(0.16), "sparse": surface(0.9), "mixed": mixed()}


def scene(coords):
    rng = np.random.default_rng(len(coords))
    labels = rng.integers(0, len(CLASSES), len(coords)).astype(np.int32)
    colors = rng.integers(0, 256, coords.shape).astype(np.uint8)
    return Scene(coords, colors, labels, None, None)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    scenes = {f"train/{name}": scene(coords) for name, coords in SCANS.items()}
    return prepare(FakeSource(path / "scans", scenes), path / "store", CONFIG.data, workers=0).store


@functools.cache
def trained(store, builder):
    """Sizes of a run that saw nothing but the dense scan."""
    config = override(CONFIG, [f"pyramid.builder={builder}"])
    balls = CoveringBalls(StoredClouds(store, "train", ["dense"]), len(CLASSES), config, 1)
    return calibrate_candidates(calibrate(config, balls), balls)


def heard(variables, batch):
    """What of a ball reaches the top and comes back: color sums of all levels' clouds, by row."""
    scores, pyramid = batch.features, batch.pyramid
    for pools in pyramid.pools:
        rows = jnp.concatenate([scores, jnp.zeros((1, scores.shape[1]))])
        scores = rows[pools].sum(axis=1) / pools.shape[1]
    for upsamples in reversed(pyramid.upsamples):
        scores = nearest_upsample(scores, upsamples) + 1.0
    return jnp.where((pyramid.clouds[0] < pyramid.num_clouds)[:, None], scores, 0.0)


def answers_of(balls, config, groups, num_devices=2, epoch=None):
    mesh = make_mesh(jax.devices()[:num_devices])
    predict = make_predict_step(lambda variables, batch: heard(variables, batch), mesh)
    state = jax.device_put(NoState(), jax.NamedSharding(mesh, jax.P()))
    with Answers(ReadyNetwork(predict, state, config, mesh), balls) as answers:
        return list(answers.of_rows(groups, epoch))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class NoState:
    variables: None = None


def one_ball_per_bucket(balls, config):
    """The same, with room for everything and no company."""
    rows = config.pyramid.bucket_points
    alone = override(config, [f"pyramid.coarse_points={(rows,) * 2}", "pyramid.max_clouds=1"])
    groups = [np.array([i]) for i in range(len(balls))]
    return dict(answers_of(balls, alone, groups, num_devices=1))


@pytest.mark.parametrize("name", SCANS)
def test_sparse_dense_and_mixed_scans_answer_as_with_a_bucket_for_each_ball(store, name):
    config = trained(store, "host")
    balls = CoveringBalls(StoredClouds(store, "train", [name]), len(CLASSES), config, 2)
    found = answers_of(balls, config, [np.arange(len(balls))])
    assert sorted(index for index, _ in found) == list(range(len(balls)))
    expected = one_ball_per_bucket(balls, config)
    for index, rows in found:
        assert rows.shape == (balls.num_points[index], 4)
        np.testing.assert_allclose(rows, expected[index], atol=1e-5)
        # A row without a coarse one would say 1 or 2 at most, from its own level on.
        assert (rows[:, 0] >= 2).all()


def test_the_training_sizes_are_too_small_for_the_sparse_scan(store):
    """Else the test above would show nothing."""
    config = trained(store, "host")
    balls = CoveringBalls(StoredClouds(store, "train", ["sparse"]), len(CLASSES), config, 2)
    sizes = np.array([balls.level_sizes(i, None) for i in range(len(balls))])
    share = sizes.sum(axis=0) / (config.pyramid.bucket_points, *config.pyramid.coarse_points)
    assert share[1:].max() > 1.5 * share[0]


@pytest.mark.parametrize("builder", ["host", pytest.param("device", marks=pytest.mark.slow)])
def test_a_single_ball_that_needs_more_coarse_rows_gets_them(store, builder):
    config = override(trained(store, builder), ["pyramid.coarse_points=(16, 8)"])
    balls = CoveringBalls(StoredClouds(store, "train", ["sparse"]), len(CLASSES), config, 1)
    found = dict(answers_of(balls, config, [np.arange(len(balls))]))
    assert sorted(found) == list(range(len(balls)))
    expected = one_ball_per_bucket(balls, override(config, ["pyramid.builder=host"]))
    for index, rows in found.items():
        np.testing.assert_allclose(rows, expected[index], atol=1e-5)


def test_moved_balls_that_are_asked_about_keep_their_colors_and_are_not_mixed(store):
    config = trained(store, "host")
    balls = CoveringBalls(StoredClouds(store, "train", ["dense"]), len(CLASSES), config, 1)
    groups = [np.arange(len(balls))]
    dropping = override(config, ["augment.drop_color=1", "augment.mix=1"])
    found, expected = (dict(answers_of(balls, x, groups, epoch=3)) for x in (dropping, config))
    for index, rows in found.items():
        np.testing.assert_array_equal(rows, expected[index])


def test_moved_balls_are_whole_too(store):
    config = override(trained(store, "host"), ["pyramid.coarse_points=(16, 8)"])
    balls = CoveringBalls(StoredClouds(store, "train", ["mixed"]), len(CLASSES), config, 1)
    for _, rows in answers_of(balls, config, [np.arange(len(balls))], epoch=3):
        assert (rows[:, 0] >= 2).all()


def test_a_scene_answers_the_same_to_the_bit_with_others_and_on_more_devices(store):
    config = trained(store, "host")
    balls = CoveringBalls(StoredClouds(store, "train", list(SCANS)), len(CLASSES), config, 1)
    groups = [np.flatnonzero(balls.scene_of == i) for i in range(3)]
    together = dict(answers_of(balls, config, groups, num_devices=4))
    for group in groups:
        for index, rows in answers_of(balls, config, [group], num_devices=1):
            np.testing.assert_array_equal(rows, together[index])


def test_clouds_answer_one_by_one(store):
    config = override(trained(store, "host"), ["pyramid.coarse_points=(16, 8)"])
    balls = TaggedBalls(store, "train", config)
    mesh = make_mesh(jax.devices()[:2])

    def places(variables, batch):
        counts = jax.ops.segment_sum(
            jnp.ones(len(batch.features)), batch.pyramid.clouds[0], batch.pyramid.num_clouds
        )
        return counts[:, None]

    predict = make_predict_step(places, mesh)
    state = jax.device_put(NoState(), jax.NamedSharding(mesh, jax.P()))
    with Answers(ReadyNetwork(predict, state, config, mesh), balls) as answers:
        found = dict(answers.of_clouds([np.arange(len(balls))]))
    assert {index: int(count[0]) for index, count in found.items()} == {
        i: int(count) for i, count in enumerate(balls.num_points)
    }


def test_no_balls_give_no_answers(store):
    config = trained(store, "host")
    balls = CoveringBalls(StoredClouds(store, "train", ["sparse"]), len(CLASSES), config, 1)
    assert answers_of(balls, config, []) == answers_of(balls, config, [np.arange(0)]) == []
