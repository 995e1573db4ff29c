"""Questions go to the regions in most doubt, and what was asked is not asked again."""

import dataclasses

import numpy as np
import pytest
from fake_source import FakeSource, box_room
from mined_exports import mined_export
from prepared import CONFIG, SIZES

from mprm_jax.evidence.candidates import CLICK_RADIUS
from mprm_jax.geometry.normals import surface_normals
from mprm_jax.scans.scene import Clicks
from mprm_jax.store.exports import Export, as_labels, finish_export
from mprm_jax.store.prepare import prepare
from mprm_jax.store.truth import voxel_labels
from mprm_jax.tagging.doubt import Beliefs
from mprm_jax.tagging.questions import (
    COLUMNS,
    Question,
    find_questions,
    read_questions,
    write_questions,
)
from mprm_jax.tagging.regions import regions

MANY = 10_000
ODD = ("no balls", "tags of the scene", "no colors", "one class", "one point")


def regions_in(store, export, scene):
    cloud, labels = store.voxel_cloud("train", scene), as_labels(export.load(scene).label)
    normals = surface_normals(cloud.coords, cloud.coords)
    size = store.manifest.settings.voxel_size
    return regions(cloud.coords, cloud.colors, normals, labels, size)


def voxel_at(store, question):
    """The voxel of a question, and how far it is from the point."""
    coords = store.voxel_cloud("train", question.scene).coords.astype(float)
    coords += store.info("train", question.scene).origin
    gaps = np.linalg.norm(coords - question.point, axis=1)
    return gaps.argmin(), gaps.min()


def asked(questions):
    points = {}
    for question in questions:
        points.setdefault(question.scene, []).append(question.point)
    return {scene: np.array(found) for scene, found in points.items()}


def test_weights_are_the_doubt_of_regions(store, export):
    questions = find_questions(export, store, MANY)
    beliefs = Beliefs(store, export)
    for scene in export.scenes:
        region, doubt = regions_in(store, export, scene), beliefs.of(scene).doubt
        own = [question for question in questions if question.scene == scene]
        weights = [doubt[region == number].sum(dtype=float) for number in range(region.max() + 1)]
        expected = sorted((weight for weight in weights if weight > 0), reverse=True)
        # Weights are written with four digits.
        np.testing.assert_allclose([question.weight for question in own], expected, atol=1e-4)
        for question in own:
            inside = doubt[region == region[voxel_at(store, question)[0]]]
            assert question.weight == pytest.approx(inside.sum(dtype=float), abs=1e-4)


def test_questions_are_at_voxels_and_hold_their_region(store, export):
    for question in find_questions(export, store, 8):
        voxel, gap = voxel_at(store, question)
        assert gap < 1e-4
        coords = store.voxel_cloud("train", question.scene).coords
        region = regions_in(store, export, question.scene)
        inside = coords[region == region[voxel]]
        assert np.linalg.norm(inside - coords[voxel], axis=1).max() < question.radius


def test_chosen_regions_are_in_more_doubt_than_random_ones(store, export):
    chosen = find_questions(export, store, 4, total=8)
    every = find_questions(export, store, MANY)
    at_random = np.random.default_rng(0).permutation(len(every))[: len(chosen)]
    mean = np.mean([every[i].weight for i in at_random])
    assert np.mean([question.weight for question in chosen]) > 2 * mean


def test_answers_mend_more_labels_than_at_random(store, export):
    def wrong_near(questions):
        """Wrong voxels in the regions that are asked about."""
        count = 0
        for question in questions:
            truth = voxel_labels(store, "train", question.scene)
            region = regions_in(store, export, question.scene)
            inside = region == region[voxel_at(store, question)[0]]
            label = export.load(question.scene).label
            count += int(np.sum(inside & (truth >= 0) & (label != truth)))
        return count

    every = find_questions(export, store, MANY)
    tries = [np.random.default_rng(i).permutation(len(every))[:8] for i in range(10)]
    at_random = np.mean([wrong_near([every[i] for i in rows]) for rows in tries])
    assert wrong_near(every[:8]) > 2 * at_random


def test_the_heaviest_come_first_and_counts_are_kept(store, export):
    every = find_questions(export, store, MANY)
    weights = [question.weight for question in every]
    assert weights == sorted(weights, reverse=True)
    few = find_questions(export, store, 3)
    assert max(np.unique([q.scene for q in few], return_counts=True)[1]) == 3
    assert find_questions(export, store, 3, total=5) == few[:5]
    assert find_questions(export, store, MANY, total=5) == every[:5]
    assert find_questions(export, store, 0) == find_questions(export, store, 3, total=0) == []


def test_a_person_who_answers_comes_to_an_end(store, export):
    every, answered, rounds = find_questions(export, store, MANY), [], 0
    while left := find_questions(export, store, 5, asked(answered)):
        assert not {question.point for question in left} & {q.point for q in answered}
        answered += left
        rounds += 1
    assert rounds > 1
    # A region whose point is too near to another question is never asked.
    assert 0.5 * len(every) < len(answered) <= len(every)


def test_answering_a_question_removes_it_and_hardly_another(store, export):
    before = find_questions(export, store, MANY)
    first = before[0]
    after = find_questions(export, store, MANY, asked([first]))
    assert first not in after
    near = [q for q in before if np.linalg.norm(np.subtract(q.point, first.point)) <= CLICK_RADIUS]
    assert [q for q in before if q not in near or q.scene != first.scene] == after


