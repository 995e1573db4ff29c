"""ScanNet label maps of both versions, and what broken scenes say."""

import numpy as np
import pytest
from scannet_files import (
    COORDS,
    GROUPS,
    NEW_MAP,
    OLD_MAP,
    SCENE,
    SEGMENTS,
    mesh,
    read_scene,
    write_annotation,
    write_mesh,
    write_scannet,
)

from mprm_jax.scans.scannet import LABEL_MAP, ScanNet, read_label_map


@pytest.fixture
def root(tmp_path):
    """A ScanNet of one train scene, whose files a test may overwrite."""
    write_scannet(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", [OLD_MAP, NEW_MAP], ids=["old", "new"])
def test_both_label_maps_give_the_same_ids(tmp_path, text):
    (tmp_path / LABEL_MAP).write_bytes(text.encode())
    expected = {"wall": 1, "kitchen cabinet": 3, "refrigerator": 24, "object": 40}
    assert read_label_map(tmp_path / LABEL_MAP) == expected


def test_label_map_of_version_1_is_refused(tmp_path):
    (tmp_path / LABEL_MAP).write_text("category\tcount\tnyuId\tnyu40id\nwall\t1\t1\t1\n")
    with pytest.raises(ValueError, match=r"combined\.tsv: no columns raw_category.*use scannetv2"):
        read_label_map(tmp_path / LABEL_MAP)


def test_label_map_line_without_id_is_named(tmp_path):
    (tmp_path / LABEL_MAP).write_text(OLD_MAP + "5\tlamp\tlamp\t3\n")
    with pytest.raises(ValueError, match=r"combined\.tsv: line 6 has no NYU40 id; download"):
        read_label_map(tmp_path / LABEL_MAP)


def test_missing_label_map_is_found_before_any_scene_is_read(root):
    (root / LABEL_MAP).unlink()
    with pytest.raises(FileNotFoundError, match=r"combined\.tsv: the label map is missing; copy"):
        ScanNet(root)


def test_a_listed_scene_that_is_not_there_names_its_mesh(root):
    with pytest.raises(FileNotFoundError, match=r"scene0001_00_vh_clean_2\.ply: no such file"):
        ScanNet(root).read("train", "scene0001_00")


def test_truncated_mesh_is_one_line(root):
    mesh(root).write_bytes(mesh(root).read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"_vh_clean_2\.ply: not a readable PLY.*export it again"):
        read_scene(root)


def test_mesh_without_colors_is_refused(root):
    write_mesh(mesh(root), colors=False)
    with pytest.raises(ValueError, match=r"_vh_clean_2\.ply: the mesh has no colors; download"):
        read_scene(root)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_mesh_with_a_vertex_nowhere_is_refused(root, value):
    coords = COORDS.copy()
    coords[2, 1] = value
    write_mesh(mesh(root), coords)
    with pytest.raises(ValueError, match=r"_vh_clean_2\.ply: a vertex is not finite; download"):
        read_scene(root)


def test_segments_of_another_mesh_are_refused(root):
    write_annotation(mesh(root).parent, segments=SEGMENTS[:-1])
    with pytest.raises(ValueError, match=r"segs\.json: 5 segment ids .* 6 vertices.*download both"):
        read_scene(root)


def test_groups_of_another_mesh_are_refused(root):
    write_annotation(mesh(root).parent, groups=[*GROUPS, ("wall", [12345])])
    with pytest.raises(ValueError, match=r"aggregation\.json: 1 of 4 segments .*download both"):
        read_scene(root)


def test_full_mesh_groups_that_fit_nowhere_are_refused(root):
    folder = mesh(root).parent
    (folder / f"{SCENE}.aggregation.json").unlink()
    groups = [("wall", [1, 2, 3, 7])]
    write_annotation(folder, groups=groups, suffix="_vh_clean.aggregation.json")
    with pytest.raises(ValueError, match=r"_vh_clean\.aggregation\.json: 3 of 4 segments"):
        read_scene(root)


@pytest.mark.parametrize("suffix", ["_vh_clean_2.0.010000.segs.json", ".aggregation.json"])
@pytest.mark.parametrize("text", ['{"sceneId": "sce', "{}", "[]"])
def test_broken_annotation_is_one_line(root, suffix, text):
    path = mesh(root).parent / f"{SCENE}{suffix}"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"{SCENE}{suffix}: no .*; download it again") as caught:
        read_scene(root)
    assert "\n" not in str(caught.value)


def test_scene_without_annotation_names_what_is_missing(root):
    (mesh(root).parent / f"{SCENE}_vh_clean_2.0.010000.segs.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"segs\.json: the annotation is missing.*download"):
        read_scene(root)


def test_labels_mesh_of_another_mesh_is_refused(root):
    folder = mesh(root).parent
    (folder / f"{SCENE}.aggregation.json").unlink()
    path = folder / f"{SCENE}_vh_clean_2.labels.ply"
    write_mesh(path, COORDS[:4], labels=[1, 1, 1, 1])
    with pytest.raises(ValueError, match=r"labels\.ply: 4 labels for 6 vertices; download"):
        read_scene(root)
