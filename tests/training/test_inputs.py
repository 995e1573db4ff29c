"""Input made inside the step: what the host makes, and what did not fit is said."""

import functools
import logging

import jax
import numpy as np
import pytest
from prepared import CONFIG, make_store

from mprm_jax.batches.bare_buckets import BareBucketBuilder
from mprm_jax.batches.loader import BucketBuilder
from mprm_jax.batches.shapes import calibrate, calibrate_candidates
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.overrides import override
from mprm_jax.training import inputs as overflow
from mprm_jax.training.inputs import check_overflow, complete
from mprm_jax.training.static_sizes import choose_builder

pytestmark = pytest.mark.slow

MEMBERS = [[0, 3]]
BARE = override(CONFIG, ["pyramid.builder=device", "model.height=True"])


@pytest.fixture(scope="module")
def subclouds(tmp_path_factory):
    return TaggedBalls(make_store(tmp_path_factory.mktemp("data")), "train", BARE)


@pytest.fixture(scope="module")
def config(subclouds):
    return calibrate_candidates(calibrate(BARE, subclouds), subclouds)


@functools.cache
def compiled():
    return jax.jit(complete, static_argnums=1)


@pytest.fixture(scope="module")
def at_rest(config, subclouds):
    """Input of the same bucket: the host's, and the step's."""
    raw = BareBucketBuilder(subclouds, config)(MEMBERS, None)
    host = BucketBuilder(subclouds, config)(MEMBERS, None).batch
    return host, jax.device_get(compiled()(raw, 1))


