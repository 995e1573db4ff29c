"""Preparation: resuming, broken scenes, and everything that can be wrong with a place or a scan."""

import dataclasses
import errno
import json
import logging
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fake_source import DeadlySource, FakeSource, box_room, scene_tags
from scan_folders import write_folder

from mprm_jax.config import DataConfig
from mprm_jax.errors import UserError
from mprm_jax.evidence.folder import Folder
from mprm_jax.evidence.known_labels import LabeledScenes
from mprm_jax.one_writer import only_writer
from mprm_jax.scans.scene import Clicks
from mprm_jax.store.prepare import prepare
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.truth import voxel_labels

DATA = DataConfig(voxel_size=0.16, sphere_radius=1.0)
ROOM = box_room()


def make_source(tmp_path, **scenes):
    """Scenes by "split_name"; room a always trains."""
    scenes = {"train_a": ROOM} | scenes
    return FakeSource(tmp_path / "scans", {k.replace("_", "/"): v for k, v in scenes.items()})


def run(source, tmp_path, data=DATA, **settings):
    return prepare(source, tmp_path / "store", data, **({"workers": 0} | settings))


def nothing_half_written(tmp_path):
    store = tmp_path / "store"
    return not list(store.glob(".*")) and not list(store.glob("*/*/.*"))


def test_what_another_process_is_preparing_is_waited_for_and_found(tmp_path):
    source = make_source(tmp_path, val_b=box_room(1))
    run(source, tmp_path / "other")
    with ThreadPoolExecutor(1) as pool:
        with only_writer(tmp_path / "store"):
            late = pool.submit(run, source, tmp_path)
            time.sleep(0.5)  # it finds nothing there yet
            assert not late.done()
            shutil.copytree(tmp_path / "other" / "store", tmp_path / "store", dirs_exist_ok=True)
        assert late.result()[1:] == (0, 2)
    assert nothing_half_written(tmp_path)


def test_finished_scenes_are_not_prepared_again(tmp_path):
    source = make_source(tmp_path, val_b=box_room(1))
    assert run(source, tmp_path)[1:] == (2, 0)
    assert run(source, tmp_path)[1:] == (0, 2)
    assert source.num_reads == 2


def test_two_processes_give_the_same_store_as_one(tmp_path):
    source = make_source(tmp_path, train_b=box_room(1), val_c=box_room(2), test_d=box_room(3))
    one = run(source, tmp_path).store
    two = prepare(source, tmp_path / "other", DATA, workers=2).store
    assert one.manifest == two.manifest
    for file in sorted(one.path.rglob("*.np[yz]")):
        assert file.read_bytes() == (two.path / file.relative_to(one.path)).read_bytes()


def test_an_interrupted_run_continues(tmp_path, monkeypatch):
    source = make_source(tmp_path, train_b=box_room(1), train_c=box_room(2))
    original = FakeSource.read

    def stop_at_c(self, split, name):
        if name == "c":
            raise KeyboardInterrupt
        return original(self, split, name)

    monkeypatch.setattr(FakeSource, "read", stop_at_c)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path)
    with pytest.raises(FileNotFoundError, match="no complete store"):
        SceneStore(tmp_path / "store")
    monkeypatch.setattr(FakeSource, "read", original)
    assert run(source, tmp_path)[1:] == (1, 2)


def test_a_changed_scan_is_prepared_again(tmp_path):
    source = make_source(tmp_path, train_b=box_room(1))
    before = run(source, tmp_path).store.fingerprint("train")
    source.scenes = source.scenes | {"train/b": box_room(2)}
    source.file("train/b").write_text("changed")
    again = run(source, tmp_path)
    assert again[1:] == (1, 1)
    assert again.store.fingerprint("train") != before


def test_a_store_that_is_being_changed_is_not_complete(tmp_path, monkeypatch):
    source = make_source(tmp_path, train_b=box_room(1))
    run(source, tmp_path)
    source.file("train/b").write_text("changed")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(FakeSource, "read", stop)
        run(source, tmp_path)
    with pytest.raises(FileNotFoundError, match="no complete store"):
        SceneStore(tmp_path / "store")
    assert run(source, tmp_path)[1:] == (1, 1)


def test_a_scene_that_left_the_source_leaves_the_manifest(tmp_path):
    run(make_source(tmp_path, train_b=box_room(1)), tmp_path)
    store = run(make_source(tmp_path), tmp_path).store
    assert store.scenes("train") == ("a",)


def test_scans_that_are_gone_do_not_make_a_store_stale(tmp_path):
    source = make_source(tmp_path)
    run(source, tmp_path)
    source.file("train/a").unlink()
    assert run(source, tmp_path)[1:] == (0, 1)


