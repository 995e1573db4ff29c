"""Buckets of bare points: the balls end to end, cut out of their scenes now or before."""

import pickle

import numpy as np
import pytest
from prepared import CONFIG, make_store

from mprm_jax.batches.bare_buckets import AT_REST, BareBatch, BareBucketBuilder
from mprm_jax.batches.loader import BucketBuilder, Loader
from mprm_jax.batches.shapes import calibrate
from mprm_jax.batches.tagged_balls import BallArrays, TaggedBalls, write_ball_arrays
from mprm_jax.overrides import override
from mprm_jax.types import IGNORED

MEMBERS = [[2, 0], [], [1]]


@pytest.fixture(scope="module")
def subclouds(tmp_path_factory):
    return TaggedBalls(make_store(tmp_path_factory.mktemp("data")), "train", CONFIG)


@pytest.fixture(scope="module")
def config(subclouds):
    return calibrate(override(CONFIG, ["pyramid.builder=device"]), subclouds)


def fields(batch: BareBatch):
    return {name: value for name, value in vars(batch).items() if name != "recipe"}


def test_balls_lie_end_to_end_and_the_rest_is_padding(subclouds, config):
    batch = BareBucketBuilder(subclouds, config)(MEMBERS, None)
    rows, places = config.pyramid.bucket_points, config.pyramid.max_clouds
    for bucket, members in enumerate(MEMBERS):
        balls = [subclouds.read(index) for index in members]
        own = slice(bucket * rows, (bucket + 1) * rows)
        clouds = batch.clouds[own]
        for cloud, ball in enumerate(balls):
            np.testing.assert_array_equal(batch.points[own][clouds == cloud], ball.points)
            np.testing.assert_array_equal(batch.colors[own][clouds == cloud], ball.colors)
        used = sum(len(ball.rows) for ball in balls)
        assert np.all(np.diff(clouds) >= 0) and np.all(clouds[used:] == places)
        assert not batch.points[own][used:].any()
        of_bucket = slice(bucket * places, (bucket + 1) * places)
        np.testing.assert_array_equal(batch.balls[of_bucket][: len(members)], members)
        for place, index in enumerate(members):
            tags = batch.cloud_labels[of_bucket][place]
            np.testing.assert_array_equal(tags, subclouds.tags[index])
    assert np.all(batch.point_labels == IGNORED)
    np.testing.assert_array_equal(batch.epoch, [AT_REST] * 3)


def test_a_moving_bucket_names_its_epoch(subclouds, config):
    np.testing.assert_array_equal(BareBucketBuilder(subclouds, config)(MEMBERS, 7).epoch, [7] * 3)


def test_bare_and_complete_buckets_drop_the_colors_of_the_same_balls(subclouds, config):
    config = override(config, ["augment.drop_color=0.5"])
    bare = BareBucketBuilder(subclouds, config)(MEMBERS, 7)
    complete = BucketBuilder(subclouds, config)(MEMBERS, 7).batch
    np.testing.assert_allclose(bare.colors / np.float32(255), complete.features[:, 1:4])


def test_bare_and_complete_buckets_mix_the_same_balls(subclouds, config):
    config = override(config, ["augment.mix=0.5"])
    sizes = set()
    for epoch in range(6):
        bare = BareBucketBuilder(subclouds, config)([[2, 0, 1]], epoch)
        clouds = np.append(bare.mixed, config.pyramid.max_clouds)[bare.clouds]
        complete = BucketBuilder(subclouds, config)([[2, 0, 1]], epoch).batch.pyramid.clouds[0]
        # Clouds are numbered through there, by the place of their first ball here.
        np.testing.assert_array_equal(np.diff(clouds) > 0, np.diff(complete) > 0)
        sizes.add(len(np.unique(clouds)))
    assert len(sizes) == 2


def test_balls_cut_out_before_are_the_same(subclouds, config, tmp_path):
    first = BareBucketBuilder(subclouds, config)(MEMBERS, None)
    kept = TaggedBalls(subclouds.store, "train", CONFIG)
    kept.keep_arrays(tmp_path / "input")
    again = BareBucketBuilder(kept, config)(MEMBERS, None)
    for name, value in fields(first).items():
        np.testing.assert_array_equal(fields(again)[name], value)


def test_arrays_are_written_once_and_travel_by_their_place(subclouds, tmp_path):
    arrays = write_ball_arrays(subclouds, tmp_path)
    changed = (tmp_path / "points.f32").stat().st_mtime_ns
    write_ball_arrays(subclouds, tmp_path)
    assert (tmp_path / "points.f32").stat().st_mtime_ns == changed
    data = pickle.dumps(arrays)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).read(3).points, subclouds.read(3).points)


def test_arrays_without_their_last_file_are_written_again(subclouds, tmp_path):
    write_ball_arrays(subclouds, tmp_path)
    (tmp_path / "starts.npy").unlink()
    (tmp_path / "points.f32").write_bytes(b"half")
    last = len(subclouds) - 1
    again = write_ball_arrays(subclouds, tmp_path).read(last)
    np.testing.assert_array_equal(again.points, subclouds.read(last).points)
    assert isinstance(again.points, np.ndarray) and len(BallArrays(tmp_path).read(0).colors) > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_sends_bare_points_if_the_device_builds(subclouds, config, workers):
    settings = override(config, [f"data.workers={workers}"])
    with Loader(subclouds, settings) as loader:
        (loaded,) = loader.load([MEMBERS], epoch=2)
    expected = BareBucketBuilder(subclouds, config)(MEMBERS, 2)
    for name, value in fields(expected).items():
        np.testing.assert_array_equal(fields(loaded.batch)[name], value)
    assert loaded.cut_rows is None
    assert loaded.points == sum(subclouds.num_points[i] for bucket in MEMBERS for i in bucket)
