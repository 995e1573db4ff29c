"""Mining: what is exported for each scene, how it continues, and what is said without a tag."""

import dataclasses
import errno
import pathlib

import jax
import numpy as np
import pytest
from fake_source import FakeSource, box_room, scene_tags
from prepared import CONFIG, make_store

from mprm_jax.batches.shapes import calibrate
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.evaluation.pictures import draw_showcase
from mprm_jax.labeling.choice import (
    class_scale,
    decide,
    score_sums,
    standardise,
)
from mprm_jax.labeling.measuring import measure_choices, measure_labels
from mprm_jax.labeling.mining import MINED, export_pseudo_labels
from mprm_jax.overrides import override
from mprm_jax.store.exports import Export, as_labels
from mprm_jax.store.prepare import prepare
from mprm_jax.training.answers import ReadyNetwork
from mprm_jax.training.parallel import make_mesh
from mprm_jax.training.steps import Predicted


def says_colors(_, batch):
    """A network that says each point's color: as many channels as classes."""
    return Predicted(batch.features[:, 1:], {})


@pytest.fixture(scope="module")
def subclouds(tmp_path_factory):
    """Two rooms; of the second, people say that it holds none of the classes."""
    path = tmp_path_factory.mktemp("data")
    rooms = {"train/full": box_room(), "train/none": box_room(1)._replace(weak_labels=scene_tags())}
    store = prepare(FakeSource(path / "scans", rooms), path / "store", CONFIG.data, workers=0).store
    return TaggedBalls(store, "train", CONFIG)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    return TaggedBalls(make_store(tmp_path_factory.mktemp("data")), "train", CONFIG)


def exported(
    subclouds,
    folder,
    *settings,
    predict=says_colors,
    num_devices=1,
    origin="a network",
    is_own=False,
):
    config = override(calibrate(CONFIG, subclouds), settings)
    mesh = make_mesh(jax.devices()[:num_devices])
    network = ReadyNetwork(predict, None, config, mesh)
    return export_pseudo_labels(network, subclouds, folder, {"of": origin}, is_own=is_own)


