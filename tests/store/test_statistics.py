"""Tag statistics: the same numbers from a store, an archive and tags.csv; the command line."""

import json

import numpy as np
import pytest
from fake_source import FakeSource, box_room
from scan_folders import write_tags

from mprm_jax.commands import weak_labels
from mprm_jax.config import DataConfig
from mprm_jax.scans.scannet import CLASSES
from mprm_jax.store.prepare import prepare
from mprm_jax.store.statistics import read_statistics, to_json, to_table


def write_archive(folder):
    """Scene a: 3 of 4 grid balls, all with wall, one with bathtub; scene b: one without classes."""
    folder.mkdir()
    centers = np.array([[0, 0, 0], [0, 2.5, 0], [3, 0, 0]])
    rows = np.zeros((3, 24))
    rows[:, :3] = centers
    rows[:, 3:5] = 1
    rows[2, 4 + CLASSES.index("bathtub")] = 1
    np.save(folder / "a.npy", rows)
    np.save(folder / "b.npy", rows[:1] * 0)


def test_an_archive_is_counted_with_and_without_empty_balls(tmp_path):
    write_archive(tmp_path / "tags")
    values = to_json(read_statistics(tmp_path / "tags"))
    assert (values["scenes"], values["subclouds"], values["seeds"]) == (2, 4, 5)
    assert values["subclouds_per_scene"] == 2
    assert values["subclouds_per_scene_with_empty"] == 2.5
    assert values["scene"]["wall"] == 50
    assert values["subcloud"]["wall"] == 75
    assert values["subcloud_with_empty"]["wall"] == 60
    assert values["subcloud"]["bathtub"] == 25
    assert list(values["scene"]) == list(CLASSES)


def test_a_list_chooses_the_scenes(tmp_path):
    write_archive(tmp_path / "tags")
    assert read_statistics(tmp_path / "tags", ["a"]).num_scenes == 1
    with pytest.raises(ValueError, match="no tags of 1 of the 2 listed scenes, such as z"):
        read_statistics(tmp_path / "tags", ["a", "z"])


def test_a_store_is_counted_over_its_tagged_scenes(tmp_path):
    room = box_room()
    scenes = {"train/a": room, "val/b": room, "test/c": room._replace(labels=None)}
    source = FakeSource(tmp_path / "scans", scenes)
    data = DataConfig(voxel_size=0.16, sphere_radius=1.0)
    store = prepare(source, tmp_path / "store", data, workers=0).store
    counts = read_statistics(tmp_path / "store")
    weak = store.weak_labels("train", "a")
    assert counts.num_scenes == 2
    assert counts.num_subclouds == 2 * len(weak.tags)
    assert counts.num_seeds == 2 * weak.num_seeds
    np.testing.assert_array_equal(counts.subcloud_counts, 2 * weak.tags.sum(axis=0))


def test_tags_of_people_are_counted(tmp_path):
    (tmp_path / "tags.csv").write_text(
        "scene,x,y,z,radius,wall,floor\nhall,,,,,1,1\nhall,0,0,0,2,1,0\noffice,1,1,1,2,0,1\n"
    )
    values = to_json(read_statistics(tmp_path))
    assert (values["scenes"], values["subclouds"]) == (2, 2)
    assert values["scene"] == {"wall": 50, "floor": 100}
    assert values["subcloud"] == {"wall": 50, "floor": 50}


def test_a_folder_without_tags_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="name a prepared store"):
        read_statistics(tmp_path)


def test_the_table_names_both_denominators(tmp_path):
    write_archive(tmp_path / "tags")
    table = to_table(read_statistics(tmp_path / "tags"))
    assert "2.00 per scene, 2.50 with empty ones" in table
    assert "of the 4 that hold points" in table
    assert "5 of the full grid" in table


def test_the_command_prints_json(tmp_path, monkeypatch, capsys):
    write_archive(tmp_path / "tags")
    (tmp_path / "list.txt").write_text("a\n\na\n")
    flags = ["--labels", str(tmp_path / "tags"), "--split", str(tmp_path / "list.txt"), "--json"]
    monkeypatch.setattr("sys.argv", ["weak_labels.py", "stats", *flags])
    weak_labels.main()
    values = json.loads(capsys.readouterr().out)
    assert (values["scenes"], values["subclouds"]) == (1, 3)


@pytest.mark.parametrize("typed", ["b\u00fcro", "bu\u0308ro", "\ufeffbu\u0308ro"])
def test_listed_scenes_compare_in_one_unicode_form(tmp_path, typed):
    write_tags(tmp_path, "scene,wall", "bu\u0308ro,1", "hall,1")
    (tmp_path / "list.txt").write_text(f"{typed}\n", encoding="utf-8")
    names = weak_labels.read_names(tmp_path / "list.txt")
    assert read_statistics(tmp_path, names).num_scenes == 1