@pytest.mark.parametrize("answer", ["the class", "none"])
def test_an_answer_that_was_prepared_settles_its_voxels(store, export, tmp_path, answer):
    question = find_questions(export, store, 1, total=1)[0]
    said = (np.arange(len(store.classes)) == question.candidates[0]) & (answer == "the class")
    clicks = Clicks(np.array([question.point]), said[None], np.array([True]))
    rooms = {f"train/room{i}": box_room(i, SIZES[i % 3]) for i in range(4)}
    key = f"train/{question.scene}"
    rooms[key] = rooms[key]._replace(clicks=clicks)
    source = FakeSource(tmp_path / "scans", rooms)
    clicked = prepare(source, tmp_path / "store", CONFIG.data, workers=0).store
    before = Beliefs(store, export).of(question.scene).doubt
    after = Beliefs(clicked, export).of(question.scene).doubt
    assert after[voxel_at(store, question)[0]] == 0
    assert after.sum() < before.sum()


def test_a_click_anywhere_in_a_region_leaves_it_alone(store, export):
    first = find_questions(export, store, 1, total=1)[0]
    region = regions_in(store, export, first.scene)
    coords = store.voxel_cloud("train", first.scene).coords.astype(float)
    inside = coords[region == region[voxel_at(store, first)[0]]]
    far = inside[np.linalg.norm(inside - inside.mean(axis=0), axis=1).argmax()]
    clicked = {first.scene: far[None] + np.array(store.info("train", first.scene).origin)[None]}
    assert first not in find_questions(export, store, MANY, clicked)


def test_candidates_are_those_of_the_region_likeliest_first(store, export):
    beliefs = Beliefs(store, export)
    for question in find_questions(export, store, 5):
        region = regions_in(store, export, question.scene)
        belief = beliefs.of(question.scene)
        evidence = belief.shares[region == region[voxel_at(store, question)[0]]].sum(axis=0)
        assert list(evidence[list(question.candidates)]) == sorted(evidence[evidence > 0])[::-1]


def test_labels_of_another_export_cut_the_regions(store, export, refined):
    questions = find_questions(export, store, MANY, labeled=refined)
    for question in questions[:10]:
        region = regions_in(store, refined, question.scene)
        doubt = Beliefs(store, export).of(question.scene).doubt
        inside = doubt[region == region[voxel_at(store, question)[0]]]
        assert question.weight == pytest.approx(inside.sum(dtype=float), abs=1e-4)


def test_the_same_data_have_the_same_questions(store, export, predicted):
    for found in (None, export, predicted):
        assert find_questions(found, store, 5) == find_questions(found, store, 5)


def test_without_a_network_sets_and_sizes_decide(store):
    questions = find_questions(None, store, 5)
    assert {question.scene for question in questions} == set(store.scenes("train"))
    assert len(find_questions(None, store, 5, split="val")) == 5


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("mined", [False, True])
def test_odd_scans_have_questions_too(odd, kind, mined, tmp_path):
    store = odd(kind)
    export = mined_export(tmp_path / "export", store) if mined else None
    questions = find_questions(export, store, 3)
    for question in questions:
        assert voxel_at(store, question)[1] < 1e-4
        assert set(question.candidates) <= set(range(len(store.classes)))
    write_questions(tmp_path / "questions.csv", questions, store.classes)
    again = read_questions(tmp_path / "questions.csv", store.scenes("train"), store.classes)
    assert again == questions


def test_without_balls_every_region_is_a_question(odd):
    questions = find_questions(None, odd("no balls"), 3)
    assert [question.scene for question in questions].count("room0") == 3


def test_one_class_leaves_no_question_inside_of_balls(odd):
    store = odd("one class")
    beliefs = Beliefs(store, None)
    in_doubt = sum(beliefs.of(scene).doubt.sum() for scene in store.scenes("train"))
    weight = sum(question.weight for question in find_questions(None, store, MANY))
    uncovered = sum(int(np.sum(~beliefs.of(s).covered)) for s in store.scenes("train"))
    assert in_doubt == pytest.approx(0.8 * uncovered, rel=1e-5) == pytest.approx(weight, abs=0.1)


def test_no_scenes_have_no_questions(store, export, tmp_path):
    finish_export(tmp_path, dataclasses.replace(export.manifest, scenes=()))
    assert find_questions(Export(tmp_path), store, 5) == []


def test_what_is_written_is_read_back(store, export, tmp_path):
    path, questions = tmp_path / "questions.csv", find_questions(export, store, 4)
    write_questions(path, questions, store.classes)
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert read_questions(path, store.scenes("train"), store.classes) == questions
    write_questions(path, [], store.classes)
    assert read_questions(path, store.scenes("train"), store.classes) == []


def test_large_coordinates_and_odd_names_survive(tmp_path):
    path = tmp_path / "questions.csv"
    question = Question("a b, c", (412345.1234, 5712345.5, -0.0001), 0.5, 12.25, (1, 0))
    write_questions(path, [question], ["no, thing", "straße"])
    assert read_questions(path, ["a b, c"], ["no, thing", "straße"]) == [question]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("room9,0,0,0,1,1,wall", "names scene 'room9', which is no scan"),
        ("room0,0,0,0,1,1,wal", "line 2 names class 'wal', which is none of this data set"),
        ("room0,0,nan,0,1,1,wall", "line 2 has 'nan' for y; write a number"),
        ("room0,0,0,0,1,,wall", "line 2 has '' for weight; write a number"),
    ],
)
def test_a_wrong_line_is_named(store, tmp_path, line, reason):
    path = tmp_path / "questions.csv"
    path.write_text(f"{','.join(COLUMNS)}\n{line}\n")
    with pytest.raises(ValueError, match=reason):
        read_questions(path, store.scenes("train"), store.classes)


def test_other_columns_are_refused(tmp_path):
    path = tmp_path / "questions.csv"
    path.write_text("scene,tags\n")
    with pytest.raises(
        ValueError, match="its columns are not scene,x,y,z,radius,weight,candidates"
    ):
        read_questions(path, [], [])
