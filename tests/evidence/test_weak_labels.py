"""Weak labels: which balls are kept, and what their bits say."""

import numpy as np
import pytest
from fake_source import box_room, scene_tags

from mprm_jax.evidence.weak_labels import no_tags, tags_from_labels, tags_from_people
from mprm_jax.geometry.balls import in_ball
from mprm_jax.scans.scene import WeakLabels

ROOM = box_room()
COORDS = ROOM.coords.astype(np.float32)
GRID = {"radius": 1.0, "placement": "ends"}


def room_tags(**changes):
    return tags_from_labels(COORDS, ROOM.labels, 3, **(GRID | changes))


@pytest.mark.parametrize("placement", ["ends", "centres"])
def test_a_bit_is_set_if_and_only_if_the_class_occurs_in_the_ball(placement):
    weak = room_tags(placement=placement)
    for center, radius, tags, count in zip(*weak[:4], strict=True):
        distances = np.linalg.norm(COORDS.astype(float) - center, axis=1)
        inside = ROOM.labels[distances < radius]
        assert count == len(inside)
        np.testing.assert_array_equal(tags, [np.any(inside == c) for c in range(3)])


def test_empty_balls_are_dropped_but_counted_as_seeds():
    weak = room_tags()
    assert weak.num_seeds == 3 * 3 * 2
    assert len(weak.centers) < weak.num_seeds
    assert weak.num_points.min() > 0


def test_seeds_at_both_ends_lie_on_the_bounding_box():
    weak = room_tags()
    for axis in range(3):
        assert COORDS[:, axis].min() in weak.centers[:, axis]


def test_seeds_at_cell_centers_reach_every_point():
    weak = room_tags(placement="centres")
    covered = [in_ball(COORDS - center[None], 1.0) for center in weak.centers]
    assert np.any(covered, axis=0).all()


def test_scene_tags_are_the_classes_of_the_scene():
    np.testing.assert_array_equal(room_tags().scene_tags, [True, True, True])
    walls = tags_from_labels(COORDS, np.minimum(ROOM.labels, 0), 3, **GRID)
    np.testing.assert_array_equal(walls.scene_tags, [True, False, False])


def test_unannotated_points_set_no_bit():
    weak = tags_from_labels(COORDS, np.full(len(COORDS), -1), 3, **GRID)
    assert len(weak.tags) > 0
    assert not weak.tags.any()
    assert not weak.scene_tags.any()


def test_tags_of_a_scene_are_given_to_every_grid_ball():
    weak = tags_from_people(COORDS, scene_tags(0, 2), **GRID)
    np.testing.assert_array_equal(weak.centers, room_tags().centers)
    np.testing.assert_array_equal(weak.tags, np.tile([True, False, True], (len(weak.tags), 1)))
    np.testing.assert_array_equal(weak.scene_tags, [True, False, True])


def test_tags_of_balls_keep_center_and_radius():
    centers, radii = np.array([[0.3, 0.3, 0.5], [2.5, 2.0, 0.0]]), np.array([0.6, 0.8])
    given = WeakLabels(centers, radii, np.array([[1, 0, 1], [0, 1, 0]], bool))
    weak = tags_from_people(COORDS, given, **GRID)
    np.testing.assert_allclose(weak.centers, centers, rtol=1e-6)
    np.testing.assert_allclose(weak.radii, radii, rtol=1e-6)
    np.testing.assert_array_equal(weak.tags, given.tags)
    np.testing.assert_array_equal(weak.scene_tags, [True, True, True])


def test_a_ball_tag_beside_a_scene_tag_leaves_the_scene_tag_to_the_scene():
    centers, radii = np.array([[0.3, 0.3, 0.5], [1, 1, 1]]), np.array([0.6, np.inf])
    given = WeakLabels(centers, radii, np.array([[1, 0, 0], [1, 1, 0]], bool))
    weak = tags_from_people(COORDS, given, **GRID)
    assert len(weak.centers) == 1
    np.testing.assert_array_equal(weak.scene_tags, [True, True, False])


def test_tags_in_another_frame_are_refused():
    given = WeakLabels(np.full((1, 3), 90.0), np.ones(1), np.ones((1, 3), bool))
    with pytest.raises(ValueError, match="unit and frame"):
        tags_from_people(COORDS, given, **GRID)


def test_a_scan_in_millimeters_is_refused_before_its_grid_is_made():
    with pytest.raises(ValueError, match="check the unit"):
        tags_from_labels(COORDS * 1000, ROOM.labels, 3, **GRID)


def test_nobody_s_tags_are_no_balls():
    weak = no_tags(3)
    assert weak.centers.shape == (0, 3)
    assert weak.tags.shape == (0, 3)
    assert weak.scene_tags.shape == (3,)


def test_without_classes_there_are_no_bits():
    assert no_tags(0).tags.shape == (0, 0)