def test_a_bucket_at_rest_is_that_of_the_host(at_rest):
    host, (batch, cut) = at_rest
    assert not any(np.any(x) for x in cut)
    np.testing.assert_allclose(batch.features, host.features, atol=1e-6)
    np.testing.assert_array_equal(batch.pyramid.real, host.pyramid.real)
    for name in ("cloud_labels", "point_labels"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(host, name))
    for found, expected in zip(batch.pyramid.clouds, host.pyramid.clouds, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_lists_at_rest_are_those_of_the_host(at_rest):
    """Neighbors at equal distance may change places, on the grid of box rooms there are many."""
    host, (batch, _) = at_rest
    for level, (found, expected) in enumerate(
        zip(batch.pyramid.neighbors, host.pyramid.neighbors, strict=True)
    ):
        shadow = len(host.pyramid.points[level])
        np.testing.assert_array_equal(found == shadow, expected == shadow)


def test_mixed_balls_at_rest_have_the_lists_of_the_host(config, subclouds):
    """What the step moves by itself is held still, in a training epoch."""
    still = ["rotate=False", "min_scale=1", "max_scale=1", "flip_x=False", "noise=0", "mix=1"]
    mixing = override(config, [f"augment.{setting}" for setting in still])
    balls = TaggedBalls(subclouds.store, "train", mixing)
    mixing = override(mixing, ["pyramid.candidates=512,512,512"])
    host = BucketBuilder(balls, mixing)([[0, 3, 5]], 1).batch
    batch, cut = jax.device_get(compiled()(BareBucketBuilder(balls, mixing)([[0, 3, 5]], 1), 1))
    assert not any(np.any(x) for x in cut)
    np.testing.assert_allclose(batch.features, host.features, atol=1e-6)
    # The third ball is cloud 1 of the host's, and at place 2 of the step's.
    assert host.pyramid.real.tolist()[:3] == [True, True, False]
    assert batch.pyramid.real.tolist()[:3] == [True, False, True]
    for level, (found, expected) in enumerate(
        zip(batch.pyramid.neighbors, host.pyramid.neighbors, strict=True)
    ):
        shadow = len(host.pyramid.points[level])
        np.testing.assert_array_equal(found == shadow, expected == shadow)


def test_clouds_move_anew_in_every_epoch(config, subclouds):
    build = BareBucketBuilder(subclouds, config)
    first, again, later = (compiled()(build(MEMBERS, epoch), 1).batch for epoch in (0, 0, 1))
    np.testing.assert_array_equal(first.pyramid.points[0], again.pyramid.points[0])
    assert np.abs(np.asarray(first.pyramid.points[0] - later.pyramid.points[0])).max() > 0.05


@pytest.mark.parametrize("mix", [0, 0.5])
def test_calibrated_candidates_hold_moved_clouds(subclouds, mix):
    config = override(BARE, [f"augment.mix={mix}"])
    config = calibrate_candidates(calibrate(config, subclouds), subclouds)
    build = BareBucketBuilder(subclouds, config)
    for epoch in range(3):
        cut = compiled()(build(MEMBERS, epoch), 1).overflow
        assert not np.any(cut.candidates) and not np.any(cut.rows)


@pytest.mark.parametrize("builder", ["host", "device"])
def test_two_buckets_on_a_device_are_each_what_they_are_alone(config, subclouds, builder):
    """Rows lie end to end, numbers are counted through, padding stays padding."""
    build = {"host": BucketBuilder, "device": BareBucketBuilder}[builder](subclouds, config)

    def built(members):
        made = build(members, 0)
        buckets = made.batch if builder == "host" else made
        return jax.device_get(compiled()(buckets, len(members)).batch)

    both, apart = built([[0, 3], [5]]), [built([[0, 3]]), built([[5]])]
    np.testing.assert_array_equal(both.features, np.concatenate([one.features for one in apart]))
    places = apart[0].pyramid.num_clouds
    for level, clouds in enumerate(both.pyramid.clouds):
        for half, one, first in zip(np.split(clouds, 2), apart, (0, places), strict=True):
            alone = one.pyramid.clouds[level]
            padding = alone == places
            np.testing.assert_array_equal(half == 2 * places, padding)
            np.testing.assert_array_equal(half[~padding], alone[~padding] + first)
    for kind, into in (("neighbors", 0), ("pools", 0), ("upsamples", 1)):
        for level, lists in enumerate(getattr(both.pyramid, kind)):
            shadow = len(both.pyramid.points[level + into])
            for number, half in enumerate(np.split(lists, 2)):
                alone = getattr(apart[number].pyramid, kind)[level]
                empty = alone == shadow // 2
                np.testing.assert_array_equal(half == shadow, empty)
                start = number * shadow // 2
                np.testing.assert_array_equal(half[~empty], alone[~empty] + start)


def test_a_builder_that_is_chosen_stays_and_auto_is_the_host_on_a_cpu():
    for choice, expected in (("auto", "host"), ("host", "host"), ("device", "device")):
        chosen = choose_builder(override(CONFIG, [f"pyramid.builder={choice}"]))
        assert chosen.pyramid.builder == expected


def test_candidates_that_are_given_stay(config, subclouds):
    given = override(config, ["pyramid.candidates=11,12,13", "pyramid.upsample_candidates=14,15"])
    assert calibrate_candidates(given, subclouds) == given


def test_too_many_balls_for_a_bucket_are_an_error(config, subclouds):
    with pytest.raises(ValueError, match="do not fit a bucket"):
        BareBucketBuilder(subclouds, config)([[0] * 50], None)


def test_overflow_is_said_once_for_each_kind_and_level(caplog):
    overflow._warn_once.cache_clear()
    values = {"cut/rows_level1": 3.0, "cut/candidates_level0": 0, "loss": 1.0}
    with caplog.at_level(logging.WARNING):
        check_overflow(values)
        check_overflow(values)
        check_overflow({"cut/candidates_level2": 5})
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "level 1 exceed pyramid.coarse_points" in said[0] and "level 2" in said[1]


def test_balls_too_wide_for_the_device_are_an_error():
    with pytest.raises(ValueError, match=r"pyramid\.builder=host"):
        check_overflow({"cut/too_wide": 1})


def test_a_fixed_grid_moves_with_its_lists(config, subclouds):
    fixed = override(config, ["augment.grid=fixed"])
    rest, moved = (
        compiled()(BareBucketBuilder(subclouds, fixed)(MEMBERS, epoch), 1).batch.pyramid
        for epoch in (None, 3)
    )
    for name in ("neighbors", "pools", "upsamples"):
        for found, expected in zip(getattr(moved, name), getattr(rest, name), strict=True):
            np.testing.assert_array_equal(found, expected)
    for before, after, clouds in zip(rest.points, moved.points, rest.clouds, strict=True):
        assert np.abs(np.asarray(after - before))[np.asarray(clouds) == 0].max() > 0.05
    free = compiled()(BareBucketBuilder(subclouds, config)(MEMBERS, 3), 1).batch.pyramid
    np.testing.assert_array_equal(moved.points[0], free.points[0])
