"""Findings name what is wrong and nothing that is right; layers show each point of the scan."""

import dataclasses
import shutil

import numpy as np
import pytest
from mined_exports import mined_export

from mprm_jax.store.exports import Export, as_stored, save_scene, scene_file
from mprm_jax.store.truth import point_labels, voxel_labels
from mprm_jax.tagging.questions import find_questions
from mprm_jax.tagging.review import (
    CANNOT_TELL,
    CLASS_WITHOUT_TAG,
    FEW,
    FULL,
    HOLDS_NOTHING,
    KINDS,
    LAYERS,
    MANY,
    SELDOM,
    TAG_NOT_FOUND,
    UNKNOWN,
    find_findings,
    layers,
)

WALL, FLOOR, TABLE = range(3)
SCENE = "room2"


def changed_export(export, folder, scene, change):
    """An export like another, but for the arrays of one scene."""
    shutil.copytree(export.path, folder)
    save_scene(scene_file(folder, scene), change(export.load(scene)))
    return Export(folder)


@pytest.fixture(scope="module")
def good(store, tmp_path_factory):
    """What a network that is nearly always right makes of the rooms."""
    return mined_export(tmp_path_factory.mktemp("good") / "export", store, strength=20.0)


def of_kind(findings, kind, scene=SCENE):
    return [found for found in findings if found.kind == kind and found.scene == scene]


def held(store, scene, ball):
    weak, coords = store.weak_labels("train", scene), store.voxel_cloud("train", scene).coords
    return np.linalg.norm(coords - weak.centers[ball][None], axis=1) < weak.radii[ball]


def test_the_worst_come_first(store, export):
    findings = find_findings(export, store, find_questions(export, store, 3))
    weights = [found.weight for found in findings]
    assert weights == sorted(weights, reverse=True) and min(weights) >= 0
    assert {found.kind for found in findings} <= set(KINDS)


def test_a_tag_that_no_label_follows_is_found(store, good, tmp_path):
    without = changed_export(
        good,
        tmp_path / "export",
        SCENE,
        lambda scene: scene._replace(label=np.where(scene.label == TABLE, FLOOR, scene.label)),
    )
    found = of_kind(find_findings(without, store), TAG_NOT_FOUND)
    weak = store.weak_labels("train", SCENE)
    about_tables = [finding for finding in found if finding.classes == (TABLE,)]
    assert {finding.ball for finding in about_tables} == set(np.flatnonzero(weak.tags[:, TABLE]))
    origin = np.array(store.info("train", SCENE).origin)
    for finding in about_tables:
        np.testing.assert_allclose(finding.point, weak.centers[finding.ball] + origin, atol=1e-4)
        assert finding.radius == pytest.approx(weak.radii[finding.ball])
        allowed = store.candidates("train", SCENE).allowed[held(store, SCENE, finding.ball), TABLE]
        assert 0 < finding.weight <= allowed.sum()
        assert "tagged with table, but no voxel in it is labeled so" in finding.text


def test_tags_that_labels_follow_are_not_found(store, good):
    for finding in find_findings(good, store):
        if finding.kind == TAG_NOT_FOUND:
            label = good.load(finding.scene).label[held(store, finding.scene, finding.ball)]
            assert np.sum(label == finding.classes[0]) < FEW


def test_a_class_that_wins_without_a_tag_is_found(store, good, tmp_path):
    weak, coords = store.weak_labels("train", SCENE), store.voxel_cloud("train", SCENE).coords
    ball = int(np.flatnonzero(~weak.tags[:, TABLE])[0])
    inside = held(store, SCENE, ball)

    def as_tables(scene):
        scores = scene.scores.copy()
        scores[inside, TABLE] = 60
        return scene._replace(scores=scores)

    strange = changed_export(good, tmp_path / "export", SCENE, as_tables)
    found = of_kind(find_findings(strange, store), CLASS_WITHOUT_TAG)
    about_tables = [finding for finding in found if finding.classes == (TABLE,)]
    assert about_tables[0].ball == ball
    assert MANY <= about_tables[0].weight <= inside.sum()
    middle = np.array(about_tables[0].point) - store.info("train", SCENE).origin
    assert np.linalg.norm(coords[inside] - middle[None], axis=1).min() < 1e-3
    assert (
        about_tables[0].text
        == f"{inside.sum()} voxels of this ball look like table, which is not tagged."
    )
    # Other balls that hold the same voxels have nothing to add.
    assert sum(finding.weight for finding in about_tables) < 1.01 * inside.sum()


def test_a_network_that_is_right_finds_no_class_without_a_tag(store, good):
    findings = [found for found in find_findings(good, store) if found.kind == CLASS_WITHOUT_TAG]
    for finding in findings:
        # Noise on voxels of no class.
        rows = held(store, finding.scene, finding.ball)
        truth = voxel_labels(store, "train", finding.scene)[rows]
        assert not np.any(truth == finding.classes[0])


def test_questions_are_findings(store, export):
    questions = find_questions(export, store, 2)
    found = [
        finding
        for finding in find_findings(export, store, questions)
        if finding.kind == CANNOT_TELL
    ]
    assert [(f.scene, f.point, f.weight) for f in found] == [
        (q.scene, q.point, q.weight) for q in questions
    ]
    names = [store.classes[c] for c in questions[0].candidates[:2]]
    assert found[0].text == f"The network cannot tell whether this is {' or '.join(names)}."


