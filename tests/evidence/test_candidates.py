"""Classes that tags leave to a network: never less than the truth, never more than the scene's."""

import numpy as np
import pytest
from fake_source import FakeSource, box_room
from prepared import CONFIG, make_store

from mprm_jax.labeling.candidates import usable_sets
from mprm_jax.prediction.evaluating import require_tags
from mprm_jax.store.prepare import prepare
from mprm_jax.store.truth import voxel_labels


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


def test_scenes_that_nobody_tagged_are_named(tmp_path):
    rooms = {"train/a": box_room(), "val/b": box_room(1)._replace(labels=None)}
    store = prepare(FakeSource(tmp_path / "scans", rooms), tmp_path / "store", CONFIG.data).store
    require_tags(store, "train", ["a"])
    with pytest.raises(ValueError, match="b: the scene has no tags; leave out --tags, or"):
        require_tags(store, "val", ["b"])