def contents(folder):
    """The bytes of every array, by file."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.npz")):
        with np.load(path) as arrays:
            found[path.name] = {name: arrays[name].tobytes() for name in arrays.files}
    return found


def test_scores_are_means_over_balls_and_labels_the_best_allowed_ones(rooms, tmp_path):
    export = exported(rooms, tmp_path / "export")
    scale = class_scale(
        [score_sums(export.load(s).scores[export.load(s).num_balls > 0]) for s in export.scenes]
    )
    for number, name in enumerate(export.scenes):
        scene, cloud = export.load(name), rooms.store.voxel_cloud("train", name)
        covered = scene.num_balls > 0
        # float16 of means of equal values
        np.testing.assert_allclose(scene.scores[covered], cloud.colors[covered] / 255, atol=1e-3)
        allowed = np.ones(scene.scores.shape, bool)
        for index in np.flatnonzero(rooms.scene_of == number):
            allowed[rooms.read(index).rows] &= rooms.tags[index]
        allowed[~covered] = rooms.tags[rooms.scene_of == number].any(axis=0)
        np.testing.assert_array_equal(scene.allowed, allowed)
        scores = standardise(scene.scores.astype(np.float32), scale)
        decision = decide(scores, allowed, cloud.coords, covered)
        np.testing.assert_array_equal(as_labels(scene.label), decision.label)
        np.testing.assert_allclose(scene.confidence, decision.confidence, atol=1e-3)
        np.testing.assert_array_equal(scene.point_voxel, rooms.store.point_voxel("train", name))


@pytest.mark.parametrize("num_devices", [2, 4])
def test_the_number_of_devices_changes_no_bit(rooms, tmp_path, num_devices):
    exported(rooms, tmp_path / "one")
    exported(rooms, tmp_path / "many", num_devices=num_devices)
    assert contents(tmp_path / "one") == contents(tmp_path / "many") != {}


def test_an_interrupted_export_continues_to_the_same_files(rooms, tmp_path):
    calls = []

    def stops_after_some(state, batch):
        calls.append(batch)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return says_colors(state, batch)

    with pytest.raises(KeyboardInterrupt):
        exported(rooms, tmp_path / "two", predict=stops_after_some)
    with pytest.raises(FileNotFoundError, match="no complete export"):
        Export(tmp_path / "two")
    exported(rooms, tmp_path / "two")
    exported(rooms, tmp_path / "one")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert not (tmp_path / "two" / MINED).exists()


def test_a_scene_that_was_mined_is_not_mined_again(rooms, tmp_path, monkeypatch):
    monkeypatch.setattr("mprm_jax.labeling.mining._choose", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        exported(rooms, tmp_path)
    monkeypatch.undo()
    exported(rooms, tmp_path, predict=_interrupt)


def test_a_complete_export_is_not_made_again(rooms, tmp_path):
    exported(rooms, tmp_path)
    exported(rooms, tmp_path, predict=_interrupt)


@pytest.mark.parametrize(
    ("settings", "origin", "named"),
    [(["mining.fusion=sum"], "a network", "mining"), ([], "another network", "origin")],
)
def test_another_export_is_not_overwritten(rooms, tmp_path, settings, origin, named):
    exported(rooms, tmp_path)
    with pytest.raises(ValueError, match=rf"export\.json: of another export \({named} differ"):
        exported(rooms, tmp_path, *settings, origin=origin)


def test_an_export_that_belongs_to_a_run_sets_another_one_aside(rooms, tmp_path, caplog):
    folder = tmp_path / "pseudo_labels"
    exported(rooms, folder)
    kept = contents(folder)
    other = exported(rooms, folder, origin="another network", is_own=True)
    assert other.manifest.settings["origin"] == {"of": "another network"}
    assert contents(tmp_path / "pseudo_labels.1") == kept
    assert "origin differ" in caplog.text and "pseudo_labels.1" in caplog.text
    exported(rooms, folder, origin="another network", is_own=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pseudo_labels", "pseudo_labels.1"]


def test_more_votes_move_the_balls_and_average(rooms, tmp_path):
    def says_positions(_, batch):
        return Predicted(batch.pyramid.points[0], {})

    one = exported(rooms, tmp_path / "one", predict=says_positions)
    many = exported(rooms, tmp_path / "many", "mining.votes=3", predict=says_positions)
    for name in one.scenes:
        np.testing.assert_array_equal(one.load(name).num_balls, many.load(name).num_balls)
        assert not np.array_equal(one.load(name).scores, many.load(name).scores)
    again = exported(rooms, tmp_path / "again", "mining.votes=3", predict=says_positions)
    assert contents(many.path) == contents(again.path)


def test_the_papers_argmax_takes_scores_as_they_are(rooms, tmp_path):
    export = exported(rooms, tmp_path, "mining.calibration=none")
    for name in export.scenes:
        scene = export.load(name)
        some = (scene.num_balls > 0) & scene.allowed.any(axis=1)
        best = np.where(scene.allowed, scene.scores, -np.inf)[some].argmax(axis=1)
        np.testing.assert_array_equal(scene.label[some], best)


def test_a_scene_without_a_tagged_class_is_reported_and_stays_unlabeled(
    subclouds, tmp_path, caplog
):
    export = exported(subclouds, tmp_path)
    assert "1 scenes are tagged with no class" in caplog.text and "none" in caplog.text
    found = export.load("none")
    assert found.label.dtype == np.uint8 and np.all(found.label == 255)
    assert np.all(as_labels(found.label) == -1) and not found.confidence.any()
    assert np.all(as_labels(export.load("full").label) >= 0)


def test_points_without_a_label_count_as_wrong(subclouds, tmp_path):
    export = exported(subclouds, tmp_path)
    found = measure_labels(export, subclouds.store)
    assert found.num_unlabeled > 0
    assert 0 < found.accuracy < 0.6


def test_choices_are_measured_side_by_side(rooms, tmp_path):
    calibrated = exported(rooms, tmp_path / "class")
    raw = exported(rooms, tmp_path / "none", "mining.calibration=none")
    found = measure_choices(calibrated, rooms.store, seed=0)
    assert len(found) == 4
    for way, export in (("calibrated", calibrated), ("raw", raw)):
        np.testing.assert_array_equal(found[way].iou, measure_labels(export, rooms.store).iou)


def test_a_full_disk_is_one_line_and_leaves_no_half_written_file(subclouds, tmp_path, monkeypatch):
    def fill_up(file, **_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fill_up)
    with pytest.raises(OSError, match=r"full\.npz: cannot be written \(No space left"):
        exported(subclouds, tmp_path / "labels")
    assert not list((tmp_path / "labels").rglob("*.npz*"))


def test_an_unlabeled_scene_can_be_drawn(subclouds, tmp_path):
    export = exported(subclouds, tmp_path)
    export.manifest = dataclasses.replace(export.manifest, scenes=("none",))
    assert draw_showcase(subclouds, export, tmp_path / "scene.png") == "none"
    assert (tmp_path / "scene.png").exists()


def _interrupt(*_):
    raise KeyboardInterrupt
