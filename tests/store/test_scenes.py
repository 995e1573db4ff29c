"""The store: what is in it, what Pointcept finds, and that training needs no point label."""

import json
import os
import pathlib

import numpy as np
import pytest
from fake_source import FakeSource, box_room, mesh_room, scene_tags

from mprm_jax.batches import loader, shapes
from mprm_jax.batches import tagged_balls as subclouds
from mprm_jax.config import DataConfig
from mprm_jax.errors import UserError
from mprm_jax.evidence.weak_labels import WeakLabelArrays
from mprm_jax.geometry.balls import in_ball
from mprm_jax.scans.pointcept import Pointcept
from mprm_jax.store.exports import ExportedScene, load_scene, save_scene
from mprm_jax.store.prepare import prepare
from mprm_jax.store.scenes import SceneStore, StoredClouds, read_weak_labels
from mprm_jax.store.truth import has_labels, point_labels, voxel_labels

DATA = DataConfig(voxel_size=0.16, sphere_radius=1.0)


def make_store(tmp_path, scenes=None, **changes):
    source = FakeSource(tmp_path / "scans", scenes or {"train/a": box_room()}, **changes)
    return prepare(source, tmp_path / "store", DATA, workers=0).store


def test_voxels_lie_in_distinct_cells_and_cover_the_scan(tmp_path):
    store = make_store(tmp_path)
    voxels, points = store.voxel_cloud("train", "a"), store.points("train", "a")
    cells = np.floor(voxels.coords / DATA.voxel_size)
    assert len(np.unique(cells, axis=0)) == len(voxels.coords)
    gaps = points.coords - voxels.coords[store.point_voxel("train", "a")]
    assert np.linalg.norm(gaps, axis=1).max() < DATA.voxel_size * np.sqrt(3)
    np.testing.assert_allclose(points.coords, box_room().coords, atol=1e-6)
    np.testing.assert_array_equal(points.colors, box_room().colors)


def test_large_triangles_of_a_mesh_fill_their_voxels(tmp_path):
    store = make_store(tmp_path, {"train/m": mesh_room(2.4)})
    voxels = store.voxel_cloud("train", "m")
    assert len(voxels.coords) == pytest.approx(2 * (2.4 / DATA.voxel_size + 1) ** 2, rel=0.05)
    assert store.info("train", "m").points == 8
    labels = voxel_labels(store, "train", "m")
    is_wall = voxels.coords[:, 2] > DATA.voxel_size
    assert np.all(labels[is_wall] == 0)
    assert np.all(voxels.colors[is_wall] == [0, 100, 0])
    is_floor = voxels.coords[:, 1] > DATA.voxel_size
    assert np.all(labels[is_floor] == 1)
    assert np.all(voxels.colors[is_floor] == [200, 0, 0])


def test_the_number_of_voxels_in_a_ball_is_what_training_will_find(tmp_path):
    store = make_store(tmp_path)
    coords, weak = store.voxel_cloud("train", "a").coords, store.weak_labels("train", "a")
    found = [np.sum(in_ball(coords - c[None], r)) for c, r in zip(*weak[:2], strict=True)]
    np.testing.assert_array_equal(weak.num_points, found)


def test_scans_far_from_zero_keep_their_shape(tmp_path):
    far = np.array([500_000.25, 5_400_000.5, 310.0])
    room = box_room()
    store = make_store(tmp_path, {"train/a": room._replace(coords=room.coords + far[None])})
    origin = np.array(store.info("train", "a").origin)
    np.testing.assert_array_equal(origin, np.round(origin))
    coords = store.points("train", "a").coords.astype(float) + origin - far
    np.testing.assert_allclose(coords, room.coords, atol=1e-6)


def test_tags_of_people_move_with_the_origin(tmp_path):
    room = box_room()
    tags = scene_tags(0)._replace(centers=np.array([[5000.5, 0, 0]]), radii=np.ones(1))
    scene = room._replace(coords=room.coords + np.array([[5000, 0, 0]]), weak_labels=tags)
    store = make_store(tmp_path, {"train/a": scene})
    np.testing.assert_allclose(store.weak_labels("train", "a").centers, [[0.5, 0, 0]], atol=1e-6)


def test_what_people_said_comes_before_point_labels(tmp_path):
    store = make_store(tmp_path, {"train/a": box_room()._replace(weak_labels=scene_tags(2))})
    np.testing.assert_array_equal(store.weak_labels("train", "a").scene_tags, [False, False, True])


def test_pointcept_s_layout_reads_back(tmp_path):
    store = make_store(tmp_path)
    source = Pointcept(store.path)
    scene = source.read("train", "a")
    assert tuple(source.classes) == tuple(store.classes)
    np.testing.assert_array_equal(scene.labels, box_room().labels)
    np.testing.assert_array_equal(scene.colors, box_room().colors)


