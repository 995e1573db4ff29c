"""Covering balls: every pass visits every voxel, with the labels that are to be learned."""

import dataclasses

import numpy as np
import pytest
from prepared import CONFIG, make_store

from mprm_jax.batches.covering import CoveringBalls
from mprm_jax.batches.loader import Loader
from mprm_jax.batches.plan import epoch_plan
from mprm_jax.batches.shapes import calibrate
from mprm_jax.overrides import override
from mprm_jax.store.scenes import CloudArrays, LooseClouds, StoredClouds
from mprm_jax.store.targets import TrueLabels
from mprm_jax.store.truth import voxel_labels
from mprm_jax.types import IGNORED

COVERS = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


def covering(store, config=CONFIG, with_targets=False):
    targets = TrueLabels(store, "train") if with_targets else None
    return CoveringBalls(StoredClouds(store, "train"), 3, config, COVERS, targets)


@pytest.fixture(scope="module")
def balls(store):
    return covering(store)


def visits(balls, members):
    """How often each voxel of each scene is visited."""
    counts = [np.zeros(balls.num_voxels(scene), int) for scene in range(len(balls.scenes))]
    for index in members:
        counts[balls.scene_of[index]][balls.read(index).rows] += 1
    return counts


@pytest.mark.parametrize("bucket_points", [512, 40])
def test_every_pass_visits_every_voxel(store, bucket_points):
    balls = covering(store, override(CONFIG, [f"pyramid.bucket_points={bucket_points}"]))
    for members in balls.passes:
        assert min(count.min() for count in visits(balls, members)) >= 1


def test_every_epoch_visits_every_voxel(balls):
    for epoch in range(5):
        plan = epoch_plan(
            balls.passes,
            balls.num_points,
            draws=0,
            max_points=512,
            max_clouds=8,
            buckets_per_step=2,
            seed=0,
            epoch=epoch,
        )
        members = [index for step in plan for bucket in step for index in bucket]
        assert min(count.min() for count in visits(balls, members)) >= 1


def test_passes_share_the_balls_out(balls):
    assert len(balls.passes) == COVERS
    assert sorted(np.concatenate(balls.passes)) == list(range(len(balls)))


def test_balls_stand_in_the_order_of_their_scenes(balls):
    assert np.all(np.diff(balls.scene_of) >= 0)


def test_no_ball_is_thinned(store):
    small = covering(store, override(CONFIG, ["pyramid.bucket_points=40"]))
    assert small.num_thinned == 0
    read = [len(small.read(index).rows) for index in range(len(small))]
    np.testing.assert_array_equal(small.num_points, read)


def test_covers_are_a_function_of_the_seed(store, balls):
    np.testing.assert_array_equal(covering(store).centers, balls.centers)
    other = covering(store, dataclasses.replace(CONFIG, seed=1))
    assert not np.array_equal(other.centers[:4], balls.centers[:4])


def test_covers_of_a_scene_differ(balls):
    first, second = (balls.centers[members[0]] for members in balls.passes[:2])
    assert not np.array_equal(first, second)


def test_points_carry_the_labels_of_their_voxels(store):
    balls = covering(store, with_targets=True)
    for index in (0, len(balls) // 2, len(balls) - 1):
        rows = balls.read(index).rows
        truth = voxel_labels(store, "train", balls.scenes[balls.scene_of[index]])
        np.testing.assert_array_equal(balls.labels_of(index, rows), truth[rows])


def test_without_targets_no_point_has_a_label(balls):
    assert np.all(balls.labels_of(0, balls.read(0).rows) == IGNORED)


def test_processes_load_what_a_thread_loads(store):
    balls = covering(store, with_targets=True)
    config = calibrate(CONFIG, balls)
    plan = [[[0, 1], [2]], [[5], []]]
    found = []
    for workers in (0, 1):
        with Loader(balls, override(config, [f"data.workers={workers}"])) as loader:
            found.append([loaded.batch for loaded in loader.load(plan, epoch=2)])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one.point_labels, two.point_labels)
        np.testing.assert_array_equal(one.features, two.features)
    assert np.any(found[0][0].point_labels != IGNORED)


def test_scenes_need_no_store():
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 3, (500, 3)).astype(np.float32)
    colors = rng.integers(0, 256, (500, 3)).astype(np.uint8)
    clouds = LooseClouds({"mine": CloudArrays(coords, colors)}, "mine.ply")
    balls = CoveringBalls(clouds, 3, CONFIG, 1)
    assert visits(balls, range(len(balls)))[0].min() >= 1
    assert balls.name(0).startswith("mine at (")