def test_regions_that_no_tag_fits_are_found_largest_first(store, good):
    findings = [found for found in find_findings(good, store) if found.kind == HOLDS_NOTHING]
    total = 0
    for scene in store.scenes("train"):
        allowed = store.candidates("train", scene).allowed
        total += int(np.sum(~allowed.any(axis=1)))
    assert sum(finding.weight for finding in findings) <= SELDOM * total + 1e-6
    for finding in findings:
        allowed = store.candidates("train", finding.scene).allowed
        coords = store.voxel_cloud("train", finding.scene).coords.astype(float)
        coords += store.info("train", finding.scene).origin
        at = np.linalg.norm(coords - finding.point, axis=1).argmin()
        assert not allowed[at].any()


def test_labels_of_another_export_are_looked_at(store, export, refined, tmp_path):
    emptied = changed_export(
        refined,
        tmp_path / "export",
        SCENE,
        lambda scene: scene._replace(label=np.full_like(scene.label, WALL)),
    )
    found = of_kind(find_findings(export, store, labeled=emptied), TAG_NOT_FOUND)
    weak = store.weak_labels("train", SCENE)
    assert len(found) == weak.tags[:, [FLOOR, TABLE]].sum()


def test_findings_do_not_change_from_call_to_call(store, export):
    assert find_findings(export, store) == find_findings(export, store)


@pytest.mark.parametrize("kind", ["no balls", "no colors", "one class", "one point"])
def test_odd_scans_have_findings_too(odd, kind, tmp_path):
    store = odd(kind)
    export = mined_export(tmp_path / "export", store)
    for finding in find_findings(export, store, find_questions(export, store, 2)):
        assert np.isfinite([*finding.point, finding.radius, finding.weight]).all()


def test_no_scenes_have_no_findings(store, export, tmp_path):
    shutil.copytree(export.path, tmp_path / "export")
    nothing = Export(tmp_path / "export")
    nothing.manifest = dataclasses.replace(nothing.manifest, scenes=())
    assert find_findings(nothing, store) == []


def test_tags_of_a_whole_scene_are_looked_for_in_all_of_it(odd, tmp_path):
    store = odd("tags of the scene")
    export = mined_export(tmp_path / "export", store)
    voxels = store.info("train", "room0").voxels
    labels = as_stored(np.zeros(voxels, np.int32))
    scenes = ("room0", "room1")
    room = export.load("room1")
    scores = np.zeros((voxels, 3), np.float16)
    arrays = room._replace(
        scores=scores,
        allowed=store.candidates("train", "room0").allowed,
        label=labels,
        confidence=scores[:, 0],
        num_balls=np.ones(voxels, np.uint16),
        point_voxel=store.point_voxel("train", "room0"),
    )
    save_scene(scene_file(export.path, "room0"), arrays)
    clouds = store.clouds_fingerprint("train", scenes)
    export.manifest = dataclasses.replace(export.manifest, scenes=scenes, clouds=clouds)
    found = of_kind(find_findings(export, store), TAG_NOT_FOUND, "room0")
    assert [(finding.classes, finding.ball) for finding in found] == [((FLOOR,), None)]
    assert found[0].text.startswith("This scene is tagged with floor, but no voxel in it")


def test_layers_show_every_point_of_the_scan(store, refined, export):
    shown, scene = layers(refined, export, store, SCENE), refined.load(SCENE)
    assert list(shown) == list(LAYERS)
    points = store.info("train", SCENE).points
    assert all(x.dtype == np.uint8 and x.shape == (points,) for x in shown.values())
    voxel = store.point_voxel("train", SCENE)
    np.testing.assert_array_equal(shown["pseudo"], scene.label[voxel])
    np.testing.assert_array_equal(shown["before"], export.load(SCENE).label[voxel])
    changed = shown["before"] != shown["pseudo"]
    np.testing.assert_array_equal(shown["changed"], np.where(changed, shown["pseudo"], UNKNOWN))
    truth = as_stored(point_labels(store, "train", SCENE))
    np.testing.assert_array_equal(shown["truth"], truth)
    is_wrong = (truth != UNKNOWN) & (truth != shown["pseudo"])
    np.testing.assert_array_equal(shown["errors"], np.where(is_wrong, truth, UNKNOWN))


def test_shares_of_layers_are_bytes(store, export):
    shown, voxel = layers(export, None, store, SCENE), store.point_voxel("train", SCENE)
    confidence = export.load(SCENE).confidence.astype(float)[voxel]
    np.testing.assert_allclose(shown["confidence"] / FULL, confidence, atol=0.5 / FULL + 1e-6)
    counts = store.candidates("train", SCENE).allowed.sum(axis=1)[voxel]
    expected = np.where(counts > 0, np.round(FULL / np.maximum(counts, 1)), UNKNOWN)
    np.testing.assert_array_equal(shown["candidates"], expected)


def test_what_there_is_nothing_to_compare_with_is_no_layer(store, odd, export):
    assert list(layers(export, None, store, SCENE)) == [
        "pseudo",
        "confidence",
        "candidates",
        "truth",
        "errors",
    ]


def test_a_scan_without_truth_has_no_errors(odd, export, store, tmp_path):
    shutil.copytree(store.path, tmp_path / "store")
    for file in (tmp_path / "store").rglob("*segment*.npy"):
        file.unlink()
    shown = layers(export, export, type(store)(tmp_path / "store"), SCENE)
    assert not {"truth", "errors"} & set(shown)