def test_a_scene_without_its_arrays_is_prepared_again(tmp_path):
    source = make_source(tmp_path)
    store = run(source, tmp_path).store
    (store.folder("train", "a") / "voxel_coord.npy").unlink()
    assert run(source, tmp_path)[1:] == (1, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"coords": np.zeros((0, 3)), "colors": None, "labels": None}, "no points"),
        ({"coords": np.where(ROOM.coords > 2.9, np.nan, ROOM.coords)}, "NaN or infinite"),
        ({"colors": None}, "no colors"),
        ({"colors": ROOM.colors[1:]}, "899 colors"),
        ({"labels": ROOM.labels[1:]}, "899 labels"),
        ({"labels": ROOM.labels + 1}, "expected -1 to 2"),
        ({"coords": ROOM.coords * 1000}, "check the unit"),
        ({"coords": ROOM.coords * 1e6}, "check its unit"),
        ({"weak_labels": scene_tags(0)._replace(tags=np.ones((1, 9), bool))}, "9 classes"),
    ],
)
def test_a_broken_scene_is_named_with_its_reason(tmp_path, changes, reason):
    source = make_source(tmp_path, train_b=ROOM._replace(**changes))
    with pytest.raises(ValueError, match=f"train/b: .*{reason}"):
        run(source, tmp_path)
    assert nothing_half_written(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "missing"),
        (b"", "empty"),
        (b"solid", "no PLY header"),
        (
            b"ply\nformat binary_little_endian 1.0\nelement vertex 9\nproperty float x\n"
            b"end_header\n1234",
            "cut off",
        ),
    ],
)
def test_broken_files_are_found_before_anything_is_prepared(tmp_path, monkeypatch, content, reason):
    source = make_source(tmp_path, train_b=ROOM)
    file = tmp_path / "scans" / "scan.ply"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(FakeSource, "files", lambda *_: [str(file)])
    with pytest.raises(ValueError, match=r"2 broken scenes.*--on-error continue") as error:
        run(source, tmp_path)
    assert source.num_reads == 0
    assert "\n" not in str(error.value)


def test_every_broken_scene_is_reported(tmp_path, caplog):
    empty = ROOM._replace(coords=np.zeros((0, 3)), colors=None, labels=None)
    source = make_source(tmp_path, train_b=empty, val_c=ROOM._replace(colors=None))
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match="2 broken scenes"):
        run(source, tmp_path)
    assert "train/b" in caplog.text
    assert "val/c" in caplog.text


def test_a_missing_file_does_not_hide_what_is_wrong_inside_others(tmp_path, caplog):
    empty = ROOM._replace(coords=np.zeros((0, 3)), colors=None, labels=None)
    source = make_source(tmp_path, train_b=ROOM, val_c=empty)
    source.file("train/b").unlink()
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match="2 broken scenes"):
        run(source, tmp_path)
    assert "train/b: " in caplog.text and "missing; export" in caplog.text
    assert "val/c: it has no points" in caplog.text
    with pytest.raises(FileNotFoundError, match="no complete store"):
        SceneStore(tmp_path / "store")


def test_broken_scenes_are_left_out_when_told_and_stay_out(tmp_path):
    empty = ROOM._replace(coords=np.zeros((0, 3)), colors=None, labels=None)
    source = make_source(tmp_path, train_b=empty)
    store = run(source, tmp_path, on_error="continue").store
    assert store.scenes("train") == ("a",)
    assert "no points" in store.manifest.broken["train/b"].reason
    assert not (store.path / "train" / "b").exists()
    assert run(source, tmp_path, on_error="stop")[1:] == (0, 1)
    source.scenes = source.scenes | {"train/b": box_room(1)}
    source.file("train/b").write_text("mended")
    mended = run(source, tmp_path).store
    assert mended.scenes("train") == ("a", "b")
    assert not mended.manifest.broken


def test_a_data_set_without_any_colors_is_stored_with_zeros(tmp_path, caplog):
    room = ROOM._replace(colors=None)
    source = FakeSource(tmp_path / "scans", {"train/a": room})
    with caplog.at_level(logging.WARNING):
        store = run(source, tmp_path).store
    assert "no colors" in caplog.text
    assert not store.info("train", "a").has_colors
    assert not store.voxel_cloud("train", "a").colors.any()


def test_colors_can_be_left_out_of_all_scans(tmp_path):
    source = make_source(tmp_path, train_gray=box_room(1)._replace(colors=None))
    with pytest.raises(ValueError, match=r"train/gray: it has no colors.*data\.colors=none"):
        run(source, tmp_path)
    data = dataclasses.replace(DATA, colors="none")
    store = prepare(source, tmp_path / "gray", data, workers=0).store
    assert not any(store.info("train", scene).has_colors for scene in store.scenes("train"))
    assert not store.voxel_cloud("train", "a").colors.any()
    assert not store.points("train", "a").colors.any()


