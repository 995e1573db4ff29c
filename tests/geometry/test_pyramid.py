"""One cloud at every resolution: coarse points and lists against loops over all points."""

import numpy as np
import pytest
import reference

from mprm_jax.geometry.pyramid import (
    PyramidSpec,
    build_pyramid,
    coarsen,
    most_candidates,
    neighbor_counts,
)

SPEC = PyramidSpec(
    voxel_size=0.1,
    conv_radii=(0.25, 0.5, 1.0),
    pool_radii=(0.25, 0.5),
    conv_neighbors=(20, 16, 12),
    pool_neighbors=(14, 10),
)
LEVELS = range(3)
COARSE = range(2)


def random_cloud(num_points=150):
    return np.random.default_rng(0).uniform(-0.6, 0.6, (num_points, 3)).astype(np.float32)


CLOUDS = {
    "random": random_cloud(),
    "one point": np.array([[0.3, -0.2, 0.1]], np.float32),
    "colinear": np.linspace([0, 0, 0], [1, 0, 0], 30).astype(np.float32),
    "duplicated": np.repeat(random_cloud(20), 3, axis=0),
}


@pytest.fixture(params=CLOUDS)
def pyramid(request):
    return build_pyramid(CLOUDS[request.param], SPEC)


def naive_distances(queries, supports):
    return np.linalg.norm(queries[:, None].astype(np.float64) - supports[None], axis=-1)


def assert_nearest_within(lists, queries, supports, radius):
    """Each list names nearest points within the radius; of equally near ones any."""
    width = lists.shape[1]
    for row, dist in zip(lists, naive_distances(queries, supports), strict=True):
        expected = np.sort(dist[dist < radius])[:width]
        found = row[: len(expected)]
        assert len(set(found)) == len(found)
        np.testing.assert_allclose(dist[found], expected, atol=1e-12)  # float64 both
        assert np.all(row[len(expected) :] == len(supports))


def test_finest_level_is_the_cloud():
    np.testing.assert_array_equal(build_pyramid(CLOUDS["random"], SPEC).points[0], random_cloud())


def test_coarser_levels_are_barycenters_of_doubled_cells(pyramid):
    for level in COARSE:
        fine, size = pyramid.points[level].astype(np.float64), SPEC.voxel_size * 2 ** (level + 1)
        cells = np.floor(fine / size)
        expected = [fine[np.all(cells == c, axis=1)].mean(axis=0) for c in np.unique(cells, axis=0)]
        # Rounded to float32 once.
        np.testing.assert_allclose(pyramid.points[level + 1], expected, atol=1e-7)


def test_convolution_lists_match_the_naive_search(pyramid):
    for level in LEVELS:
        points = pyramid.points[level]
        assert_nearest_within(pyramid.neighbors[level], points, points, SPEC.conv_radii[level])


def test_pool_lists_match_the_naive_search(pyramid):
    for level in COARSE:
        queries, supports = pyramid.points[level + 1], pyramid.points[level]
        assert_nearest_within(pyramid.pools[level], queries, supports, SPEC.pool_radii[level])


def test_upsampling_takes_the_nearest_coarse_point(pyramid):
    for level in COARSE:
        dist = naive_distances(pyramid.points[level], pyramid.points[level + 1])
        found = np.take_along_axis(dist, pyramid.upsamples[level][:, None], axis=1)[:, 0]
        np.testing.assert_allclose(found, dist.min(axis=1), atol=1e-12)


def test_lists_have_the_widths_of_the_spec(pyramid):
    assert tuple(x.shape[1] for x in pyramid.neighbors) == SPEC.conv_neighbors
    assert tuple(x.shape[1] for x in pyramid.pools) == SPEC.pool_neighbors


def test_arrays_are_float32_and_int32(pyramid):
    assert {x.dtype.name for x in pyramid.points} == {"float32"}
    indices = (*pyramid.neighbors, *pyramid.pools, *pyramid.upsamples)
    assert {x.dtype.name for x in indices} == {"int32"}


def test_one_point_is_one_point_at_every_level():
    pyramid = build_pyramid(CLOUDS["one point"], SPEC)
    assert [len(points) for points in pyramid.points] == [1, 1, 1]


def test_coarsening_gives_the_points_of_the_pyramid():
    levels = coarsen(CLOUDS["random"], SPEC.voxel_size, 3)
    for level, points in zip(levels, build_pyramid(CLOUDS["random"], SPEC).points, strict=True):
        np.testing.assert_array_equal(level, points)


def test_counts_are_the_lengths_of_unbounded_lists():
    cloud = CLOUDS["random"]
    spec = SPEC._replace(conv_neighbors=(len(cloud),) * 3, pool_neighbors=(len(cloud),) * 2)
    pyramid = build_pyramid(cloud, spec)
    convs, pools = neighbor_counts(cloud, spec)
    for level in LEVELS:
        filled = np.sum(pyramid.neighbors[level] < len(pyramid.points[level]), axis=1)
        np.testing.assert_array_equal(convs[level], filled)
    for level in COARSE:
        filled = np.sum(pyramid.pools[level] < len(pyramid.points[level]), axis=1)
        np.testing.assert_array_equal(pools[level], filled)


@pytest.mark.parametrize("name", CLOUDS)
def test_most_candidates_are_those_of_the_cells_around_a_point(name):
    points = build_pyramid(CLOUDS[name], SPEC).points

    def most(supports, queries, size):
        return reference.count_candidates(queries, supports, size).max()

    radii = (0.25, 0.5, 1.0)
    expected = [
        max(most(points[i], queries, radii[i]) for queries in points[i : i + 2]) for i in LEVELS
    ]
    nearest = [SPEC.nearest_radius(i + 1) for i in COARSE]
    upsamples = [most(points[i + 1], points[i], nearest[i]) for i in COARSE]
    lists, ups = most_candidates(CLOUDS[name], SPEC)
    assert list(lists) == expected
    assert list(ups) == upsamples


def test_the_nearest_coarse_point_is_within_its_radius(pyramid):
    for level in COARSE:
        distances = naive_distances(pyramid.points[level], pyramid.points[level + 1])
        assert distances.min(axis=1).max() < SPEC.nearest_radius(level + 1)
