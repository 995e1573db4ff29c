"""Clouds for the CRF: inside of the store's voxels, each point once, normals of the surface."""

import numpy as np
import pytest
from fake_source import FakeSource, box_room, mesh_room
from prepared import CONFIG

from mprm_jax.labeling.fine_clouds import fine_cloud, normals_of, over_voxels
from mprm_jax.store.prepare import prepare

PLAIN = ("train", "plain")


def make_store(path, **scenes):
    source = FakeSource(path / "scans", {f"train/{name}": scene for name, scene in scenes.items()})
    return prepare(source, path / "store", CONFIG.data, workers=0).store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    room = box_room(1)
    given = np.tile([0.0, 0.6, 0.8], (len(room.coords), 1)).astype(np.float32)
    rooms = {"plain": box_room(0), "given": room._replace(normals=given), "mesh": mesh_room()}
    return make_store(tmp_path_factory.mktemp("data"), **rooms)


@pytest.mark.parametrize("scene", ["plain", "mesh"])
def test_every_fine_voxel_lies_in_one_of_the_store_and_every_point_in_one(store, scene):
    fine = fine_cloud(store, "train", scene, 0.04)
    voxel = store.point_voxel("train", scene)
    np.testing.assert_array_equal(fine.voxel[fine.of_point], voxel)
    num_voxels = len(store.voxel_cloud("train", scene).coords)
    np.testing.assert_array_equal(np.unique(fine.voxel), np.arange(num_voxels))
    without = num_voxels - len(np.unique(voxel))
    assert fine.num_points.sum() == len(voxel) + without
    assert without > 0  # inside of triangles, or all of their points are nearer to others
    assert 0 <= fine.colors.min() <= fine.colors.max() <= 1


def test_fine_voxels_are_means_of_their_points(store):
    fine, points = fine_cloud(store, "train", "plain", 0.04), store.points("train", "plain")
    for row in (0, 17, len(fine.coords) - 1):
        own = fine.of_point == row
        np.testing.assert_allclose(fine.coords[row], points.coords[own].mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(fine.colors[row], points.colors[own].mean(axis=0) / 255)


def test_what_points_say_comes_back_as_the_mean_of_each_voxel(store):
    fine, voxel = fine_cloud(store, "train", "plain", 0.04), store.point_voxel("train", "plain")
    values = np.random.default_rng(0).random((len(fine.coords), 3))
    found = over_voxels(values, fine, len(store.voxel_cloud(*PLAIN).coords))
    for row in np.unique(voxel)[::20]:
        expected = values[fine.of_point][voxel == row].mean(axis=0)
        np.testing.assert_allclose(found[row], expected, atol=1e-12)


@pytest.mark.parametrize("voxel_size", [0, 0.16, 1.0])
def test_voxels_no_finer_than_the_store_s_are_the_store_s(store, voxel_size):
    fine, coarse = fine_cloud(store, "train", "plain", voxel_size), store.voxel_cloud(*PLAIN)
    np.testing.assert_array_equal(fine.coords, coarse.coords)
    np.testing.assert_array_equal(fine.voxel, np.arange(len(coarse.coords)))


def test_normals_are_fitted_where_the_scan_has_none(store):
    fine = fine_cloud(store, "train", "plain", 0.04)
    normals = normals_of(store, "train", "plain", fine)
    low = (fine.coords[:, 2] < 0.01) & (fine.coords[:, 1] > 0.6)
    assert np.median(np.abs(normals[low, 2])) > 0.999
    lengths = np.linalg.norm(normals, axis=1)
    np.testing.assert_allclose(lengths[lengths > 0], 1, atol=1e-9)


def test_normals_of_the_scan_come_first(store):
    fine = fine_cloud(store, "train", "given", 0.04)
    normals = normals_of(store, "train", "given", fine)
    along = np.abs(normals @ np.array([0.0, 0.6, 0.8]))
    np.testing.assert_allclose(along, 1, atol=1e-6)  # stored as float32
