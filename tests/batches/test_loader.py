"""The loader: the batches of a plan, in order, whoever builds them."""

import multiprocessing
import os
import signal

import jax
import numpy as np
import pytest
from prepared import CONFIG, make_store

from mprm_jax.batches.loader import Loader
from mprm_jax.batches.packing import pack
from mprm_jax.batches.plan import group_plan
from mprm_jax.batches.shapes import calibrate, pyramid_spec
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.overrides import override


@pytest.fixture(scope="module")
def subclouds(tmp_path_factory):
    return TaggedBalls(make_store(tmp_path_factory.mktemp("data")), "train", CONFIG)


@pytest.fixture(scope="module")
def config(subclouds):
    return calibrate(CONFIG, subclouds)


@pytest.fixture(scope="module")
def plan(config, subclouds):
    """Two buckets a step; the last bucket of all is empty."""
    pyramid = config.pyramid
    balls, rows = [np.arange(len(subclouds))], [pyramid.bucket_points]
    steps = group_plan(balls, [subclouds.num_points], rows, pyramid.max_clouds, 2)
    return [*steps, [[0, 1], []]]


def arrays(batch):
    return jax.tree.leaves(batch)


def assert_equal_batches(first, second):
    for one, two in zip(first, second, strict=True):
        for a, b in zip(arrays(one.batch), arrays(two.batch), strict=True):
            np.testing.assert_array_equal(a, b)


def load_all(subclouds, config, plan, epoch=None):
    with Loader(subclouds, config) as loader:
        return list(loader.load(plan, epoch))


def test_steps_come_in_the_order_of_the_plan(subclouds, config, plan):
    assert [loaded.members for loaded in load_all(subclouds, config, plan)] == plan


def test_buckets_are_packed_and_concatenated(subclouds, config, plan):
    """Each bucket's rows start where the one before it ends; indices count within a bucket."""
    loaded = load_all(subclouds, config, plan[:1])[0].batch
    spec, rows = pyramid_spec(config), config.pyramid.bucket_points
    for place, members in enumerate(plan[0]):
        with Loader(subclouds, config) as loader:
            clouds = [subclouds.cloud([index], spec, None) for index in members]
            bucket = pack(clouds, loader.shape).batch
        part = slice(place * rows, (place + 1) * rows)
        np.testing.assert_array_equal(loaded.pyramid.points[0][part], bucket.pyramid.points[0])
        np.testing.assert_array_equal(
            loaded.pyramid.neighbors[0][part], bucket.pyramid.neighbors[0]
        )


def test_every_step_has_the_same_shapes(subclouds, config, plan):
    shapes = {
        tuple(x.shape for x in arrays(loaded.batch)) for loaded in load_all(subclouds, config, plan)
    }
    assert len(shapes) == 1


def test_points_are_the_rows_that_hold_one(subclouds, config, plan):
    for loaded in load_all(subclouds, config, plan):
        members = [index for bucket in loaded.members for index in bucket]
        assert loaded.points == subclouds.num_points[members].sum()


def test_the_example_is_one_bucket_of_padding(subclouds, config):
    with Loader(subclouds, config) as loader:
        example = loader.example()
    assert not example.pyramid.real.any()
    assert len(example.features) == config.pyramid.bucket_points


@pytest.mark.parametrize("prefetch", [1, 3, 100])
def test_the_number_of_steps_under_way_changes_nothing(subclouds, config, plan, prefetch):
    other = override(config, [f"data.prefetch={prefetch}"])
    expected = load_all(subclouds, config, plan, epoch=4)
    assert_equal_batches(load_all(subclouds, other, plan, epoch=4), expected)


def test_what_is_cut_is_counted_for_each_bucket(subclouds, config, plan):
    small = override(config, ["pyramid.coarse_points=(8, 4)"])
    for loaded in load_all(subclouds, small, plan):
        assert loaded.cut_rows.shape == (2, 3)
        cut = loaded.cut_rows.any(axis=1)
        np.testing.assert_array_equal(cut, [bool(bucket) for bucket in loaded.members])


def test_a_calibrated_bucket_cuts_nothing(subclouds, config, plan):
    assert not any(b.cut_rows.sum() for b in load_all(subclouds, config, plan))


def test_no_steps_give_no_batches(subclouds, config):
    assert load_all(subclouds, config, []) == []


def test_leaving_early_stops_the_workers(subclouds, config, plan):
    with Loader(subclouds, config) as loader:
        next(loader.load(plan * 50))
    with pytest.raises(RuntimeError, match="after shutdown"):
        next(loader.load(plan))


def test_processes_load_what_a_thread_loads_even_when_interrupted(subclouds, config, plan):
    """Ctrl-C reaches all processes of a terminal; the main process decides what it means."""
    expected = load_all(subclouds, config, plan, epoch=4)
    found = []
    with Loader(subclouds, override(config, ["data.workers=1", "data.prefetch=2"])) as loader:
        for loaded in loader.load(plan, epoch=4):
            found.append(loaded)
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGINT)
    assert_equal_batches(found, expected)


def test_a_killed_process_is_one_line(subclouds, config, plan):
    with Loader(subclouds, override(config, ["data.workers=1"])) as loader:
        batches = loader.load(plan * 50)
        next(batches)
        for worker in multiprocessing.active_children():
            worker.kill()
        with pytest.raises(ChildProcessError, match=r"lower data\.workers"):
            list(batches)
