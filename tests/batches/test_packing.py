"""Packing: a bucket holds its clouds' own lists, padding, and a count of what was cut."""

import jax
import numpy as np
import pytest

from mprm_jax.batches.packing import BucketShape, Cloud, pack
from mprm_jax.geometry.pyramid import PyramidSpec, build_pyramid
from mprm_jax.types import IGNORED

SPEC = PyramidSpec(0.1, (0.25, 0.5, 1.0), (0.25, 0.5), (12, 10, 8), (9, 7))
ROOMY = BucketShape((192, 160, 80), 4, SPEC.conv_neighbors, SPEC.pool_neighbors, 4, 5)
TIGHT = ROOMY._replace(rows=(100, 80, 30))
LEVELS = range(3)
COARSE = range(2)


def make_cloud(num_points):
    rng = np.random.default_rng(num_points)
    points = rng.uniform(-0.5, 0.5, (num_points, 3)).astype(np.float32)
    features = rng.uniform(0.1, 1, (num_points, 4)).astype(np.float32)
    tags, labels = rng.uniform(size=5) < 0.5, rng.integers(5, size=num_points)
    return Cloud(build_pyramid(points, SPEC), features, tags, labels.astype(np.int32))


CLOUDS = [make_cloud(40), make_cloud(25), make_cloud(60)]


def starts(clouds, level):
    """First row of each cloud in a bucket without a limit."""
    sizes = [len(cloud.pyramid.points[level]) for cloud in clouds]
    return np.cumsum([0, *sizes])


def own_lists(clouds, kind, level, into, rows, num_rows):
    """Lists of all clouds one after the other, as rows of a bucket that cuts at `rows`."""
    lists = []
    for cloud, start in zip(clouds, starts(clouds, into), strict=False):
        num_supports = len(cloud.pyramid.points[into])
        for row in getattr(cloud.pyramid, kind)[level]:
            kept = (np.atleast_1d(row) < num_supports) & (start + np.atleast_1d(row) < rows)
            lists.append(np.where(kept, start + row, rows))
    return np.array(lists)[:num_rows].reshape(
        -1, *getattr(clouds[0].pyramid, kind)[level].shape[1:]
    )


def assert_lists_are_the_clouds_own(clouds, shape):
    """Every list of the bucket against the loop above; below the last cloud all is shadow."""
    pyramid, rows = pack(clouds, shape).batch.pyramid, shape.rows
    kinds = [("neighbors", i, i, i) for i in LEVELS]
    kinds += [("pools", i, i + 1, i) for i in COARSE] + [("upsamples", i, i, i + 1) for i in COARSE]
    for kind, level, of, into in kinds:
        expected = own_lists(clouds, kind, level, into, rows[into], rows[of])
        found = getattr(pyramid, kind)[level]
        np.testing.assert_array_equal(found[: len(expected)], expected, err_msg=f"{kind} {level}")
        assert np.all(found[len(expected) :] == rows[into])


def test_lists_are_those_of_each_cloud():
    assert_lists_are_the_clouds_own(CLOUDS, ROOMY)


def test_lists_never_link_two_clouds():
    pyramid = pack(CLOUDS, ROOMY).batch.pyramid
    for level in LEVELS:
        cloud_of = np.append(pyramid.clouds[level], -1)
        linked = cloud_of[pyramid.neighbors[level]]
        assert np.all((linked == pyramid.clouds[level][:, None]) | (linked == -1))


def test_points_and_features_lie_end_to_end():
    batch = pack(CLOUDS, ROOMY).batch
    for level in LEVELS:
        expected = np.concatenate([cloud.pyramid.points[level] for cloud in CLOUDS])
        np.testing.assert_array_equal(batch.pyramid.points[level][: len(expected)], expected)
    expected = np.concatenate([cloud.features for cloud in CLOUDS])
    np.testing.assert_array_equal(batch.features[: len(expected)], expected)


def test_every_row_knows_its_cloud():
    pyramid = pack(CLOUDS, ROOMY).batch.pyramid
    for level in LEVELS:
        sizes = np.diff(starts(CLOUDS, level))
        padding = ROOMY.rows[level] - sizes.sum()
        expected = np.repeat([0, 1, 2, ROOMY.clouds], [*sizes, padding])
        np.testing.assert_array_equal(pyramid.clouds[level], expected)


