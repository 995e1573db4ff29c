"""Candidate sets: each kind of evidence alone, mixed, contradictory; never less than the truth."""

import numpy as np
import pytest
from fake_source import FakeSource, box_room
from prepared import CONFIG, make_store

from mprm_jax.evidence.candidates import (
    Candidates,
    candidate_sets,
    count_sizes,
    tags_after_clicks,
)
from mprm_jax.evidence.weak_labels import no_tags, tags_from_people
from mprm_jax.labeling.candidates import usable_sets
from mprm_jax.prediction.evaluating import require_tags
from mprm_jax.scans.scene import Clicks, WeakLabels
from mprm_jax.store.prepare import prepare
from mprm_jax.store.truth import voxel_labels
from mprm_jax.types import IGNORED


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


def classes_left(store, scene, labels="subcloud"):
    return usable_sets(store, "train", scene, labels).allowed


@pytest.mark.parametrize("labels", ["subcloud", "scene"])
def test_the_true_class_is_always_left(store, labels):
    for scene in store.scenes("train"):
        truth = voxel_labels(store, "train", scene)
        rows = np.flatnonzero(truth >= 0)
        allowed = classes_left(store, scene, labels)
        assert allowed[rows, truth[rows]].all()


def test_tags_of_balls_leave_less_than_those_of_the_scene(store):
    scene = store.scenes("train")[2]
    of_balls = classes_left(store, scene)
    of_scene = classes_left(store, scene, "scene")
    assert np.all(of_balls <= of_scene) and of_balls.sum() < of_scene.sum()
    tags = store.weak_labels("train", scene).scene_tags
    np.testing.assert_array_equal(of_scene, np.tile(tags, (len(of_scene), 1)))


def line_of_voxels(count=20):
    """A voxel every 10 cm along x."""
    coords = np.zeros((count, 3), np.float32)
    coords[:, 0] = 0.1 * np.arange(count)
    return coords


def tags_of(coords, *balls, scene=None):
    """Weak labels of balls (x, radius, classes) on the line, and of the scene."""
    given = WeakLabels(
        np.array([[x, 0.0, 0.0] for x, _, _ in balls] + [[0.0] * 3] * (scene is not None)),
        np.array([r for _, r, _ in balls] + [np.inf] * (scene is not None), np.float32),
        np.array(
            [np.isin(range(4), c) for *_, c in balls]
            + [np.isin(range(4), scene)] * (scene is not None)
        ),
    )
    return tags_from_people(coords, given, radius=2.0, placement="ends")


def clicks_of(*said):
    """Clicks (x, class or None, answer yes or no) on the line."""
    named = np.array([np.arange(4) == (-1 if name is None else name) for _, name, _ in said])
    negative = np.array([not yes for *_, yes in said])
    points = np.array([[x, 0.0, 0.0] for x, *_ in said])
    return Clicks(points, named ^ negative[:, None], ~negative)


def sets(candidates):
    return [set(np.flatnonzero(row).tolist()) for row in candidates.allowed]


def test_balls_alone_leave_their_intersection_and_elsewhere_the_tags_of_the_scene():
    coords = line_of_voxels()
    weak = tags_of(coords, (0.0, 0.55, [0, 1]), (0.6, 0.45, [1, 2]))
    found = sets(candidate_sets(coords, weak))
    assert found[0] == {0, 1} and found[3] == {1} and found[8] == {1, 2}
    assert found[15] == {0, 1, 2}


def test_balls_without_a_common_class_leave_none_which_is_knowledge():
    coords = line_of_voxels()
    weak = tags_of(coords, (0.0, 0.55, [0]), (0.6, 0.45, [1, 2]), (1.5, 0.2, []))
    found = candidate_sets(coords, weak)
    assert sets(found)[3] == set() and sets(found)[15] == set() and not found.certain.any()


def test_scene_tags_alone_leave_them_everywhere():
    coords = line_of_voxels()
    assert sets(candidate_sets(coords, tags_of(coords, scene=[0, 3]))) == [{0, 3}] * 20


def test_balls_count_before_the_tags_of_their_scene_which_count_elsewhere():
    coords = line_of_voxels()
    found = sets(candidate_sets(coords, tags_of(coords, (0.0, 0.55, [1]), scene=[0, 3])))
    assert found[0] == {1} and found[15] == {0, 1, 3}


def test_without_tags_every_class_is_left_but_where_someone_clicked():
    coords = line_of_voxels()
    found = candidate_sets(coords, no_tags(4), clicks_of((1.0, 2, True), (1.5, 1, False)))
    assert sets(found)[:9] == [{0, 1, 2, 3}] * 9
    assert sets(found)[9:12] == [{2}] * 3 and sets(found)[14:17] == [{0, 2, 3}] * 3
    assert np.flatnonzero(found.certain).tolist() == [9, 10, 11]