def test_no_scene_to_train_on_is_an_error(tmp_path):
    source = FakeSource(tmp_path / "scans", {"val/a": ROOM})
    with pytest.raises(ValueError, match=r"split train has no scene; check the path"):
        run(source, tmp_path)
    assert source.num_reads == 0


def test_more_classes_than_a_byte_tells_apart_are_refused(tmp_path):
    source = make_source(tmp_path)
    source.classes = [f"class {i}" for i in range(256)]
    with pytest.raises(ValueError, match="256 classes; merge some"):
        run(source, tmp_path)


def test_nothing_but_broken_training_scenes_is_an_error(tmp_path):
    source = make_source(tmp_path, val_b=ROOM)
    source.scenes = source.scenes | {"train/a": ROOM._replace(colors=None)}
    with pytest.raises(ValueError, match="split train has no readable scene"):
        run(source, tmp_path, on_error="continue")


def test_training_scenes_without_tags_are_mentioned(tmp_path, caplog):
    source = make_source(tmp_path, train_b=ROOM._replace(labels=None))
    with caplog.at_level(logging.WARNING):
        run(source, tmp_path)
    assert "1 of 2 training scenes have no tags" in caplog.text


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    source = make_source(tmp_path, train_b=box_room(1))
    save, calls = np.save, []

    def fill_up(file, array):
        calls.append(file)
        if len(calls) > 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, array)

    monkeypatch.setattr(np, "save", fill_up)
    with pytest.raises(OSError, match=r"train/b: cannot be written \(No space left") as error:
        run(source, tmp_path)
    assert "\n" not in str(error.value)
    assert nothing_half_written(tmp_path)
    assert not (tmp_path / "store" / "train" / "b").exists()
    monkeypatch.setattr(np, "save", save)
    assert run(source, tmp_path)[1:] == (1, 1)


def test_a_place_that_cannot_be_written_is_named_before_any_work(tmp_path):
    source = make_source(tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="choose another --store"):
        prepare(source, tmp_path / "file" / "store", DATA, workers=0)
    assert source.num_reads == 0


def test_a_store_among_the_scans_is_refused_before_anything_is_written(tmp_path):
    source = make_source(tmp_path)
    before = sorted(source.root.rglob("*"))
    with pytest.raises(UserError, match=r"holds the scans themselves, such as .*; choose"):
        prepare(source, source.root, DATA)
    assert sorted(source.root.rglob("*")) == before


def test_a_killed_worker_is_one_line(tmp_path):
    source = DeadlySource(tmp_path / "scans", {"train/a": ROOM, "train/b": ROOM})
    with pytest.raises(ChildProcessError, match="fewer --workers") as error:
        run(source, tmp_path, workers=2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "difference"),
    [
        (DataConfig(voxel_size=0.08, sphere_radius=1.0), "voxel_size 0.16, asked for 0.08"),
        (DataConfig(voxel_size=0.16, sphere_radius=2.0), "sphere_radius 1.0, asked for 2.0"),
        (DataConfig(voxel_size=0.16, sphere_radius=1.0, seeds="centres"), "seeds ends"),
        (DataConfig(voxel_size=0.16, sphere_radius=1.0, scale=0.1), "scale 1.0, asked for 0.1"),
        (DataConfig(voxel_size=0.16, sphere_radius=1.0, test_area=1), "test_area 5, asked for 1"),
    ],
)
def test_a_store_of_other_settings_is_refused(tmp_path, data, difference):
    source = make_source(tmp_path)
    run(source, tmp_path)
    with pytest.raises(ValueError, match=f"{difference}.*choose another --store"):
        run(source, tmp_path, data)


def test_a_store_of_another_data_set_is_refused(tmp_path):
    source = make_source(tmp_path)
    run(source, tmp_path)
    source.classes = ("wall", "floor", "chair")
    with pytest.raises(ValueError, match="holds fake with 3 classes"):
        run(source, tmp_path)


def test_evidence_changes_a_scene_and_only_that(tmp_path):
    source = make_source(tmp_path, train_b=box_room(1), val_c=box_room(2))
    first = run(source, tmp_path)
    keys = [f"train/{scene}" for scene in first.store.scenes("train")]
    before = {key: first.store.info(*key.split("/")) for key in keys}
    table = np.array([[False, False, True]])
    click = Clicks(source.scenes[keys[0]].coords[:1], table, np.ones(1, bool))
    source.scenes = dict(source.scenes) | {keys[0]: source.scenes[keys[0]]._replace(clicks=click)}
    source.words = {keys[0]: "a click"}
    again = run(source, tmp_path)
    after = {key: again.store.info(*key.split("/")) for key in keys}
    assert (again.num_new, again.num_kept) == (1, len(source.scenes) - 1)
    assert before[keys[0]].fingerprint != after[keys[0]].fingerprint
    assert before[keys[0]].cloud == after[keys[0]].cloud and after[keys[0]].clicks == 1
    assert [before[key] for key in keys[1:]] == [after[key] for key in keys[1:]]
    sets = again.store.candidates(*keys[0].split("/"))
    assert sets.certain.any() and np.all(sets.allowed[sets.certain] == table)
    source.words, source.scenes = (
        {},
        make_source(tmp_path, train_b=box_room(1), val_c=box_room(2)).scenes,
    )
    assert run(source, tmp_path).store.info(*keys[0].split("/")) == before[keys[0]]


