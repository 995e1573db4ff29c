"""TaggedBalls: the points, tags and motion of one ball, as training sees them."""

import dataclasses

import numpy as np
import pytest
from prepared import CONFIG, make_store

from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.geometry.pyramid import PyramidSpec
from mprm_jax.overrides import override

SPEC = PyramidSpec(0.16, (0.4, 0.8), (0.4,), (8, 8), (8,))
STILL = override(
    CONFIG,
    [
        *("augment.rotate=False", "augment.min_scale=1", "augment.max_scale=1"),
        *("augment.flip_x=False", "augment.noise=0"),
    ],
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def subclouds(store):
    return TaggedBalls(store, "train", CONFIG)


def finest(subclouds, index, epoch):
    return subclouds.cloud([index], SPEC, epoch).pyramid.points[0]


def test_a_ball_holds_the_voxels_closer_than_its_radius(store, subclouds):
    for index in range(len(subclouds)):
        scene = subclouds.scenes[subclouds.scene_of[index]]
        coords = store.voxel_cloud("train", scene).coords
        dist = np.linalg.norm(coords - subclouds.centers[index][None], axis=1)
        expected = np.flatnonzero(dist < subclouds.radii[index])
        np.testing.assert_array_equal(subclouds.read(index).rows, expected)


def test_the_stored_number_of_points_is_what_is_read(subclouds):
    read = [len(subclouds.read(index).rows) for index in range(len(subclouds))]
    np.testing.assert_array_equal(subclouds.num_points, read)


def test_points_are_relative_to_the_center(store, subclouds):
    rows, points, _ = subclouds.read(3)
    coords = store.voxel_cloud("train", subclouds.scenes[subclouds.scene_of[3]]).coords
    np.testing.assert_allclose(points + subclouds.centers[3][None], coords[rows], atol=1e-6)


def test_tags_are_those_of_the_scene_store(store, subclouds):
    expected = [store.weak_labels("train", scene).tags for scene in subclouds.scenes]
    np.testing.assert_array_equal(subclouds.tags, np.concatenate(expected))


def test_scene_tags_stand_for_every_ball_of_the_scene(store):
    by_scene = TaggedBalls(store, "train", override(CONFIG, ["data.labels=scene"]))
    for index, tags in enumerate(by_scene.tags):
        scene = by_scene.scenes[by_scene.scene_of[index]]
        np.testing.assert_array_equal(tags, store.weak_labels("train", scene).scene_tags)


def test_features_are_one_and_the_color(subclouds):
    features = subclouds.cloud([0], SPEC, None).features
    np.testing.assert_array_equal(features[:, 0], 1)
    colors = subclouds.read(0).colors / np.float32(255)
    np.testing.assert_array_equal(features[:, 1:], colors)
    assert features.min() >= 0 and features.max() <= 1


def test_height_is_measured_from_the_lowest_point(store):
    tall = TaggedBalls(store, "train", override(CONFIG, ["model.height=True"]))
    cloud = tall.cloud([0], SPEC, None)
    heights = cloud.pyramid.points[0][:, 2]
    np.testing.assert_allclose(cloud.features[:, 4], heights - heights.min())


def test_without_an_epoch_points_stay_where_they_are(subclouds):
    np.testing.assert_array_equal(finest(subclouds, 2, None), subclouds.read(2).points)


def test_a_training_epoch_moves_the_points(subclouds):
    assert np.abs(finest(subclouds, 2, 0) - subclouds.read(2).points).max() > 0.01


def test_the_motion_can_be_switched_off(store):
    still = TaggedBalls(store, "train", STILL)
    np.testing.assert_array_equal(finest(still, 2, 0), still.read(2).points)


def test_equal_epochs_move_a_subcloud_equally(store, subclouds):
    again = TaggedBalls(store, "train", CONFIG)
    np.testing.assert_array_equal(finest(subclouds, 2, 5), finest(again, 2, 5))


@pytest.mark.parametrize("change", ["epoch", "seed"])
def test_the_motion_differs_with(store, subclouds, change):
    other = dataclasses.replace(CONFIG, seed=1) if change == "seed" else CONFIG
    moved = finest(TaggedBalls(store, "train", other), 2, epoch=6 if change == "epoch" else 5)
    assert np.any(moved != finest(subclouds, 2, 5))


def test_the_motion_differs_between_subclouds(subclouds):
    points = subclouds.read(2).points
    assert np.any(
        subclouds.moved((points,), 2, epoch=5)[0] != subclouds.moved((points,), 3, epoch=5)[0]
    )


@pytest.fixture(scope="module")
def fixed(store):
    """The same balls with a fixed grid."""
    return TaggedBalls(store, "train", override(CONFIG, ["augment.grid=fixed"]))


def test_a_fixed_grid_moves_as_one(fixed):
    rest, moved = (fixed.cloud([2], SPEC, epoch).pyramid for epoch in (None, 5))
    np.testing.assert_equal(moved[1:], rest[1:])  # all lists
    fine, coarse = (
        np.linalg.lstsq(before.astype(float), after, rcond=None)[0]
        for before, after in zip(rest.points, moved.points, strict=True)
    )
    np.testing.assert_allclose(fine, coarse, atol=1e-3)  # noise is on the finest level alone
    assert np.abs(fine - np.eye(3)).max() > 0.01


def test_a_fixed_grid_is_the_moving_one_at_rest(fixed, subclouds):
    found, expected = (balls.cloud([2], SPEC, None) for balls in (fixed, subclouds))
    np.testing.assert_equal(found, expected)
    np.testing.assert_array_equal(finest(fixed, 2, 5), finest(subclouds, 2, 5))
    assert fixed.level_sizes(2, 5) == fixed.level_sizes(2, None) == subclouds.level_sizes(2, None)


def test_keeping_pyramids_changes_nothing(fixed, store, monkeypatch):
    keeping = TaggedBalls(store, "train", fixed.config)
    keeping.keep(1.0)
    reads = []
    monkeypatch.setattr(keeping, "read", lambda index: reads.append(index) or fixed.read(index))
    for epoch in (0, None, 3):
        np.testing.assert_equal(keeping.cloud([2], SPEC, epoch), fixed.cloud([2], SPEC, epoch))
    assert reads == [2]


def colors_of(subclouds, index, epoch, drop_color):
    return subclouds.cloud([index], SPEC, epoch, drop_color).features[:, 1:4]


def test_colors_of_some_balls_are_dropped_as_a_whole_and_nothing_else(subclouds):
    found = {}
    for epoch in range(20):
        kept, some = (subclouds.cloud([2], SPEC, epoch, share) for share in (0.0, 0.5))
        np.testing.assert_array_equal(some.pyramid.points[0], kept.pyramid.points[0])
        np.testing.assert_array_equal(some.features[:, 0], 1)
        seen = some.features[:, 1:4]
        found[epoch] = "none" if not seen.any() else np.array_equal(seen, kept.features[:, 1:4])
    assert set(found.values()) == {"none", True}


def test_as_many_balls_lose_their_colors_as_asked_for(subclouds):
    colors = np.ones((1, 3), np.uint8)
    balls = [(index, epoch) for index in range(40) for epoch in range(50)]
    kept = [subclouds.seen_colors(colors, *ball, 0.2).any() for ball in balls]
    assert 0.76 < np.mean(kept) < 0.84  # 2000 draws, four deviations


def test_equal_epochs_drop_the_same_colors(store, subclouds):
    again = TaggedBalls(store, "train", CONFIG)
    for epoch in range(8):
        one, other = (colors_of(balls, 2, epoch, 0.5) for balls in (subclouds, again))
        np.testing.assert_array_equal(one, other)


def test_without_an_epoch_all_colors_are_seen(subclouds):
    assert colors_of(subclouds, 0, None, 1.0).any() and not colors_of(subclouds, 0, 0, 1.0).any()


def test_a_mixed_cloud_has_the_points_and_features_of_both_balls_each_moved_by_itself(store):
    tall = TaggedBalls(store, "train", override(CONFIG, ["model.height=True"]))
    both, *apart = (tall.cloud(members, SPEC, 4) for members in ([2, 5], [2], [5]))
    for name in ("features", "point_labels"):
        expected = np.concatenate([getattr(cloud, name) for cloud in apart])
        np.testing.assert_array_equal(getattr(both, name), expected)
    points = np.concatenate([cloud.pyramid.points[0] for cloud in apart])
    np.testing.assert_array_equal(both.pyramid.points[0], points)
    first = len(apart[0].features)
    neighbors = both.pyramid.neighbors[0]
    assert np.any((neighbors[:first] >= first) & (neighbors[:first] < len(points)))


def test_nothing_is_kept_that_no_epoch_uses_again(store, subclouds, monkeypatch):
    moving = TaggedBalls(store, "train", CONFIG)
    moving.keep(1.0)
    reads = []
    monkeypatch.setattr(moving, "read", lambda index: reads.append(index) or subclouds.read(index))
    for epoch in (None, None, 3):
        moving.cloud([2], SPEC, epoch)
    assert reads == [2, 2, 2]


def test_a_ball_larger_than_the_bucket_is_thinned_to_it(store, subclouds):
    small = TaggedBalls(store, "train", override(CONFIG, ["pyramid.bucket_points=60"]))
    largest = int(np.argmax(subclouds.num_points))
    rows = small.read(largest).rows
    assert len(rows) == small.num_points[largest] == 60
    assert set(rows) <= set(subclouds.read(largest).rows)


def test_thinned_balls_are_counted(store, subclouds):
    small = TaggedBalls(store, "train", override(CONFIG, ["pyramid.bucket_points=60"]))
    assert small.num_thinned == np.sum(subclouds.num_points > 60) > 0


def test_a_ball_is_thinned_to_the_same_points_every_time(store, subclouds):
    small = TaggedBalls(store, "train", override(CONFIG, ["pyramid.bucket_points=60"]))
    largest = int(np.argmax(subclouds.num_points))
    np.testing.assert_array_equal(small.read(largest).rows, small.read(largest).rows)


def test_names_tell_scene_and_center(subclouds):
    first = subclouds.name(0)
    assert first.startswith("room0 at (")


def test_a_split_that_does_not_exist_names_the_others(store):
    with pytest.raises(ValueError, match="train, val"):
        TaggedBalls(store, "test", CONFIG)