def test_point_labels_leave_their_class_and_unlabeled_points_are_unknown():
    coords = line_of_voxels()
    labels = np.full(20, IGNORED)
    labels[2:5] = 3
    found = candidate_sets(coords, no_tags(4), labels=labels)
    assert sets(found)[2:5] == [{3}] * 3 and sets(found)[5] == {0, 1, 2, 3}
    assert found.certain.sum() == 3


def test_a_click_counts_more_than_tags_and_labels_and_the_nearest_counts_most():
    coords = line_of_voxels()
    weak = tags_of(coords, (1.0, 2.0, [0, 1]))
    labels = np.full(20, 0)
    found = candidate_sets(coords, weak, clicks_of((0.5, 3, True), (0.7, 2, True)), labels)
    assert sets(found)[3:10] == [{0}, {3}, {3}, {2}, {2}, {2}, {0}]


def test_no_class_and_not_this_class_are_answers_too():
    coords = line_of_voxels()
    weak = tags_of(coords, (1.0, 2.0, [0, 1]))
    found = candidate_sets(coords, weak, clicks_of((0.5, None, True), (1.0, 0, False)))
    assert sets(found)[5] == set() and found.certain[5]
    assert sets(found)[10] == {1} and not found.certain[10]
    assert sets(found)[15] == {0, 1}


def test_a_click_reaches_the_nearest_voxel_where_all_are_farther_than_its_radius():
    coords = line_of_voxels(3) * 4
    found = candidate_sets(coords, no_tags(4), clicks_of((0.6, 1, True)))
    assert found.certain.sum() == 1


def test_a_click_outside_of_tags_changes_them_and_is_reported():
    coords = line_of_voxels()
    weak = tags_of(coords, (0.0, 0.55, [0]), (0.4, 0.55, [0, 3]), (1.5, 0.4, [1]))
    changed, outside = tags_after_clicks(weak, clicks_of((0.2, 3, True), (0.2, 0, True)))
    assert outside.tolist() == [True, False]
    assert [set(np.flatnonzero(row).tolist()) for row in changed.tags] == [{0, 3}, {0, 3}, {1}]
    assert not weak.tags[0, 3]
    # The other voxels of the ball may have the class from now on.
    assert sets(candidate_sets(coords, changed))[1] == {0, 3}


def test_what_people_deny_or_do_not_know_changes_no_tag():
    coords = line_of_voxels()
    weak = tags_of(coords, (0.0, 0.55, [0]))
    changed, outside = tags_after_clicks(weak, clicks_of((0.2, 3, False), (0.2, None, True)))
    np.testing.assert_array_equal(changed.tags, weak.tags)
    assert not outside.any()


def test_the_order_of_voxels_and_of_balls_does_not_matter():
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 3, (200, 3)).astype(np.float32)
    given = WeakLabels(
        rng.uniform(0, 3, (6, 3)), np.full(6, 1.2, np.float32), rng.uniform(size=(6, 4)) < 0.6
    )
    clicks = Clicks(
        coords[:5].astype(float), np.eye(4, dtype=bool)[[0, 1, 2, 3, 0]], np.ones(5, bool)
    )
    order, balls = rng.permutation(200), rng.permutation(6)
    tags = {"radius": 2.0, "placement": "ends"}
    one = candidate_sets(coords, tags_from_people(coords, given, **tags), clicks)
    moved = WeakLabels(*(part[balls] for part in given))
    other = candidate_sets(coords[order], tags_from_people(coords[order], moved, **tags), clicks)
    np.testing.assert_array_equal(one.allowed[order], other.allowed)
    np.testing.assert_array_equal(one.certain[order], other.certain)


def test_candidate_sets_are_those_of_a_loop_over_voxels(store):
    """Each voxel by itself, ball by ball."""
    for scene in store.scenes("train"):
        coords, weak = store.voxel_cloud("train", scene).coords, store.weak_labels("train", scene)
        found = store.candidates("train", scene)
        for point, row in zip(coords[::7], found.allowed[::7], strict=True):
            around = [
                set(np.flatnonzero(tags).tolist())
                for center, radius, tags in zip(weak.centers, weak.radii, weak.tags, strict=True)
                if np.sum(np.square(point - center), dtype=np.float64) < np.float64(radius) ** 2
            ]
            of_scene = set(np.flatnonzero(weak.scene_tags).tolist())
            expected = set.intersection(*around) if around else of_scene
            assert set(np.flatnonzero(row).tolist()) == expected


def test_sizes_count_every_voxel_once():
    allowed = np.array([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], bool)
    assert count_sizes(Candidates(allowed, np.zeros(4, bool))) == (1, 1, 0, 0, 2)


def test_scenes_that_nobody_tagged_are_named(tmp_path):
    rooms = {"train/a": box_room(), "val/b": box_room(1)._replace(labels=None)}
    store = prepare(FakeSource(tmp_path / "scans", rooms), tmp_path / "store", CONFIG.data).store
    require_tags(store, "train", ["a"])
    with pytest.raises(ValueError, match="b: the scene has no tags; leave out --tags, or"):
        require_tags(store, "val", ["b"])
