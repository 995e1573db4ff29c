"""Exports: what is written comes back, and what does not belong is refused in one line."""

import dataclasses
import json

import numpy as np
import pytest
from prepared import make_store

from mprm_jax.store.exports import (
    Export,
    ExportedScene,
    ExportManifest,
    as_labels,
    as_stored,
    begin_export,
    finish_export,
    save_scene,
    scene_file,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


def manifest_of(store, **changes):
    manifest = ExportManifest(
        data=store.manifest.name,
        classes=tuple(store.classes),
        split="train",
        fingerprint=store.fingerprint("train"),
        store=str(store.path),
        voxel_size=store.manifest.settings.voxel_size,
        scenes=tuple(store.scenes("train")),
        settings={"fusion": "max"},
    )
    return dataclasses.replace(manifest, **changes)


def arrays_of(seed, num_voxels=7, num_classes=3):
    rng = np.random.default_rng(seed)
    return ExportedScene(
        scores=rng.normal(size=(num_voxels, num_classes)).astype(np.float16),
        allowed=rng.random((num_voxels, num_classes)) < 0.5,
        label=rng.integers(0, num_classes, num_voxels).astype(np.uint8),
        confidence=rng.random(num_voxels).astype(np.float16),
        num_balls=rng.integers(0, 9, num_voxels).astype(np.uint16),
        point_voxel=rng.integers(0, num_voxels, 20).astype(np.int32),
    )


def written(folder, store, **changes):
    folder.mkdir(exist_ok=True)
    manifest = manifest_of(store, **changes)
    for number, scene in enumerate(manifest.scenes):
        save_scene(scene_file(folder, scene), arrays_of(number))
    finish_export(folder, manifest)
    return manifest


def test_what_is_written_comes_back(store, tmp_path):
    manifest = written(tmp_path, store)
    export = Export(tmp_path)
    assert export.manifest == manifest
    export.require_store(store)
    for number, scene in enumerate(export.scenes):
        for found, expected in zip(export.load(scene), arrays_of(number), strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


def test_an_export_is_begun_and_finished_once(store, tmp_path):
    manifest = manifest_of(store, scenes=())
    for _ in range(2):
        assert begin_export(tmp_path / "new", manifest) is None
    finish_export(tmp_path / "new", manifest, found=[1])
    again = begin_export(tmp_path / "new", manifest)
    assert again.manifest.settings == manifest.settings | {"found": [1]}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("changes", "named"), [({"split": "val"}, "split"), ({"settings": {"fusion": 1}}, "fusion")]
)
def test_a_folder_belongs_to_one_export(store, tmp_path, changes, named, finished):
    manifest = manifest_of(store, scenes=())
    begin_export(tmp_path, manifest)
    if finished:
        finish_export(tmp_path, manifest)
    with pytest.raises(ValueError, match=rf"json: of another export \({named} differ\); choose"):
        begin_export(tmp_path, dataclasses.replace(manifest, **changes))


def test_labels_survive_as_bytes():
    labels = np.array([0, 254, -1, 3], np.int32)
    assert as_stored(labels).tolist() == [0, 254, 255, 3]
    np.testing.assert_array_equal(as_labels(as_stored(labels)), labels)


def test_a_folder_without_a_manifest_is_no_export(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no export\.json, so no complete export; run"):
        Export(tmp_path)


def test_a_missing_scene_is_named(store, tmp_path):
    first = written(tmp_path, store).scenes[0]
    scene_file(tmp_path, first).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{first}\.npz: missing, with 0 more; export"):
        Export(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classes": ("wall",)}, r"made before class 'floor' was added"),
        ({"split": "test", "scenes": ()}, "has no split test"),
        ({"fingerprint": "0"}, "made from another version of the data"),
    ],
)
def test_an_export_of_other_data_is_refused(store, tmp_path, changes, reason):
    written(tmp_path, store, **changes)
    with pytest.raises(ValueError, match=reason):
        Export(tmp_path).require_store(store)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}'])
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(ValueError, match=r"export\.json: damaged \(.*\); export the"):
        Export(tmp_path)


def test_another_format_is_refused(store, tmp_path):
    written(tmp_path, store)
    path = tmp_path / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ValueError, match="export format 99, this version reads 1"):
        Export(tmp_path)


@pytest.mark.parametrize("damage", [lambda data: data[:40], lambda data: b"", lambda data: b"no"])
def test_a_damaged_scene_is_named(store, tmp_path, damage):
    scene = written(tmp_path, store).scenes[0]
    path = scene_file(tmp_path, scene)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{scene}\.npz: damaged \(.*\); delete it and export"):
        Export(tmp_path).load(scene)
