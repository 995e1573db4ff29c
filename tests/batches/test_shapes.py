"""Calibration: static shapes that hold the data, chosen once and reproducibly."""

import dataclasses

import numpy as np
import pytest
from prepared import CONFIG, make_store

from mprm_jax.batches.loader import Loader
from mprm_jax.batches.plan import epoch_plan
from mprm_jax.batches.shapes import bucket_shape, calibrate, pyramid_spec
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.geometry.pyramid import neighbor_counts
from mprm_jax.overrides import override


@pytest.fixture(scope="module")
def subclouds(tmp_path_factory):
    return TaggedBalls(make_store(tmp_path_factory.mktemp("data")), "train", CONFIG)


@pytest.fixture(scope="module")
def calibrated(subclouds):
    return calibrate(CONFIG, subclouds)


def test_every_open_setting_is_filled(calibrated):
    pyramid = calibrated.pyramid
    assert len(pyramid.coarse_points) == len(pyramid.pool_neighbors) == 2
    assert len(pyramid.conv_neighbors) == 3
    widths = (*pyramid.coarse_points, *pyramid.conv_neighbors, *pyramid.pool_neighbors)
    assert min(*widths, pyramid.max_clouds) > 0


def test_settings_other_than_the_shapes_stay(calibrated):
    assert dataclasses.replace(calibrated, pyramid=CONFIG.pyramid) == CONFIG


def test_a_given_setting_stays(subclouds):
    given = ["pyramid.coarse_points=(300, 77)", "pyramid.max_clouds=9"]
    given += ["pyramid.conv_neighbors=(1, 2, 3)"]
    config = override(CONFIG, given)
    assert override(calibrate(config, subclouds), given) == calibrate(config, subclouds)


def test_calibrating_again_changes_nothing(calibrated, subclouds):
    assert calibrate(CONFIG, subclouds) == calibrate(calibrated, subclouds) == calibrated


def test_coarse_rows_are_multiples_of_the_tpu_lanes(calibrated):
    assert not np.any(np.array(calibrated.pyramid.coarse_points) % 128)


def test_the_full_percentile_cuts_no_neighbor(subclouds):
    spec = pyramid_spec(calibrate(override(CONFIG, ["pyramid.percentile=100"]), subclouds))
    for index in range(len(subclouds)):
        points = subclouds.moved((subclouds.read(index).points,), index, epoch=0)[0]
        convs, pools = neighbor_counts(points, spec)
        assert all(np.all(x <= w) for x, w in zip(convs, spec.conv_neighbors, strict=True))
        assert all(np.all(x <= w) for x, w in zip(pools, spec.pool_neighbors, strict=True))


def test_a_lower_percentile_gives_narrower_lists(subclouds):
    narrow = calibrate(override(CONFIG, ["pyramid.percentile=50"]), subclouds).pyramid
    wide = calibrate(override(CONFIG, ["pyramid.percentile=100"]), subclouds).pyramid
    assert np.all(np.array(narrow.conv_neighbors) < wide.conv_neighbors)


def test_lists_hold_the_neighbors_of_mixed_balls(subclouds):
    apart, both = (
        calibrate(override(CONFIG, [f"augment.mix={share}"]), subclouds).pyramid for share in (0, 1)
    )
    assert np.all(np.array(both.conv_neighbors) > apart.conv_neighbors)
    assert both.coarse_points == apart.coarse_points


@pytest.mark.parametrize("mix", [0, 0.5])
def test_calibrated_buckets_cut_no_row_in_training(subclouds, mix):
    calibrated = calibrate(override(CONFIG, [f"augment.mix={mix}"]), subclouds)
    pyramid = calibrated.pyramid
    limits = {"max_points": pyramid.bucket_points, "max_clouds": pyramid.max_clouds}
    with Loader(subclouds, calibrated) as loader:
        for epoch in range(3):
            plan = epoch_plan(
                subclouds.passes,
                subclouds.num_points,
                draws=0,
                buckets_per_step=1,
                seed=0,
                epoch=epoch,
                **limits,
            )
            for loaded in loader.load(plan, epoch):
                assert not loaded.cut_rows.any()


def test_deformable_levels_search_the_larger_radius():
    spec = pyramid_spec(override(CONFIG, ["model.deformable=True", "data.voxel_size=0.04"]))
    np.testing.assert_allclose(spec.conv_radii, [0.1, 0.4, 0.8])
    np.testing.assert_allclose(spec.pool_radii, [0.1, 0.4])


def test_rigid_levels_search_the_smaller_radius():
    spec = pyramid_spec(override(CONFIG, ["data.voxel_size=0.04"]))
    np.testing.assert_allclose(spec.conv_radii, [0.1, 0.2, 0.4])


def test_the_height_adds_an_input_channel(calibrated):
    tall = override(calibrated, ["model.height=True"])
    channels = [bucket_shape(config, 3).in_features for config in (calibrated, tall)]
    assert channels == [4, 5]
