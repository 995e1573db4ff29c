"""The traced pyramid against the host's, list by list; nothing that does not fit goes unsaid."""

import functools

import jax
import numpy as np
import pytest
import reference

from mprm_jax.batches.packing import BucketShape, Cloud, pack
from mprm_jax.geometry.pyramid import Capacities, PyramidSpec, most_candidates
from mprm_jax.geometry.pyramid import build_pyramid as build_on_host
from mprm_jax.ops.pyramid import build_bucket_pyramid

pytestmark = pytest.mark.slow

SPEC = PyramidSpec(
    voxel_size=0.1,
    conv_radii=(0.25, 0.5, 2.0),
    pool_radii=(0.25, 0.5),
    conv_neighbors=(20, 16, 12),
    pool_neighbors=(14, 10),
)
ROWS, NUM_CLOUDS = (640, 384, 256), 4
CAPACITIES = Capacities(ROWS[1:], candidates=(512, 512, 512), upsample_candidates=(256, 256))
LEVELS = range(3)
FINER = range(2)


def random_cloud(num_points, seed=0, extent=0.6):
    points = np.random.default_rng((seed, num_points)).uniform(-extent, extent, (num_points, 3))
    return points.astype(np.float32)


BUCKETS = {
    "random": [random_cloud(150), random_cloud(220, 1), random_cloud(1)],
    "on a line": [np.linspace([0.011] * 3, [1, 0, 0], 300).astype(np.float32)],
    "duplicated": [np.repeat(random_cloud(40), 3, axis=0), np.repeat(random_cloud(1), 60, axis=0)],
    "far apart": [random_cloud(120, 2, 40.0), random_cloud(90, 3, 0.1)],
    "dense": [random_cloud(400, 4, 0.15)],
    "in one cell": [np.concatenate([random_cloud(330, 7, 0.01), np.float32([[0.002] * 3] * 100)])],
    "full": [random_cloud(400, 5), random_cloud(240, 6)],
    "empty": [],
}


def packed(clouds, rows=ROWS):
    """The bucket as the host packs it."""
    shape = BucketShape(rows, NUM_CLOUDS, SPEC.conv_neighbors, SPEC.pool_neighbors, 1, 2)
    return pack(
        [
            Cloud(
                build_on_host(cloud, SPEC),
                np.ones((len(cloud), 1), np.float32),
                np.zeros(2, bool),
                np.zeros(len(cloud), np.int32),
            )
            for cloud in clouds
        ],
        shape,
    ).batch.pyramid


@functools.cache
def compiled(capacities):
    return jax.jit(
        functools.partial(
            build_bucket_pyramid, spec=SPEC, capacities=capacities, num_clouds=NUM_CLOUDS
        )
    )


def built(clouds, capacities=CAPACITIES):
    bucket = packed(clouds)
    return jax.device_get(compiled(capacities)(bucket.points[0], bucket.clouds[0]))


@pytest.fixture(params=BUCKETS, scope="module")
def pair(request):
    clouds = BUCKETS[request.param]
    found = built(clouds)
    assert found.overflow.too_wide == 0
    np.testing.assert_array_equal(found.overflow.rows, 0)
    np.testing.assert_array_equal(found.overflow.candidates, 0)
    return packed(clouds), found.pyramid


def assert_same_lists(expected, found, queries, supports):
    """The same neighbors, of equally near ones any, and as near in every place."""
    real = np.concatenate([supports.astype(np.float64), np.full((1, 3), np.inf)])
    far = np.full(len(queries), np.inf)[:, None]
    shadow = expected == len(supports)
    np.testing.assert_array_equal(found == len(supports), shadow)
    offsets = queries.astype(np.float64)[:, None]
    distance = [np.linalg.norm(real[x] - offsets, axis=-1) for x in (expected, found)]
    near = [np.where(shadow, far, d) for d in distance]
    np.testing.assert_allclose(near[1], near[0], atol=1e-6)  # of float32 meters
    for row in found[~shadow.any(axis=1)]:
        assert len(set(row)) == len(row)


def test_levels_are_the_same(pair):
    expected, found = pair
    for level in LEVELS:
        np.testing.assert_array_equal(found.clouds[level], expected.clouds[level])
        np.testing.assert_allclose(found.points[level], expected.points[level], atol=5e-6)


def test_convolution_lists_are_the_same(pair):
    expected, found = pair
    for level in LEVELS:
        points = expected.points[level]
        lists = expected.neighbors[level], found.neighbors[level]
        assert_same_lists(*lists, points, points)


def test_pool_lists_are_the_same(pair):
    expected, found = pair
    for level in FINER:
        lists = expected.pools[level], found.pools[level]
        assert_same_lists(*lists, expected.points[level + 1], expected.points[level])


def test_upsampling_takes_the_nearest_coarse_point(pair):
    expected, found = pair
    for level in FINER:
        lists = expected.upsamples[level][:, None], found.upsamples[level][:, None]
        assert_same_lists(*lists, expected.points[level], expected.points[level + 1])


def test_types_are_those_of_the_host(pair):
    expected, found = pair
    assert jax.tree.map(lambda x: (x.dtype, x.shape), found) == jax.tree.map(
        lambda x: (x.dtype, x.shape), expected
    )


def test_rows_that_do_not_fit_are_counted():
    clouds = BUCKETS["random"]
    needed = [np.sum(x < NUM_CLOUDS) for x in packed(clouds).clouds]
    few = CAPACITIES._replace(coarse_rows=(int(needed[1]) - 7, ROWS[2]))
    found = built(clouds, few)
    np.testing.assert_array_equal(found.overflow.rows[:2], [0, 7])
    assert found.pyramid.clouds[1].max() < NUM_CLOUDS  # no padding is left


def test_candidates_that_do_not_fit_are_counted():
    few = CAPACITIES._replace(candidates=(30, 512, 512))
    bucket = packed(BUCKETS["dense"])
    fine, coarse = (bucket.points[i][bucket.clouds[i] < NUM_CLOUDS] for i in FINER)
    counts = [reference.count_candidates(x, fine, SPEC.list_radius(0)) for x in (fine, coarse)]
    expected = sum(np.sum(np.maximum(count - 30, 0)) for count in counts)
    cut = built(BUCKETS["dense"], few).overflow.candidates
    np.testing.assert_array_equal(cut, [expected, 0, 0])


def test_candidates_that_the_host_counts_are_enough_and_no_more():
    of_clouds = zip(*(most_candidates(cloud, SPEC) for cloud in BUCKETS["full"]), strict=True)
    lists, upsamples = (tuple(map(int, np.max(kind, axis=0))) for kind in of_clouds)
    enough = Capacities(ROWS[1:], lists, upsamples)
    assert np.all(built(BUCKETS["full"], enough).overflow.candidates == 0)
    short = Capacities(ROWS[1:], tuple(x - 1 for x in lists), tuple(x - 1 for x in upsamples))
    assert np.all(built(BUCKETS["full"], short).overflow.candidates > 0)


def test_clouds_too_wide_to_number_are_reported():
    wide = np.array([[-3e4, -3e4, -3e4], [3e4, 3e4, 3e4]], np.float32)
    assert built([wide]).overflow.too_wide > 0
