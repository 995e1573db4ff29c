"""Refining: the CRF sees the export's evidence, keeps to allowed classes, and continues."""

import dataclasses
import functools
import json

import numpy as np
import pytest
from fake_source import FakeSource, box_room
from prepared import CONFIG

from mprm_jax.crf.refinement import refine
from mprm_jax.evidence.candidates import Candidates
from mprm_jax.labeling.candidates import sets_of_export
from mprm_jax.labeling.choice import exported_probabilities
from mprm_jax.labeling.measuring import measure_labels
from mprm_jax.labeling.refining import (
    RefineSettings,
    refine_export,
    refine_run,
    refine_scene,
    refined_classes,
    with_kernels,
)
from mprm_jax.store.exports import (
    Export,
    ExportedScene,
    ExportManifest,
    as_labels,
    finish_export,
    save_scene,
    scene_file,
)
from mprm_jax.store.prepare import prepare
from mprm_jax.store.truth import voxel_labels

WIDE = RefineSettings(position_width=0.3, pair_width=0.4)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    rooms = {f"train/room{i}": box_room(i) for i in range(2)}
    return prepare(FakeSource(path / "scans", rooms), path / "store", CONFIG.data, workers=0).store


def noisy_export(store, folder, *, change=lambda scene: scene, calibration="none"):
    """Scores that are right for three voxels of four; each voxel is denied one class."""
    num_classes = len(store.classes)
    for number, name in enumerate(store.scenes("train")):
        rng = np.random.default_rng(number)
        truth = voxel_labels(store, "train", name)
        said = np.where(
            rng.random(len(truth)) < 0.75, truth, rng.integers(0, num_classes, len(truth))
        )
        scores = 2.0 * np.eye(num_classes)[np.maximum(said, 0)]
        allowed = np.ones(scores.shape, bool)
        allowed[np.arange(len(truth)), (np.maximum(truth, 0) + 1) % num_classes] = False
        allowed[:3] = False
        scene = ExportedScene(
            scores=scores.astype(np.float16),
            allowed=allowed,
            label=np.where(allowed, scores, -1).argmax(axis=1).astype(np.uint8),
            confidence=np.ones(len(truth), np.float16),
            num_balls=np.ones(len(truth), np.uint16),
            point_voxel=store.point_voxel("train", name),
        )
        folder.mkdir(exist_ok=True)
        save_scene(scene_file(folder, name), change(scene))
    manifest = ExportManifest(
        data=store.manifest.name,
        classes=tuple(store.classes),
        split="train",
        fingerprint=store.fingerprint("train"),
        store=str(store.path),
        voxel_size=store.manifest.settings.voxel_size,
        scenes=tuple(store.scenes("train")),
        settings={"mining": {"calibration": calibration}},
    )
    scale = {"mean": [0.5] * num_classes, "deviation": [0.25] * num_classes}
    finish_export(folder, manifest, class_scale=scale)
    return Export(folder)


def test_smoothing_mends_scattered_mistakes(store, tmp_path):
    export = noisy_export(store, tmp_path / "labels")
    refined = refine_export(export, store, WIDE, tmp_path / "refined")
    before, after = measure_labels(export, store), measure_labels(refined, store)
    assert after.accuracy > before.accuracy + 0.03


def test_the_same_layout_comes_out(store, tmp_path):
    export = noisy_export(store, tmp_path / "labels")
    refined = refine_export(export, store, WIDE, tmp_path / "refined")
    ours, theirs = refined.manifest, export.manifest
    assert "devices" in ours.made_by
    assert ours == dataclasses.replace(theirs, settings=ours.settings, made_by=ours.made_by)
    recorded = refined.manifest.settings["refined"]
    assert recorded["settings"] == dataclasses.asdict(WIDE)
    assert recorded["of"] == export.manifest.settings
    for name in export.scenes:
        for old, new in zip(export.load(name), refined.load(name), strict=True):
            assert (old.shape, old.dtype) == (new.shape, new.dtype)


