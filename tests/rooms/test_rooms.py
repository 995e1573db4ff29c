"""The rooms are the same wherever they are made, and their files agree with each other."""

import errno
import importlib
import json

import numpy as np
import pytest
from plyfile import PlyData

from mprm_jax.rooms import SIZES, generate
from mprm_jax.rooms.generate import num_scenes, scan_scene, scene_folder, scene_name, scene_rng
from mprm_jax.rooms.labels import NYU40_ID
from mprm_jax.rooms.room_types import furnished, room_type
from mprm_jax.scans.scannet import NYU40_IDS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms") / "tiny"
    generate(folder, "tiny", workers=1)
    return folder


def _contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _annotated(root):
    names = [name for split in ("train", "val") for name in _listed(root, split)]
    return [root / "scans" / name for name in names]


def _listed(root, split):
    return (root / f"scannetv2_{split}.txt").read_text().split()


def test_number_of_workers_changes_nothing(root, tmp_path):
    other = tmp_path / "tiny"
    generate(other, "tiny", workers=2)
    assert _contents(other) == _contents(root)


def test_other_seeds_and_scenes_differ():
    scans = [scan_scene("tiny", seed, index) for seed, index in ((0, 0), (1, 0), (0, 1))]
    assert len({scan.points.tobytes() for scan in scans}) == 3


def test_resume_keeps_finished_scenes_and_drops_half_written_ones(root, tmp_path):
    copy = tmp_path / "tiny"
    (copy / "scans" / ".partial-scene0001_00").mkdir(parents=True)
    (copy / "rooms.json").write_bytes((root / "rooms.json").read_bytes())
    for index in (i for i in range(num_scenes("tiny")) if i != 1):
        scene_folder(copy, "tiny", index).mkdir(parents=True)
    generate(copy, "tiny", workers=1)
    files = [p for p in copy.glob("scans*/*/*") if p.is_file()]
    assert {p.parent.name for p in files} == {scene_name(1)}
    assert not list(copy.glob("scans/.partial-*"))


def test_complete_data_set_is_not_touched(root):
    def stamps():
        return {p: p.stat().st_mtime_ns for p in root.rglob("*")}

    before = stamps()
    generate(root, "tiny")
    assert stamps() == before


@pytest.mark.parametrize("setting", [{"size": "quick"}, {"size": "tiny", "seed": 1}])
def test_root_with_other_settings_is_refused(root, setting):
    with pytest.raises(ValueError, match=r"rooms\.json: holds .* choose another folder"):
        generate(root, **setting)


def test_folder_with_foreign_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="choose another folder"):
        generate(tmp_path, "tiny")


def test_a_damaged_folder_is_one_line(root, tmp_path):
    (tmp_path / "rooms.json").write_text("{")
    with pytest.raises(ValueError, match=r"rooms\.json: damaged .*; delete its folder"):
        generate(tmp_path, "tiny")


def test_unknown_size_names_the_valid_ones(tmp_path):
    with pytest.raises(ValueError, match="tiny, quick, full"):
        generate(tmp_path, "huge")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def fill_up(folder, *_, **__):
        (folder / "half.ply").write_bytes(b"ply")
        raise OSError(errno.ENOSPC, "No space left on device")

    # The function has the name of its module.
    module = importlib.import_module("mprm_jax.rooms.generate")
    monkeypatch.setattr(module, "write_scan", fill_up)
    with pytest.raises(OSError, match=r"scene0000_00: cannot be written \(No space left on device"):
        generate(tmp_path / "tiny", "tiny", workers=1)
    assert not list((tmp_path / "tiny").glob("scans*/*"))


def test_splits_list_every_scene_once(root):
    names = [_listed(root, split) for split in ("train", "val", "test")]
    spec = SIZES["tiny"]
    assert [len(n) for n in names] == [spec.train, spec.val, spec.test]
    assert [*names[0], *names[1], *names[2]] == [scene_name(i) for i in range(num_scenes("tiny"))]


def test_every_vertex_has_a_segment(root):
    for folder in _annotated(root):
        mesh = PlyData.read(folder / f"{folder.name}_vh_clean_2.ply")
        text = (folder / f"{folder.name}_vh_clean_2.0.010000.segs.json").read_text()
        assert len(json.loads(text)["segIndices"]) == mesh["vertex"].count


def test_annotated_segments_exist_and_belong_to_one_object(root):
    for folder in _annotated(root):
        segments = set(
            json.loads((folder / f"{folder.name}_vh_clean_2.0.010000.segs.json").read_text())[
                "segIndices"
            ]
        )
        groups = json.loads((folder / f"{folder.name}.aggregation.json").read_text())["segGroups"]
        listed = [segment for group in groups for segment in group["segments"]]
        assert len(set(listed)) == len(listed)
        assert set(listed) < segments


def test_every_category_is_in_the_label_table(root):
    rows = (root / "scannetv2-labels.combined.tsv").read_text().splitlines()
    table = {row.split("\t")[1]: int(row.split("\t")[4]) for row in rows[1:]}
    assert all(len(row.split("\t")) == 17 for row in rows)
    for folder in _annotated(root):
        groups = json.loads((folder / f"{folder.name}.aggregation.json").read_text())["segGroups"]
        assert {group["label"] for group in groups} <= table.keys()


def test_test_scans_have_no_annotation(root):
    for name in _listed(root, "test"):
        names = {p.name for p in (root / "scans_test" / name).iterdir()}
        assert names == {f"{name}_vh_clean_2.ply", f"{name}.txt"}


def test_coordinates_are_finite_meters_above_zero():
    scan = scan_scene("tiny", 0, 2)
    assert np.isfinite(scan.points).all()
    assert np.allclose(scan.points.min(axis=0), 0, atol=1e-6)
    assert 1.5 < scan.points[:, 2].max() < 3.5
    assert scan.faces.min() == 0
    assert scan.faces.max() == len(scan.points) - 1


def test_axis_alignment_lays_walls_along_the_axes():
    scan = scan_scene("tiny", 0, 0)
    aligned = scan.points @ scan.axis_alignment[:3, :3].T
    corners = aligned[scan.faces].astype(float)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=1)
    along_axis = np.abs(normal).max(axis=1) / np.maximum(area, 1e-12) > 0.95
    assert area[along_axis].sum() > 0.7 * area.sum()


def test_all_classes_occur_in_the_validation_rooms_of_quick():
    spec, found = SIZES["quick"], set()
    for index in range(spec.train, spec.train + spec.val):
        layout, _ = furnished(room_type(0, index), scene_rng("quick", 0, index), spec.detail.scale)
        categories = {p.category for item in layout.placed for p in item.item.parts} - {""}
        found |= {NYU40_ID[category] for category in categories}
    assert set(NYU40_IDS) - {1, 2} <= found
