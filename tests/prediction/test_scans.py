"""Anyone's clouds become the voxels that preparation would make of them, and no point is lost."""

import logging

import numpy as np
import pytest

from mprm_jax.prediction.predictor import NOWHERE, load_scan
from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.scene import Scene
from mprm_jax.store.manifest import StoreSettings
from mprm_jax.store.prepared_scene import prepare_scene

SETTINGS = StoreSettings(voxel_size=0.16, sphere_radius=1.2, seeds="ends")


def points(num_points=500):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 2, (num_points, 3)), rng.integers(0, 256, (num_points, 3), np.uint8)


def save(path, coords, colors=None, **arrays):
    arrays |= {} if colors is None else {"rgb": colors}
    np.savez(path, xyz=coords, **arrays)
    return path


def load(path, settings=SETTINGS, use_colors=True):
    return load_scan(path, settings, use_colors=use_colors, unit_flag="--scale 0.001")


def nearest_voxel(coords, scan):
    """The naive way."""
    return np.linalg.norm(coords[:, None] - scan.voxels.coords[None], axis=2).argmin(axis=1)


def test_voxels_are_those_of_preparation(tmp_path):
    coords, colors = points()
    scan = load(save(tmp_path / "a.npz", coords, colors))
    prepared = prepare_scene(Scene(coords, colors, None, None, None), SETTINGS, 3)
    np.testing.assert_array_equal(scan.voxels.coords, prepared.voxels.coords)
    np.testing.assert_array_equal(scan.voxels.colors, prepared.voxels.colors)
    np.testing.assert_array_equal(scan.point_voxel, prepared.point_voxel)


def test_points_without_a_position_have_no_voxel_and_all_others_their_nearest(tmp_path):
    coords, colors = points()
    coords[[3, 77]] = [[np.nan, 1, 1], [1, np.inf, 1]]
    coords[200:260] = coords[100]
    scan = load(save(tmp_path / "a.npz", coords, colors))
    assert scan.point_voxel[[3, 77]].tolist() == [NOWHERE, NOWHERE]
    real = np.isfinite(coords).all(axis=1)
    np.testing.assert_array_equal(scan.point_voxel[real], nearest_voxel(coords[real], scan))


def test_repeated_points_weigh_once(tmp_path):
    coords, colors = points(20)
    scan = load(
        save(tmp_path / "a.npz", np.repeat(coords, 3, axis=0), np.repeat(colors, 3, axis=0))
    )
    once = load(save(tmp_path / "b.npz", coords, colors))
    np.testing.assert_array_equal(scan.voxels.coords, once.voxels.coords)
    np.testing.assert_array_equal(scan.point_voxel, np.repeat(once.point_voxel, 3))


def test_far_points_repeated_find_their_voxel(tmp_path):
    """Scans in map coordinates are moved to an origin of their own."""
    coords, colors = points()
    coords = np.concatenate([coords, coords[:5]]) + np.array([431234.0, 5412345.0, 0.0])
    scan = load(save(tmp_path / "a.npz", coords, np.concatenate([colors, colors[:5]])))
    np.testing.assert_array_equal(scan.point_voxel[:5], scan.point_voxel[-5:])


def test_the_cloud_is_kept_as_it_was_without_its_labels(tmp_path):
    coords, colors = points()
    path = save(tmp_path / "a.npz", coords * 1000, colors, label=np.arange(500))
    scan = load(path, SETTINGS.__class__(0.16, 1.2, "ends", scale=0.001))
    np.testing.assert_array_equal(scan.cloud.coords, read_cloud(path).coords)
    assert scan.cloud.labels is None
    np.testing.assert_array_equal(scan.point_voxel, nearest_voxel(coords, scan))


def test_labels_of_any_kind_do_not_matter(tmp_path):
    coords, colors = points()
    scan = load(save(tmp_path / "a.npz", coords, colors, label=np.full(500, np.nan)))
    assert scan.cloud.labels is None


def test_colors_count_only_for_a_network_that_knows_them(tmp_path):
    coords, colors = points()
    scan = load(save(tmp_path / "a.npz", coords, colors), use_colors=False)
    assert not scan.voxels.colors.any()
    np.testing.assert_array_equal(scan.cloud.colors, colors)
    assert load(save(tmp_path / "b.npz", coords), use_colors=False).cloud.colors is None


@pytest.mark.parametrize(
    ("coords", "reason"),
    [
        (np.zeros((0, 3)), "the file holds no points; export it again"),
        (np.full((5, 3), np.nan), "no point has a finite position; export the scan again"),
        (np.array([[0, 0, 0], [1e9, 0, 0]]), "spans .* voxels .* check its unit"),
    ],
)
def test_a_bad_cloud_is_one_line_that_names_the_file(tmp_path, coords, reason):
    path = save(tmp_path / "a.npz", coords, np.zeros(coords.shape, np.uint8))
    with pytest.raises(ValueError, match=rf"^{path}: .*{reason}"):
        load(path)


def test_missing_colors_are_one_line(tmp_path):
    path = save(tmp_path / "a.npz", points()[0])
    with pytest.raises(ValueError, match=rf"^{path}: no colors, but the network was trained with"):
        load(path)


def test_millimeters_are_pointed_out(tmp_path, caplog):
    path = save(tmp_path / "a.npz", np.round(points()[0] * 1000), points()[1])
    with caplog.at_level(logging.WARNING):
        load(path)
    assert "if it is in millimeters, add --scale 0.001" in caplog.text