@pytest.mark.parametrize("choice", ["allowed", "scene", "all"])
def test_labels_keep_to_the_chosen_classes(store, tmp_path, choice):
    export = noisy_export(store, tmp_path / "labels")
    settings = dataclasses.replace(WIDE, classes=choice)
    name = export.scenes[0]
    scene = refine_scene(export, store, name, settings)
    allowed = refined_classes(sets_of_export(export, store, name, export.load(name)), choice)
    assert np.all(np.take_along_axis(allowed, scene.label[:, None].astype(int), axis=1))
    assert not scene.scores[~allowed].any()
    np.testing.assert_allclose(scene.scores.astype(np.float32).sum(axis=1), 1, atol=5e-3)  # float16


def test_choices_of_classes_grow():
    allowed = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    sets = Candidates(allowed, np.array([False, False, False, True]))
    assert refined_classes(sets, "allowed").sum(axis=1).tolist() == [1, 1, 2, 1]
    assert refined_classes(sets, "scene").sum(axis=1).tolist() == [2, 2, 2, 1]
    assert refined_classes(sets, "all").sum(axis=1).tolist() == [4, 4, 4, 1]


def test_a_voxel_without_evidence_takes_the_class_of_its_surroundings(store, tmp_path):
    export = noisy_export(store, tmp_path / "labels")
    name = export.scenes[0]
    truth = voxel_labels(store, "train", name)[:3]
    labels = as_labels(refine_scene(export, store, name, WIDE).label)[:3]
    assert np.mean(labels[truth >= 0] == truth[truth >= 0]) > 0.5


@pytest.mark.parametrize("builder", ["host", "device"])
@pytest.mark.parametrize("choice", ["allowed", "scene"])
def test_a_corner_in_no_ball_gets_no_class_that_nobody_tagged(
    tmp_path, monkeypatch, choice, builder
):
    """Tags lack class 0, and no ball holds the voxels beyond 3 m."""
    room = box_room(size=(6.0, 2.5, 1.8))
    source = FakeSource(tmp_path / "scans", {"train/long": room})
    store = prepare(source, tmp_path / "store", CONFIG.data, workers=0).store
    x = store.voxel_cloud("train", "long").coords[:, 0]
    x = x - x.min()
    corner, far = x > 3, x > 5.5
    tagged = np.array([False, True, True])

    def forget(scene):
        allowed = np.where(corner[:, None], False, tagged[None])
        label = np.where(corner, 2, np.where(tagged, scene.scores, -np.inf).argmax(axis=1))
        balls = np.where(corner, 0, scene.num_balls)
        return scene._replace(
            allowed=allowed, label=label.astype(np.uint8), num_balls=balls.astype(np.uint16)
        )

    monkeypatch.setattr(
        "mprm_jax.labeling.refining.refine",
        functools.partial(refine, builder=builder),
    )
    settings = dataclasses.replace(RefineSettings(), classes=choice)
    export = noisy_export(store, tmp_path / "labels", change=forget)
    once = refine_export(export, store, settings, tmp_path / "once")
    twice = refine_export(once, store, settings, tmp_path / "twice")
    for refined in (once, twice):
        scene = refined.load("long")
        assert corner.sum() > far.sum() > 20
        np.testing.assert_array_equal(scene.scores[:, 0], 0)
        assert set(scene.label) == {1, 2}
        np.testing.assert_array_equal(scene.label[far], 2)
        # The floor, class 1, goes on beyond the border.
        floor = voxel_labels(store, "train", "long") == 1
        assert (scene.label[corner & floor & (x < 3.3)] == 1).mean() > 0.7


def test_probabilities_are_those_of_the_scores_labels_were_chosen_by(store, tmp_path):
    raw = noisy_export(store, tmp_path / "raw")
    calibrated = noisy_export(store, tmp_path / "calibrated", calibration="class")
    scene = raw.load(raw.scenes[0])
    rows = scene.allowed.any(axis=1)
    for export, scores in ((raw, scene.scores), (calibrated, (scene.scores - 0.5) / 0.25)):
        exponentials = np.where(scene.allowed, np.exp(scores.astype(np.float64)), 0)[rows]
        expected = exponentials / exponentials.sum(axis=1, keepdims=True)
        found = exported_probabilities(export, scene)
        np.testing.assert_allclose(found[rows], expected, rtol=1e-4)
        assert not found[~rows].any()


