"""Clouds for one's own loops: the same on host and device, and nothing is cut unless asked for."""

import jax
import numpy as np
import pytest
from clouds import surface_cloud

from mprm_jax import clouds as module
from mprm_jax.clouds import pyramid, voxelize

SIZE = 0.08
CLOUDS = [voxelize(surface_cloud(90, seed), SIZE).coords for seed in (0, 1)]


def listed(index, points):
    """The neighbors of each row as a set; distances may tie, so their order does not count."""
    index = np.asarray(index).reshape(len(index), -1)
    return [{int(i) for i in row if i < len(points)} for row in index]


@pytest.fixture(scope="module")
def pair():
    return [pyramid(CLOUDS, SIZE, 2, builder=builder) for builder in ("host", "device")]


def test_host_and_device_build_the_same(pair):
    host, device = pair
    assert host.num_clouds == device.num_clouds == 2
    np.testing.assert_array_equal(device.real, host.real)
    for level, points in enumerate(host.points):
        np.testing.assert_allclose(device.points[level], points, atol=5e-6)
        np.testing.assert_array_equal(device.clouds[level], host.clouds[level])
        assert listed(device.neighbors[level], points) == listed(host.neighbors[level], points)
        assert device.neighbors[level].shape == host.neighbors[level].shape
    for level, points in enumerate(host.points[:-1]):
        assert listed(device.pools[level], points) == listed(host.pools[level], points)
        coarse = host.points[level + 1]
        assert listed(device.upsamples[level], coarse) == listed(host.upsamples[level], coarse)


def test_no_neighbor_in_reach_is_cut(pair):
    host = pair[0]
    for level, (points, radius) in enumerate(zip(host.points, (2.5, 5.0), strict=True)):
        near = np.linalg.norm(points[:, None] - points[None], axis=-1) < radius * SIZE * 2**level
        near &= host.clouds[level][:, None] == host.clouds[level][None]
        assert listed(host.neighbors[level], points) == [set(np.flatnonzero(row)) for row in near]


@pytest.mark.parametrize("builder", ["host", pytest.param("device", marks=pytest.mark.slow)])
def test_rows_and_lists_can_have_given_sizes(builder):
    found = pyramid(CLOUDS, SIZE, builder=builder, rows=(256, 256, 128), max_neighbors=6)
    assert [len(points) for points in found.points] == [256, 256, 128]
    assert all(lists.shape[1] == 6 for lists in (*found.neighbors, *found.pools))
    assert (np.asarray(found.clouds[0]) == 2).sum() == 256 - sum(map(len, CLOUDS))


def test_with_rows_and_width_all_clouds_have_one_shape():
    sizes = {"rows": (128, 128), "max_neighbors": 200}
    built = [pyramid(cloud, SIZE, 2, **sizes) for cloud in (CLOUDS[0], CLOUDS[1][:30])]
    first, second = ([np.shape(x) for x in jax.tree.leaves(one)] for one in built)
    assert first == second
    # Wider lists hold the same neighbors.
    exact = pyramid(CLOUDS[0], SIZE, 2)
    rows = len(exact.points[0])
    assert listed(built[0].neighbors[0][:rows], built[0].points[0]) == listed(
        exact.neighbors[0], exact.points[0]
    )


def test_one_cloud_needs_no_list():
    one = pyramid(CLOUDS[0], SIZE, num_levels=2, first_deformable=None)
    assert len(one.points) == 2 and one.num_clouds == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"coords": np.zeros((3, 2))}, r"shape \(3, 2\); give \[N, 3\]"),
        ({"coords": np.zeros((0, 3))}, r"shape \(0, 3\); give \[N, 3\]"),
        ({"coords": CLOUDS, "rows": (8, 8, 8)}, r"the clouds need \("),
        pytest.param(
            {"coords": CLOUDS, "rows": (256, 8, 8), "builder": "device"},
            "rows more at a level",
            marks=pytest.mark.slow,
        ),
        ({"coords": CLOUDS, "builder": "gpu"}, "builder is 'gpu'; choose host or device"),
        ({"coords": []}, r"shape \(0,\); give"),
        ({"coords": np.full((3, 3), np.nan)}, "3 points are not finite, the first is 0"),
        ({"coords": CLOUDS, "num_levels": 0}, "num_levels is 0; give a value above 0"),
        ({"coords": CLOUDS, "rows": 256}, "rows is 256; give one number for each of 3 levels"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        pyramid(**arguments, voxel_size=SIZE)


def test_voxels_are_means_of_their_points():
    coords = np.array([[0.01, 0.0, 0.0], [0.03, 0.0, 0.0], [0.5, 0.0, 0.0]])
    found = voxelize(coords, 0.04, np.array([[0.0], [1.0], [0.5]]))
    np.testing.assert_allclose(found.coords, [[0.02, 0, 0], [0.5, 0, 0]], atol=1e-7)
    np.testing.assert_allclose(found.colors, [[0.5], [0.5]])
    np.testing.assert_array_equal(found.point_voxel, [0, 0, 1])
    assert voxelize(coords).colors is None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((np.zeros((3, 2)),), r"shape \(3, 2\); give \[N, 3\]"),
        ((np.full((2, 3), np.inf),), "2 points are not finite"),
        ((np.zeros((2, 3)), 0.0), "voxel_size is 0.0; give meters above 0"),
        ((np.zeros((2, 3)), 0.1, np.zeros((3, 3))), r"colors has shape \(3, 3\) for 2 points"),
    ],
)
def test_what_cannot_be_voxelized_is_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        voxelize(*arguments)


def test_the_module_is_what_the_package_exports():
    import mprm_jax

    assert mprm_jax.pyramid is module.pyramid
