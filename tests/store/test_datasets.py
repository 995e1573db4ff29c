"""From `--data` to a store: made once, found again, named by what it depends on."""

import pathlib
import re

import numpy as np
import pytest
from fake_source import FakeSource, box_room
from scan_folders import COORDS, write_folder, write_scan

from mprm_jax.config import Config, DataConfig
from mprm_jax.presets import tiny
from mprm_jax.store import datasets
from mprm_jax.store.datasets import (
    default_store,
    ensure_store,
    is_same_data,
    open_dataset,
    place_of_results,
    refreshed,
    with_tags,
)
from mprm_jax.store.prepare import prepare


@pytest.fixture
def fake_data(tmp_path, monkeypatch):
    """Makes `fake:PATH` a data set for `ensure_store`, prepared below the test's folder."""
    source = FakeSource(tmp_path / "scans", {"train/a": box_room()})
    monkeypatch.setattr(datasets, "open_source", lambda spec, **_: source)
    monkeypatch.chdir(tmp_path)
    return source


def config(**changes):
    return Config(data=DataConfig(**({"voxel_size": 0.16, "sphere_radius": 1.0} | changes)))


def test_training_finds_the_store_that_was_made(fake_data):
    first = ensure_store("fake:scans", config())
    again = ensure_store("fake:scans", config())
    assert first.path == again.path == default_store("fake:scans", config())
    assert fake_data.num_reads == 1


def test_other_settings_and_paths_have_other_stores():
    changes = [{}, {"voxel_size": 0.08}, {"seeds": "centres"}, {"scale": 0.1}, {"test_area": 1}]
    settings = [config(**change) for change in changes]
    names = {default_store(spec, c) for c in settings for spec in ("folder:a", "folder:b")}
    assert len(names) == 10


def test_stores_of_earlier_versions_are_found():
    names = [default_store(spec, Config()).name for spec in ("rooms", "folder:/my/scans")]
    assert names == ["rooms-quick-4cm-r2-ends", "folder-d2798f-4cm-r2-ends"]


@pytest.fixture
def stored(tmp_path):
    """Prepares the same small room under a specification."""

    def stored(spec, name="folder", seed=0):
        source = FakeSource(tmp_path / "scans", {"train/a": box_room(seed)}, name=name)
        path = tmp_path / "stores" / spec.replace("/", "_")
        return prepare(source, path, config().data, spec=spec, workers=0).store

    return stored


def where(store, **held):
    """Where results go, given whose lie where: True: of these data, False: of others."""
    return str(place_of_results(store, pathlib.Path, lambda path: held.get(path.name)))


@pytest.mark.parametrize(
    ("spec", "name", "held", "place"),
    [
        ("folder:/my/scans", "folder", {}, "scans"),
        ("folder:/my/scans", "folder", {"scans": True}, "scans"),
        ("folder:/my/scans", "folder", {"folder": True}, "folder"),
        ("folder:/my/scans", "folder", {"folder": False}, "scans"),
        ("folder:/my/scans", "folder", {"scans": False}, r"scans-[0-9a-f]{6}"),
        ("folder:/", "folder", {}, "folder"),
        ("scannet:/data/scannet", "scannet", {}, "scannet"),
        ("scannet:/other", "scannet", {"scannet": False}, r"scannet-[0-9a-f]{6}"),
        ("rooms", "rooms-quick", {}, "rooms-quick"),
    ],
)
def test_results_lie_where_no_others_do(stored, spec, name, held, place):
    assert re.fullmatch(place, where(stored(spec, name), **held))


def test_data_are_the_same_by_scans_or_by_what_was_prepared(stored, tmp_path):
    store, gone = stored("folder:a"), tmp_path / "gone"
    assert is_same_data(store, None, store.path)
    assert is_same_data(store, store.fingerprint("train"), gone)
    assert is_same_data(store, None, stored(f"folder:{pathlib.Path('a').resolve()}", seed=1).path)
    assert not is_same_data(store, None, stored("folder:b", seed=2).path)
    assert not is_same_data(store, None, gone)


def test_a_store_outlives_its_scans(fake_data, tmp_path):
    ensure_store("fake:scans", config())
    (tmp_path / "scans").rename(tmp_path / "moved")
    assert ensure_store("fake:scans", config()).scenes("train") == ("a",)


def test_a_prepared_store_can_be_named(fake_data):
    path = ensure_store("fake:scans", config()).path
    assert ensure_store(f"store:{path}", config()).path == path
    with pytest.raises(ValueError, match=r"asked for 0\.5"):
        ensure_store(f"store:{path}", config(voxel_size=0.5))