def test_point_labels_are_evidence_only_where_they_are_named(tmp_path):
    source = make_source(tmp_path, train_b=box_room(1), val_c=box_room(2))
    names = [scene for scenes in source.splits.values() for scene in scenes]
    (tmp_path / "labeled.txt").write_text(f"# the first\n{names[0]}\n")
    choice = str(tmp_path / "labeled.txt")
    data = dataclasses.replace(DATA, point_labels=choice)
    store = run(LabeledScenes(source, choice), tmp_path, data).store
    split = next(split for split, scenes in source.splits.items() if names[0] in scenes)
    truth, sets = voxel_labels(store, split, names[0]), store.candidates(split, names[0])
    np.testing.assert_array_equal(sets.certain, truth >= 0)
    np.testing.assert_array_equal(sets.allowed[sets.certain].argmax(axis=1), truth[truth >= 0])
    for key in source.scenes:
        if not key.endswith(f"/{names[0]}"):
            assert not store.candidates(*key.split("/")).certain.any()


def test_a_list_of_labeled_scenes_is_checked(tmp_path):
    source = make_source(tmp_path, train_b=box_room(1), val_c=box_room(2))
    with pytest.raises(FileNotFoundError, match=r"data\.point_labels=nowhere: no such file"):
        LabeledScenes(source, "nowhere")
    (tmp_path / "labeled.txt").write_text("rom\n")
    with pytest.raises(ValueError, match=r"labeled\.txt: no scene 'rom'"):
        LabeledScenes(source, str(tmp_path / "labeled.txt"))


def test_a_store_without_candidate_sets_gives_those_of_its_tags(tmp_path):
    """As stores of older versions are."""
    store = run(make_source(tmp_path), tmp_path).store
    scene = store.scenes("train")[0]
    expected = store.candidates("train", scene)
    path = store.path / "manifest.json"
    manifest = json.loads(path.read_text())
    for info in manifest["scenes"].values():
        del info["set_sizes"], info["cloud"], info["clicks"], info["clicks_outside"]
    path.write_text(json.dumps(manifest))
    (store.folder("train", scene) / "candidates.npz").unlink()
    old = SceneStore(store.path)
    np.testing.assert_array_equal(old.candidates("train", scene).allowed, expected.allowed)
    assert old.fingerprint("train") == store.fingerprint("train")
    with pytest.raises(FileNotFoundError, match="candidates"):
        store.candidates("train", scene)


def test_lost_candidate_sets_are_made_again(tmp_path):
    source = make_source(tmp_path, train_b=box_room(1), val_c=box_room(2))
    store = run(source, tmp_path).store
    (store.folder("train", store.scenes("train")[0]) / "candidates.npz").unlink()
    assert run(source, tmp_path).num_new == 1


@pytest.mark.parametrize("tagged", [True, False])
def test_what_people_said_reaches_worker_processes(tmp_path, tagged):
    scans = tmp_path / "scans"
    write_folder(scans)
    (scans / "classes.txt").write_text("wall\nfloor\n")
    if not tagged:
        (scans / "tags.csv").unlink()
    clicks = ("scene,x,y,z,class,answer", "office,0,0,0,floor,yes", "floor1/hall,0,0,0,,none")
    (scans / "clicks.csv").write_text("\n".join(clicks) + "\n")
    source = LabeledScenes(Folder(scans), "all")
    data = dataclasses.replace(DATA, point_labels="all", colors="none")
    store = run(source, tmp_path, data, workers=2).store
    assert [store.info("train", scene).clicks for scene in ("office", "floor1_hall")] == [1, 1]


def test_classes_may_be_added_and_all_scenes_are_prepared_again(tmp_path, caplog):
    source = make_source(tmp_path, val_b=box_room(1))
    run(source, tmp_path)
    source.classes = (*source.classes, "sofa")
    with caplog.at_level(logging.INFO):
        again = run(source, tmp_path)
    assert "classes were added (sofa)" in caplog.text
    assert (again.num_new, again.num_kept) == (2, 0)
    scene = again.store.scenes("train")[0]
    assert again.store.classes[-1] == "sofa"
    assert again.store.weak_labels("train", scene).tags.shape[1] == 4
    assert again.store.candidates("train", scene).allowed.shape[1] == 4
    assert run(source, tmp_path).num_kept == 2