def with_normals(scene):
    normals = np.random.default_rng(0).normal(size=scene.coords.shape)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals[5] = 0
    return scene._replace(normals=normals.astype(np.float32))


def test_normals_are_stored_as_pointcept_reads_them(tmp_path):
    room = with_normals(box_room())
    store = make_store(tmp_path, {"train/a": room, "train/b": box_room(1)})
    np.testing.assert_array_equal(store.normals("train", "a"), room.normals)
    found = Pointcept(store.path).read("train", "a").normals
    np.testing.assert_allclose(found, room.normals, atol=1e-7)  # rounding of float32
    assert store.normals("train", "b") is None
    assert not (store.folder("train", "b") / "normal.npy").exists()


def test_normals_change_nothing_else_in_a_store(tmp_path):
    plain = make_store(tmp_path / "plain")
    store = make_store(tmp_path / "normals", {"train/a": with_normals(box_room())})
    assert store.manifest == plain.manifest
    for file in plain.path.rglob("*.np[yz]"):
        assert file.read_bytes() == (store.path / file.relative_to(plain.path)).read_bytes()


def test_a_scan_prepared_before_normals_were_read_is_not_prepared_again(tmp_path):
    source = Pointcept(make_store(tmp_path).path)
    prepare(source, tmp_path / "again", DATA, workers=0)
    np.save(tmp_path / "store" / "train" / "a" / "normal.npy", np.ones((900, 3)))
    kept = prepare(source, tmp_path / "again", DATA, workers=0)
    assert (kept.num_new, kept.store.normals("train", "a")) == (0, None)


def test_other_normals_than_before_are_prepared(tmp_path):
    source = Pointcept(make_store(tmp_path, {"train/a": with_normals(box_room())}).path)
    prepare(source, tmp_path / "again", DATA, workers=0)
    up = np.tile(np.array([[0, 0, 1]], np.float32), (900, 1))
    np.save(tmp_path / "store" / "train" / "a" / "normal.npy", up)
    fresh = prepare(source, tmp_path / "again", DATA, workers=0)
    assert fresh.num_new == 1
    np.testing.assert_array_equal(fresh.store.normals("train", "a"), up)


def test_a_scan_without_labels_and_tags_is_stored_without_balls(tmp_path):
    scenes = {"train/a": box_room(), "test/t": box_room()._replace(labels=None)}
    store = make_store(tmp_path, scenes)
    assert store.info("test", "t").voxels > 0
    assert len(store.weak_labels("test", "t").centers) == 0
    assert store.tagged_scenes("test") == ()
    assert not has_labels(store, "test", "t")


def test_reading_deleted_point_labels_says_so(tmp_path):
    store = make_store(tmp_path)
    assert len(point_labels(store, "train", "a")) == 900
    delete_point_labels(store.path)
    assert not has_labels(store, "train", "a")
    for read in (point_labels, voxel_labels):
        with pytest.raises(FileNotFoundError, match="no point labels"):
            read(store, "train", "a")


def test_without_point_labels_the_store_gives_the_same_and_is_not_made_again(tmp_path):
    source = FakeSource(tmp_path / "scans", {"train/a": box_room(), "train/b": box_room(1)})
    store = prepare(source, tmp_path / "store", DATA, workers=0).store
    before = [(*store.voxel_cloud("train", s), *store.weak_labels("train", s)) for s in "ab"]
    fingerprint = store.fingerprint("train")
    delete_point_labels(store.path)
    again = prepare(source, tmp_path / "store", DATA, workers=0)
    assert again.num_new == 0
    after = [
        (*again.store.voxel_cloud("train", s), *again.store.weak_labels("train", s)) for s in "ab"
    ]
    for old, new in zip(before, after, strict=True):
        for old_array, new_array in zip(old, new, strict=True):
            np.testing.assert_array_equal(old_array, new_array)
    assert again.store.fingerprint("train") == fingerprint
    assert not list(store.path.rglob("*segment*"))


@pytest.mark.parametrize("module", [subclouds, loader, shapes])
def test_the_input_of_training_does_not_import_point_labels(module):
    assert "truth" not in pathlib.Path(module.__file__).read_text()


