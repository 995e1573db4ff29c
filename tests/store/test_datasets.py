"""From `--data` to a store: made once, found again, named by what it depends on."""

import numpy as np
import pytest
from fake_source import FakeSource, box_room
from scan_folders import COORDS, write_folder

from mprm_jax.config import Config, DataConfig
from mprm_jax.presets import tiny
from mprm_jax.store import datasets
from mprm_jax.store.datasets import default_store, ensure_store, open_dataset, with_tags


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
        path = tmp_path / f"Area_{area}" / "office_1" / "Annotations" / "wall_1.txt"
        path.parent.mkdir(parents=True)
        path.write_text("0 0 0 1 2 3\n")
    source = open_dataset(f"s3dis:{tmp_path}", DataConfig(test_area=3))
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
