"""Targets: pseudo-labels or ground truth, each only when asked for by name."""

import shutil

import numpy as np
import pytest
from fake_source import FakeSource, box_room
from label_exports import pseudo_labels, write_export
from prepared import CONFIG, make_store

from mprm_jax.store.exports import scene_file
from mprm_jax.store.prepare import prepare
from mprm_jax.store.scenes import StoredClouds
from mprm_jax.store.targets import open_targets, survey
from mprm_jax.store.truth import voxel_labels
from mprm_jax.types import IGNORED


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def export(store, tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("labels") / "export", store, pseudo_labels(store))


def survey_of(targets, store):
    return survey(targets, StoredClouds(store, "train", targets.scenes), len(store.classes))


def test_truth_is_the_label_of_each_voxel(store):
    targets = open_targets("truth", store, "train")
    for scene in store.scenes("train"):
        labels = targets.labels(scene)
        np.testing.assert_array_equal(labels, voxel_labels(store, "train", scene))
        assert labels.dtype == np.int32


def test_an_export_gives_its_labels_and_never_the_truth(store, export):
    targets = open_targets(str(export), store, "train")
    for scene, expected in pseudo_labels(store).items():
        np.testing.assert_array_equal(targets.labels(scene), expected)


def test_evidence_gives_a_label_where_one_class_is_left(store):
    targets = open_targets("evidence", store, "train")
    assert tuple(targets.scenes) == tuple(store.scenes("train"))
    for scene in targets.scenes:
        labels, allowed = targets.labels(scene), store.candidates("train", scene).allowed
        single = allowed.sum(axis=1) == 1
        np.testing.assert_array_equal(labels >= 0, single)
        assert allowed[np.flatnonzero(single), labels[single]].all() and labels.dtype == np.int32


def test_without_evidence_there_is_nothing_to_learn(tmp_path):
    room = box_room()._replace(labels=None)
    source = FakeSource(tmp_path / "scans", {"train/a": room})
    store = prepare(source, tmp_path / "store", CONFIG.data, workers=0).store
    with pytest.raises(ValueError, match="nobody said anything of the scenes of split train; tag"):
        open_targets("evidence", store, "train")


def test_a_survey_counts_what_there_is_to_learn(store, export):
    found = survey_of(open_targets(str(export), store, "train"), store)
    labels = np.concatenate(list(pseudo_labels(store).values()))
    assert found.counts.tolist() == [np.sum(labels == label) for label in range(3)]
    assert found.num_voxels == len(labels)


def test_the_fingerprint_tells_targets_apart(store, export, tmp_path):
    labels = pseudo_labels(store)
    copied = write_export(tmp_path / "same", store, labels)
    labels["room0"][0] = (labels["room0"][0] + 2) % 3
    changed = write_export(tmp_path / "other", store, labels)
    choices = (export, copied, changed, "truth")
    prints = [
        survey_of(open_targets(str(choice), store, "train"), store).fingerprint
        for choice in choices
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def refused(store, choice, error=ValueError):
    with pytest.raises(error) as caught:
        survey_of(open_targets(str(choice), store, "train"), store)
    return str(caught.value)


def test_a_folder_that_is_no_export_is_refused(store, tmp_path):
    assert "no complete export" in refused(store, tmp_path, FileNotFoundError)
    assert "no complete export" in refused(store, tmp_path / "absent", FileNotFoundError)


def test_a_missing_file_is_refused(store, export, tmp_path):
    broken = shutil.copytree(export, tmp_path / "export")
    scene_file(broken, "room1").unlink()
    assert f"{scene_file(broken, 'room1')}: missing" in refused(store, broken, FileNotFoundError)


def test_a_missing_scene_is_refused(store, tmp_path):
    labels = pseudo_labels(store)
    del labels["room2"]
    broken = write_export(tmp_path / "export", store, labels)
    assert "no pseudo-labels of scene room2 and 0 more" in refused(store, broken)


def test_another_version_of_the_data_is_refused(store, tmp_path):
    broken = write_export(tmp_path / "a", store, pseudo_labels(store), fingerprint="other")
    assert "another version of the data" in refused(store, broken)
    broken = write_export(tmp_path / "b", store, pseudo_labels(store), classes=("a", "b", "c"))
    assert "its 3 classes are not the 3" in refused(store, broken)


def test_another_split_is_refused(store, tmp_path):
    fingerprint = store.fingerprint("val")
    changes = {"split": "val", "fingerprint": fingerprint, "scenes": ()}
    broken = write_export(tmp_path / "export", store, {}, **changes)
    assert "pseudo-labels of split val, needed are those of train" in refused(store, broken)


def test_labels_that_do_not_fit_their_scene_are_refused(store, tmp_path):
    labels = pseudo_labels(store)
    labels["room0"] = labels["room0"][:-1]
    broken = write_export(tmp_path / "short", store, labels)
    assert "labels of scene room0, which has" in refused(store, broken)
    labels = pseudo_labels(store)
    labels["room0"][3] = 3
    broken = write_export(tmp_path / "high", store, labels)
    assert "label 3 in scene room0, but there are 3 classes" in refused(store, broken)


def test_targets_without_any_label_are_refused(store, tmp_path):
    labels = {scene: np.full_like(x, IGNORED) for scene, x in pseudo_labels(store).items()}
    broken = write_export(tmp_path / "export", store, labels)
    assert "no voxel of any scene has a label" in refused(store, broken)


def test_truth_that_is_not_there_is_refused(store, tmp_path):
    blind = make_store(tmp_path)
    for path in blind.path.rglob("voxel_segment.npy"):
        path.unlink()
    error = refused(blind, "truth")
    assert "no point labels to learn" in error and "pseudo-labels instead of truth" in error