def test_padding_rows_are_zero():
    batch = pack(CLOUDS, ROOMY).batch
    for level in LEVELS:
        assert not batch.pyramid.points[level][starts(CLOUDS, level)[-1] :].any()
    assert not batch.features[starts(CLOUDS, 0)[-1] :].any()


def test_tags_stand_in_the_order_of_the_clouds():
    batch = pack(CLOUDS, ROOMY).batch
    np.testing.assert_array_equal(batch.cloud_labels[:3], [cloud.tags for cloud in CLOUDS])
    assert not batch.cloud_labels[3].any()


@pytest.mark.parametrize("shape", [ROOMY, TIGHT])
def test_point_labels_lie_at_their_points_and_padding_has_none(shape):
    labels = np.concatenate([cloud.point_labels for cloud in CLOUDS])
    expected = np.full(shape.rows[0], IGNORED)
    expected[: len(labels)] = labels[: shape.rows[0]]
    np.testing.assert_array_equal(pack(CLOUDS, shape).batch.point_labels, expected)


def test_only_given_clouds_are_real():
    assert pack(CLOUDS, ROOMY).batch.pyramid.real.tolist() == [True, True, True, False]


def test_a_cloud_without_coarsest_rows_is_not_real():
    """It has no point to average, so its loss would pull its classes to a half for no reason."""
    bucket = pack(CLOUDS, ROOMY._replace(rows=(*ROOMY.rows[:2], starts(CLOUDS, 2)[2])))
    assert bucket.batch.pyramid.real.tolist() == [True, True, False, False]


def test_a_roomy_bucket_cuts_nothing():
    bucket = pack(CLOUDS, ROOMY)
    assert bucket.cut_rows.tolist() == [[0, 0, 0]]


def test_cut_rows_are_counted():
    needed = [starts(CLOUDS, level)[-1] for level in LEVELS]
    expected = np.maximum(np.array(needed) - TIGHT.rows, 0)
    assert expected.all()
    np.testing.assert_array_equal(pack(CLOUDS, TIGHT).cut_rows, [expected])


def test_references_to_cut_rows_become_shadow():
    assert_lists_are_the_clouds_own(CLOUDS, TIGHT)


@pytest.mark.parametrize("level", LEVELS)
def test_clouds_beyond_the_last_row_are_counted(level):
    """The second and third cloud start after the bucket's end at this level only."""
    few = list(ROOMY.rows)
    few[level] = 3
    shape = ROOMY._replace(rows=tuple(few))
    assert_lists_are_the_clouds_own(CLOUDS, shape)
    assert pack(CLOUDS, shape).cut_rows[0, level] == starts(CLOUDS, level)[-1] - 3


def test_order_of_clouds_only_permutes_their_rows():
    """Every cloud, looked up in the bucket, has the same points and neighbors in either order."""
    first = pack(CLOUDS, ROOMY).batch.pyramid
    second = pack(CLOUDS[::-1], ROOMY).batch.pyramid
    for level in LEVELS:
        for place in range(3):
            one = np.flatnonzero(first.clouds[level] == place)
            two = np.flatnonzero(second.clouds[level] == 2 - place)
            points = [np.pad(p.points[level], ((0, 1), (0, 0))) for p in (first, second)]
            np.testing.assert_array_equal(
                points[0][first.neighbors[level][one]], points[1][second.neighbors[level][two]]
            )


def test_an_empty_bucket_is_all_padding():
    batch = pack([], ROOMY).batch
    assert not batch.pyramid.real.any()
    assert all(np.all(x == ROOMY.clouds) for x in batch.pyramid.clouds)
    for rows, lists in zip(ROOMY.rows, batch.pyramid.neighbors, strict=True):
        assert np.all(lists == rows)


def test_shapes_and_types_do_not_depend_on_the_clouds():
    def signature(clouds):
        batch = pack(clouds, ROOMY).batch
        arrays = jax.tree.leaves(batch)
        return [(x.shape, x.dtype) for x in arrays]

    assert signature(CLOUDS) == signature(CLOUDS[:1]) == signature([])


def test_too_many_clouds_are_refused():
    with pytest.raises(ValueError, match="3 clouds do not fit 2 places"):
        pack(CLOUDS, ROOMY._replace(clouds=2))