def test_refining_twice_starts_from_the_marginals(store, tmp_path):
    export = noisy_export(store, tmp_path / "labels")
    refined = refine_export(export, store, WIDE, tmp_path / "refined")
    scene = refined.load(refined.scenes[0])
    np.testing.assert_array_equal(exported_probabilities(refined, scene), scene.scores)


def test_what_is_done_is_not_done_again(store, tmp_path, monkeypatch):
    export = noisy_export(store, tmp_path / "labels")
    expected = refine_export(export, store, WIDE, tmp_path / "whole")
    calls = []

    def stop_after_one(*args):
        if calls:
            raise KeyboardInterrupt
        calls.append(args)
        return refine_scene(*args)

    monkeypatch.setattr("mprm_jax.labeling.refining.refine_scene", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        refine_export(export, store, WIDE, tmp_path / "parts")
    assert not (tmp_path / "parts" / "export.json").exists()
    calls.clear()
    parts = refine_export(export, store, WIDE, tmp_path / "parts")
    for name in expected.scenes:
        for one, other in zip(expected.load(name), parts.load(name), strict=True):
            np.testing.assert_array_equal(one, other)
    refine_export(export, store, WIDE, tmp_path / "parts")
    assert len(calls) == 1


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("scores", np.nan, "scores of voxel 7 are not finite"),
        ("label", 3, "label of voxel 7 is no"),
    ],
)
def test_what_cannot_be_refined_is_named(store, tmp_path, field, value, message):
    def spoil(scene):
        getattr(scene, field)[7] = value
        return scene

    export = noisy_export(store, tmp_path / "labels", change=spoil)
    with pytest.raises(ValueError, match=rf"room0\.npz: the {message}"):
        refine_export(export, store, WIDE, tmp_path / "refined")
    assert not list((tmp_path / "refined").glob("*.npz"))


def test_scans_without_colors_are_refused_unless_asked(tmp_path):
    room = box_room()
    room = room._replace(colors=None)
    source = FakeSource(tmp_path / "scans", {"train/gray": room})
    store = prepare(source, tmp_path / "store", CONFIG.data, workers=0).store
    export = noisy_export(store, tmp_path / "labels")
    with pytest.raises(ValueError, match=r"scene gray has no colors.*--color-width 0"):
        refine_export(export, store, WIDE, tmp_path / "refined")
    assert not (tmp_path / "refined").exists()
    alone = dataclasses.replace(WIDE, color_width=0.0)
    assert refine_export(export, store, alone, tmp_path / "refined").scenes == ("gray",)


def test_a_run_writes_beside_the_export_and_measures_both(store, tmp_path):
    noisy_export(store, tmp_path / "labels")
    report = refine_run(
        tmp_path / "labels", store=None, output=None, settings=WIDE, tune_scenes=1, picture=True
    )
    values = json.loads(json.dumps(report.values))
    assert values["after"]["accuracy"] > values["before"]["accuracy"]
    assert values["directory"] == str(tmp_path / "labels_crf")
    assert (tmp_path / "labels_crf" / "refined.png").read_bytes().startswith(b"\x89PNG")
    assert "before" in report.text and "after" in report.text


def test_kernels_with_normals_smooth_scenes_of_any_size(tmp_path):
    room = box_room(0)
    one = room._replace(coords=room.coords[:1], colors=room.colors[:1], labels=room.labels[1:2])
    source = FakeSource(tmp_path / "scans", {"train/one": one, "train/room": room})
    store = prepare(source, tmp_path / "store", CONFIG.data, workers=0).store
    export = noisy_export(store, tmp_path / "labels")
    settings = with_kernels("normals", trust=0.5)
    refined = refine_export(export, store, settings, tmp_path / "refined")
    assert len(refined.load("one").label) == 1
    before, after = (measure_labels(found, store).accuracy for found in (export, refined))
    assert after > before


def test_settings_of_kernels_can_be_changed_one_by_one():
    released, normals = with_kernels("released"), with_kernels("normals", surface_width=0.2)
    assert (released.voxel_size, released.normal_width) == (0, 0)
    assert (normals.voxel_size, normals.surface_width, normals.trust) == (0.04, 0.2, 0.15)
    with pytest.raises(ValueError, match="voxel_size is -1; give meters, or 0"):
        with_kernels("normals", voxel_size=-1)