def test_rooms_become_a_store(tmp_path):
    store = ensure_store(
        "rooms:tiny", tiny(), tmp_path / "store", rooms_root=tmp_path / "rooms", workers=0
    )
    assert store.manifest.name == "rooms-tiny"
    assert len(store.classes) == 20
    for scene in store.scenes("train"):
        info = store.info("train", scene)
        assert info.subclouds >= 1
        assert store.weak_labels("train", scene).scene_tags[:2].all()  # wall and floor
    assert all(store.info("test", scene).subclouds == 0 for scene in store.scenes("test"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [("store:somewhere", "holds no scans"), ("rooms:huge", "tiny"), ("scanet:x", "unknown")],
)
def test_what_cannot_be_opened_is_named(tmp_path, spec, message):
    with pytest.raises(ValueError, match=message):
        open_dataset(spec, DataConfig(), tmp_path)


def test_scale_and_test_area_reach_the_reader(tmp_path):
    write_folder(tmp_path)
    source = open_dataset(f"folder:{tmp_path}", DataConfig(scale=0.5))
    np.testing.assert_array_equal(source.read("train", "office").coords, COORDS / 2)
    for area in "34":
        path = tmp_path / "s3dis" / f"Area_{area}" / "office_1" / "Annotations" / "wall_1.txt"
        path.parent.mkdir(parents=True)
        path.write_text("0 0 0 1 2 3\n")
    source = open_dataset(f"s3dis:{tmp_path}/s3dis", DataConfig(test_area=3))
    assert source.splits["val"] == ["Area_3_office_1"]


def test_a_folder_to_train_on_needs_tags(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "tags.csv").unlink()
    with pytest.raises(ValueError, match=r"tags\.csv: no scan is tagged.*write a line"):
        open_dataset(f"folder:{tmp_path}", DataConfig())


def test_rooms_are_in_meters(tmp_path):
    with pytest.raises(ValueError, match=r"rooms are in meters; leave data\.scale"):
        open_dataset("rooms:tiny", DataConfig(scale=0.1), tmp_path)


def test_unknown_sources_of_tags_are_refused(fake_data):
    with pytest.raises(ValueError, match="choose auto or archive:DIR"):
        with_tags(fake_data, "archive", 2.0)


def test_what_people_said_of_rooms_counts_before_their_labels(tmp_path):
    source = open_dataset("rooms:tiny", DataConfig(), tmp_path)
    scene = source.splits["train"][0]
    assert source.read("train", scene).weak_labels is None
    point = source.read("train", scene).coords[10].tolist()
    (tmp_path / "tiny" / "tags.csv").write_text(
        "scene,x,y,z,radius,tags\n" + f"{scene},{','.join(map(str, point))},1.5,wall;floor\n"
    )
    (tmp_path / "tiny" / "clicks.csv").write_text(
        "scene,x,y,z,class,answer\n" + f"{scene},{','.join(map(str, point))},floor,yes\n"
    )
    said = open_dataset("rooms:tiny", DataConfig(), tmp_path)
    found = said.read("train", scene)
    assert found.weak_labels.tags.sum() == 2 and found.clicks.points.tolist() == [point]
    others = source.splits["train"][1:]
    assert said.said("train", scene) and not any(said.said("train", other) for other in others)


def test_a_store_is_refreshed_by_what_people_say_later_and_by_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "scans")
    (tmp_path / "scans" / "floor1" / "hall.npz").unlink()
    store = ensure_store("folder:scans", config())
    assert refreshed(store).fingerprint("train") == store.fingerprint("train")
    clicks = "scene,x,y,z,class,answer\noffice,0,0,0,floor,yes\n"
    (tmp_path / "scans" / "clicks.csv").write_text(clicks)
    assert refreshed(store).info("train", "office").clicks == 1
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert refreshed(store) is store
    # Another folder of that name holds other scans.
    write_scan(tmp_path / "elsewhere" / "scans" / "kitchen.npz")
    (tmp_path / "elsewhere" / "scans" / "tags.csv").write_text("scene,wall,floor\nkitchen,1,0\n")
    assert refreshed(store) is store


def test_rooms_of_which_people_said_nothing_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = ensure_store("rooms:tiny", config())
    monkeypatch.setattr(datasets, "open_dataset", None)
    assert refreshed(store) is store