def test_the_fingerprint_follows_tags_and_points_but_not_point_labels(tmp_path):
    def fingerprint(name, scene):
        return make_store(tmp_path / name, {"train/a": scene}).fingerprint("train")

    tagged = box_room()._replace(weak_labels=scene_tags(0))
    same = fingerprint("one", tagged)
    assert fingerprint("two", tagged._replace(labels=None)) == same
    assert fingerprint("three", tagged._replace(weak_labels=scene_tags(1))) != same
    assert fingerprint("four", tagged._replace(coords=tagged.coords + 0.01)) != same


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json"):
        SceneStore(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "not readable as JSON"),
        (lambda text: "[]", "not readable as JSON"),
        (lambda text: text.replace('"format": 1', '"format": 99'), "store format 99"),
        (lambda text: text.replace('"classes"', '"clases"'), "incomplete"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path, change, message):
    store = make_store(tmp_path)
    path = store.path / "manifest.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=message):
        SceneStore(store.path)


def test_damaged_and_missing_arrays_name_their_file(tmp_path):
    store = make_store(tmp_path)
    folder = store.folder("train", "a")
    (folder / "voxel_coord.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"voxel_coord\.npy: damaged"):
        store.voxel_cloud("train", "a")
    (folder / "weak_labels.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"weak_labels\.npz: missing"):
        store.weak_labels("train", "a")
    with pytest.raises(FileNotFoundError, match=r"weak_labels\.npz: missing"):
        store.require_files()


def test_scenes_in_any_number_are_read_from_their_files(tmp_path):
    store = make_store(tmp_path, {f"train/{i}": box_room(seed=i) for i in range(40)})
    clouds = StoredClouds(store, "train")
    for place in [*range(40), *reversed(range(40))]:
        mapped, read = clouds.cloud(place), store.voxel_cloud("train", clouds.scenes[place])
        for ours, theirs in zip(mapped, read, strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert isinstance(ours.base, np.memmap) and not ours.flags.writeable


def test_a_scene_that_was_prepared_again_is_read_again(tmp_path):
    first = make_store(tmp_path)
    before = StoredClouds(first, "train").cloud(0)
    source = FakeSource(tmp_path / "scans", {"train/a": box_room(seed=5)})
    source.file("train/a").write_text("changed")
    again = prepare(source, tmp_path / "store", DATA, workers=0).store
    after = StoredClouds(again, "train").cloud(0)
    np.testing.assert_array_equal(after.coords, again.voxel_cloud("train", "a").coords)
    assert before.coords.tobytes() != after.coords.tobytes()


def test_a_mapped_array_that_was_cut_names_its_file(tmp_path):
    store = make_store(tmp_path)
    path = store.folder("train", "a") / "voxel_coord.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"voxel_coord\.npy: damaged"):
        StoredClouds(store, "train").cloud(0)


def test_a_file_that_is_cut_while_it_is_mapped_names_itself_before_it_is_read(tmp_path):
    store = make_store(tmp_path)
    clouds = StoredClouds(store, "train")
    whole = np.array(clouds.cloud(0).coords)
    path = store.folder("train", clouds.scenes[0]) / "voxel_coord.npy"
    content = path.read_bytes()
    os.truncate(path, len(content) // 2)
    with pytest.raises(ValueError, match=r"voxel_coord\.npy: cut short while it is read; delete"):
        clouds.cloud(0)
    path.unlink()
    path.write_bytes(content)
    np.testing.assert_array_equal(clouds.cloud(0).coords, whole)


@pytest.mark.parametrize("cut", [0, 40, 200])
def test_damaged_weak_labels_name_their_file(tmp_path, cut):
    store = make_store(tmp_path)
    path = store.folder("train", "a") / "weak_labels.npz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"weak_labels\.npz: damaged .*; delete its folder"):
        store.weak_labels("train", "a")


def test_unknown_splits_and_scenes_name_what_is_there(tmp_path):
    store = make_store(tmp_path)
    with pytest.raises(ValueError, match="it has train"):
        store.scenes("validation")
    with pytest.raises(ValueError, match="no scene train/b"):
        store.info("train", "b")


def test_the_manifest_is_plain_json(tmp_path):
    values = json.loads((make_store(tmp_path).path / "manifest.json").read_text())
    assert values["splits"] == {"train": ["a"]}
    assert values["scenes"]["train/a"]["points"] == 900


def delete_point_labels(path):
    for file in path.rglob("*segment*.npy"):
        file.unlink()


@pytest.mark.parametrize("kind", [ExportedScene, WeakLabelArrays])
def test_a_garbled_archive_is_one_line(tmp_path, kind):
    """Bits of it change: what is read is an array again, or one line names the file."""
    rng, path = np.random.default_rng(0), tmp_path / "scene.npz"
    save_scene(path, kind(*(np.arange(40, dtype=np.int32) for _ in kind._fields)))
    whole = path.read_bytes()
    for _ in range(300):
        garbled = bytearray(whole)
        garbled[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(garbled)
        try:
            load_scene(path, kind) if kind is ExportedScene else read_weak_labels(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
