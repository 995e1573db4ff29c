"""Regions are pieces of one surface, one color and one label, whatever the order of voxels."""

import numpy as np
import pytest

from mprm_jax.geometry.normals import surface_normals
from mprm_jax.tagging.regions import CELL, MAX_ANGLE, MAX_COLOR, REACH, regions


def sheet(corner=(0.1, 0.1, 0.1), normal_axis=2, size=10):
    """Voxels of 8 cm on a square across an axis."""
    steps = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).reshape(-1, 2) * 0.08
    return np.insert(steps, normal_axis, 0.0, axis=1) + np.array(corner)[None]


def cut(coords, colors=None, normals=None, labels=None, **more):
    """Regions of voxels that are alike in what is not given."""
    count = len(coords)
    colors = np.zeros((count, 3), np.uint8) if colors is None else colors
    normals = np.tile([0.0, 0, 1], (count, 1)) if normals is None else normals
    labels = np.zeros(count, np.int32) if labels is None else labels
    return regions(coords, colors, normals, labels, **more)


def partition(found):
    """Which voxels are of one region, whatever its number."""
    return {tuple(np.flatnonzero(found == number)) for number in np.unique(found)}


def naive_regions(coords, colors, normals, labels):
    count = len(coords)
    region = np.full(count, -1)
    for start in range(count):
        waiting = [start] if region[start] < 0 else []
        while waiting:
            i = waiting.pop()
            if region[i] >= 0:
                continue
            region[i] = start
            for j in range(count):
                cosine = abs(normals[i] @ normals[j])
                contrast = np.abs(colors[i] / 255 - colors[j] / 255).max()
                near = np.linalg.norm(coords[i] - coords[j]) < REACH
                if near and cosine > np.cos(MAX_ANGLE) and contrast < MAX_COLOR:
                    waiting.append(j)
    keys = [(region[i], *np.floor(coords[i] / CELL), labels[i]) for i in range(count)]
    return np.array([keys.index(key) for key in keys])


def test_matches_the_naive_loop():
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 1.3, (250, 3)) * (1, 0.7, 0.3)
    colors = rng.integers(0, 40, (250, 3)).astype(np.uint8)
    normals = np.array([0, 0, 1.0]) + rng.normal(scale=0.2, size=(250, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    labels = rng.integers(0, 2, 250)
    expected = naive_regions(coords, colors, normals, labels)
    assert partition(regions(coords, colors, normals, labels)) == partition(expected)


def test_a_sheet_is_one_region():
    assert cut(sheet()).tolist() == [0] * 100


@pytest.mark.parametrize("name", ["colors", "labels"])
def test_halves_that_differ_are_two_regions(name):
    coords = sheet()
    is_second = coords[:, 0] > 0.5
    values = {
        "colors": np.where(is_second[:, None], 100, np.zeros((100, 3))).astype(np.uint8),
        "labels": is_second.astype(np.uint8),
    }
    found = cut(coords, **{name: values[name]})
    assert partition(found) == partition(is_second)


def test_surfaces_that_meet_at_an_edge_are_two_regions():
    floor, wall = sheet(), sheet(normal_axis=0)[10:]
    coords = np.concatenate([floor, wall])
    normals = np.repeat([[0.0, 0, 1], [1.0, 0, 0]], [len(floor), len(wall)], axis=0)
    assert partition(cut(coords, normals=normals)) == partition(normals[:, 0])


def test_the_sign_of_a_normal_means_nothing():
    normals = np.tile([0.0, 0, 1], (100, 1)) * np.where(np.arange(100) % 3, 1, -1)[:, None]
    assert cut(sheet(), normals=normals).max() == 0


def test_no_region_leaves_its_cell_of_the_grid():
    coords = sheet(size=40)
    found = cut(coords)
    for number in np.unique(found):
        cells = np.floor(coords[found == number] / CELL)
        assert np.all(cells == cells[0])
    assert found.max() == 15


def test_voxels_apart_are_of_two_regions():
    coords = np.concatenate([sheet(size=4), sheet((0.6, 0.1, 0.1), size=4)])
    assert len(partition(cut(coords))) == 2


def test_large_voxels_reach_their_neighbors():
    coords = sheet(size=5) * 2
    assert len(np.unique(cut(coords, voxel_size=0.16))) < len(np.unique(cut(coords))) == 25


def test_voxels_without_a_normal_are_alike():
    assert cut(sheet(), normals=np.zeros((100, 3))).max() == 0


@pytest.mark.parametrize("count", [0, 1, 2])
def test_next_to_nothing_has_regions_too(count):
    coords = np.zeros((count, 3)) + np.arange(count)[:, None] * 0.01
    found = cut(coords, normals=surface_normals(coords, coords))
    assert found.dtype == np.int32
    assert found.tolist() == [0] * count


def test_another_order_of_voxels_gives_the_same_regions():
    rng = np.random.default_rng(1)
    coords = np.concatenate([sheet(size=15), sheet(normal_axis=1, size=15)[15:]])
    normals = surface_normals(coords, coords)
    order = rng.permutation(len(coords))
    found = cut(coords, normals=normals)
    again = cut(coords[order], normals=normals[order])
    assert partition(again[np.argsort(order)]) == partition(found)
