"""Exports of a segmentation network, and the evidence that comes after any export."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from fake_source import FakeSource, box_room
from networks import write_network
from prepared import CONFIG

from mprm_jax.evidence.known_labels import LabeledScenes
from mprm_jax.labeling.choice import exported_probabilities
from mprm_jax.labeling.exporting import export_run
from mprm_jax.labeling.refining import RefineSettings, refine_run
from mprm_jax.prediction import exporting
from mprm_jax.prediction.exporting import export_predictions
from mprm_jax.scans.scene import Clicks
from mprm_jax.store.exports import Export, as_labels
from mprm_jax.store.prepare import prepare
from mprm_jax.store.targets import open_targets
from mprm_jax.store.truth import voxel_labels

HOW = {"checkpoint": "last", "store": None, "split": "train", "output": None}
HOW |= {"num_devices": 1, "as_ply": False}


class Rooms:
    """Two tagged rooms, one only clicked, one nobody said anything of; clicks may be added."""

    def __init__(self, path):
        bare = {"labels": None, "weak_labels": None}
        clicked = box_room(2)._replace(**bare)
        rooms = {"train/a": box_room(0), "train/b": box_room(1), "train/clicked": clicked}
        rooms["train/silent"] = box_room(3)._replace(**bare)
        self._source, self._path = FakeSource(path / "scans", rooms), path / "store"
        self.click("train/clicked", 0, 0)
        self.store = self.prepare()

    def click(self, key, point, label):
        """Says that a point, given by its index, is of a class."""
        scene = self._source.scenes[key]
        click = Clicks(scene.coords[[point]], np.arange(3)[None] == label, np.ones(1, bool))
        self._source.scenes[key] = scene._replace(clicks=click)
        self._source.words = self._source.words | {key: f"point {point} is {label}"}

    def prepare(self):
        return prepare(self._source, self._path, CONFIG.data, workers=0).store


@pytest.fixture
def rooms(tmp_path):
    return Rooms(tmp_path)


@pytest.fixture
def export(rooms, tmp_path):
    """Of a segmentation network that has learned nothing."""
    workdir = write_network(tmp_path / "seg", rooms.store, "seg")
    export_predictions(workdir, **HOW)
    return Export(workdir / "pseudo_labels")


def test_predictions_keep_to_the_candidates_of_every_scene_with_evidence(rooms, export):
    assert export.scenes == ("a", "b", "clicked")
    for name in export.scenes:
        scene, sets = export.load(name), rooms.store.candidates("train", name)
        np.testing.assert_array_equal(scene.allowed, sets.allowed)
        labels, some = as_labels(scene.label), sets.allowed.any(axis=1)
        np.testing.assert_array_equal(labels >= 0, some)
        assert sets.allowed[np.flatnonzero(some), labels[some]].all()
        np.testing.assert_allclose(scene.scores.astype(float).sum(axis=1), 1, atol=5e-3)


def test_a_power_of_the_mean_over_all_voxels_is_divided_out(export):
    scores = np.concatenate([export.load(name).scores.astype(float) for name in export.scenes])
    prior = np.array(export.manifest.settings["prior"])
    # Its loss weighed no class, so much of the mean; scores are float16.
    np.testing.assert_allclose(scores.mean(axis=0) ** 0.75, prior, atol=1e-3)
    scene = export.load("a")
    found = exported_probabilities(export, scene)
    expected = np.where(scene.allowed, scene.scores.astype(float) / prior[None], 0)
    expected /= np.maximum(expected.sum(axis=1, keepdims=True), 1e-30)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_export_that_is_there_is_not_made_again(export):
    before = (export.path / "a.npz").stat().st_mtime_ns
    export_predictions(export.path.parent, **HOW)
    assert (export.path / "a.npz").stat().st_mtime_ns == before


def test_a_split_without_evidence_is_one_line(rooms, tmp_path):
    workdir = write_network(tmp_path / "seg", rooms.store, "seg")
    for name in ("a", "b", "clicked"):
        del rooms._source.scenes[f"train/{name}"]
    rooms._source.words = {}
    store = rooms.prepare()
    with pytest.raises(ValueError, match="no scene of split train has tags or clicks"):
        export_predictions(workdir, **HOW | {"store": store.path})


@pytest.mark.parametrize("stage", ["cls", "seg"])
def test_clicks_made_after_an_export_count_in_the_crf_and_in_training(rooms, tmp_path, stage):
    workdir = write_network(tmp_path / stage, rooms.store, stage)
    if stage == "seg":
        export_predictions(workdir, **HOW)
    else:
        export_run(workdir, settings=[], **HOW)
    export = Export(workdir / "pseudo_labels")
    how = {"store": None, "output": None, "settings": RefineSettings(), "tune_scenes": 0}
    refine_run(export.path, picture=False, **how)
    refined = export.path.with_name("pseudo_labels_crf")
    before = as_labels(Export(refined).load("b").label)
    place = rooms.store.point_voxel("train", "b")[500]
    other = (before[place] + 1) % 3
    rooms.click("train/b", 500, other)
    store = rooms.prepare()
    with pytest.raises(ValueError, match="made from another version of the data"):
        open_targets(str(refined), store, "train")
    refine_run(export.path, picture=False, **how)  # sets the older one aside
    labels = open_targets(str(refined), store, "train").labels("b")
    assert before[place] != labels[place] == other
    certain = store.candidates("train", "b").certain
    assert certain[place] and set(labels[certain]) == {other}
    assert Export(refined.with_name("pseudo_labels_crf.1")).manifest.scenes == export.scenes


def test_a_scene_of_clicks_alone_is_labeled_where_they_are(rooms, tmp_path):
    workdir = write_network(tmp_path / "cls", rooms.store, "cls")
    export_run(workdir, settings=[], **HOW)
    labels = as_labels(Export(workdir / "pseudo_labels").load("clicked").label)
    certain = rooms.store.candidates("train", "clicked").certain
    assert certain.any() and set(labels[certain]) == {0} and set(labels[~certain]) == {-1}


def test_an_export_of_other_scenes_is_refused(rooms, export, tmp_path):
    rooms._source.scenes["train/a"] = box_room(7)
    shutil.rmtree(rooms.store.path)
    rooms.prepare()
    with pytest.raises(ValueError, match="made from another version of the data"):
        export.open_store()


def test_known_point_labels_are_the_labels_of_their_scene_and_tags_label_the_others(tmp_path):
    rooms = {f"train/room{seed}": box_room(seed) for seed in range(3)}
    (tmp_path / "labeled.txt").write_text("room1\n")
    choice = str(tmp_path / "labeled.txt")
    source = LabeledScenes(FakeSource(tmp_path / "scans", rooms), choice)
    data = dataclasses.replace(CONFIG.data, point_labels=choice)
    store = prepare(source, tmp_path / "store", data, workers=0).store
    workdir = write_network(tmp_path / "cls", store, "cls")
    export_run(workdir, settings=[], **HOW)
    how = {"store": None, "output": None, "settings": RefineSettings(), "tune_scenes": 0}
    refine_run(workdir / "pseudo_labels", picture=False, **how)
    for folder in ("pseudo_labels", "pseudo_labels_crf"):
        export = Export(workdir / folder)
        for name in export.scenes:
            labels, truth = as_labels(export.load(name).label), voxel_labels(store, "train", name)
            is_known = np.array_equal(labels[truth >= 0], truth[truth >= 0])
            assert is_known == (name == "room1")


def test_an_interrupted_export_continues_to_the_same_files(rooms, tmp_path, monkeypatch):
    workdir = write_network(tmp_path / "seg", rooms.store, "seg")
    export_predictions(workdir, **HOW | {"output": tmp_path / "whole"})
    save, saved = exporting.save_scene, []

    def stops(path, arrays):
        if saved:
            raise KeyboardInterrupt
        saved.append(path)
        save(path, arrays)

    monkeypatch.setattr(exporting, "save_scene", stops)
    with pytest.raises(KeyboardInterrupt):
        export_predictions(workdir, **HOW | {"output": tmp_path / "parts"})
    monkeypatch.setattr(exporting, "save_scene", save)
    export_predictions(workdir, **HOW | {"output": tmp_path / "parts"})
    whole, parts = Export(tmp_path / "whole"), Export(tmp_path / "parts")
    assert whole.manifest.settings == parts.manifest.settings
    for name in whole.scenes:
        for one, other in zip(whole.load(name), parts.load(name), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.fixture
def mined(rooms, tmp_path):
    """Of a classification network that has learned nothing."""
    workdir = write_network(tmp_path / "cls", rooms.store, "cls")
    export_run(workdir, settings=[], **HOW)
    return Export(workdir / "pseudo_labels")


def test_probabilities_of_another_export_are_multiplied_in(export, mined, tmp_path):
    beside = tmp_path / "beside"
    more = {"beside": mined.path, "prior_exponent": 0.5}
    export_predictions(export.path.parent, **HOW | {"output": beside}, **more)
    found, prior = Export(beside), np.array(Export(beside).manifest.settings["prior"])
    np.testing.assert_allclose(prior**1.5, np.array(export.manifest.settings["prior"]), rtol=1e-6)
    for name in export.scenes:
        scene, own, other = found.load(name), export.load(name), mined.load(name)
        said = exported_probabilities(mined, other, np.ones_like(scene.allowed))
        said = np.where((other.num_balls > 0)[:, None], said, 1.0)
        expected = np.where(scene.allowed, own.scores.astype(float) * said / prior[None], 0)
        expected /= np.maximum(expected.sum(axis=1, keepdims=True), 1e-30)
        # Scores are kept in half precision, twice.
        np.testing.assert_allclose(exported_probabilities(found, scene), expected, atol=3e-3)


def test_what_goes_beside_is_unrefined_and_of_the_same_scenes(rooms, export, mined, tmp_path):
    how = {"store": None, "output": None, "settings": RefineSettings(), "tune_scenes": 0}
    refine_run(mined.path, picture=False, **how)
    refined = mined.path.with_name("pseudo_labels_crf")
    to = {"output": tmp_path / "out"}
    with pytest.raises(ValueError, match="smoothed by the CRF already; give the export that it"):
        export_predictions(export.path.parent, **HOW | to, beside=refined)
    foreign = tmp_path / "foreign"
    shutil.copytree(mined.path, foreign)
    manifest = dataclasses.asdict(mined.manifest) | {"classes": ("wall", "floor", "chair")}
    (foreign / "export.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="its 3 classes are not the 3 of"):
        export_predictions(export.path.parent, **HOW | to, beside=foreign)


@pytest.mark.parametrize("exponent", [-1.0, np.inf, np.nan])
def test_an_exponent_that_makes_no_sense_is_one_line(export, tmp_path, exponent):
    how = HOW | {"output": tmp_path / "out", "prior_exponent": exponent}
    with pytest.raises(ValueError, match=r"--prior-exponent .*: give 0 or more"):
        export_predictions(export.path.parent, **how)
    assert not (tmp_path / "out").exists()


def test_the_agreement_counts_free_predictions_that_the_evidence_allows(rooms, export):
    judged, within = 0, 0
    for name in export.scenes:
        scene = export.load(name)
        best = scene.scores.astype(np.float32).argmax(axis=1)
        some = scene.allowed.any(axis=1) & ~scene.allowed.all(axis=1)
        judged += some.sum()
        within += scene.allowed[some, best[some]].sum()
    # Equal probabilities in half precision may be other classes before.
    assert export.manifest.settings["agreement"] == pytest.approx(within / judged, abs=0.02)
