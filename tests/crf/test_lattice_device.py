import itertools

import jax
import numpy as np
import pytest

from mprm_jax.crf.lattice_device import (
    BUCKET_RATIO,
    Capacity,
    bucket,
    build_lattice,
    build_lattice_on_host,
    needed_capacity,
)

on_device = jax.jit(build_lattice, static_argnames="capacity")


def cloud(num_dims, num_points=200, spread=2.0):
    rng = np.random.default_rng(num_dims)
    return (spread * rng.normal(size=(num_points, num_dims))).astype(np.float32)


def capacity(lattice):
    return Capacity(lattice.head_points.shape[1] - 1, lattice.tail_vertices.shape[0])


def assert_same(host, device):
    for name, expected, result in zip(host._fields, host, device, strict=True):
        if "weights" in name:
            # one rounding of coordinates of up to 10 cells
            np.testing.assert_allclose(result, expected, atol=5e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(result, expected, err_msg=name)


@pytest.mark.parametrize("num_dims", [1, 3, 6])
def test_host_and_device_build_the_same_lattice(num_dims):
    features = cloud(num_dims)
    host = build_lattice_on_host(features, num_rows=256)
    padded = np.pad(features, ((0, 56), (0, 0)), constant_values=1e4)
    assert_same(host, on_device(padded, np.arange(256) < 200, capacity=capacity(host)))


@pytest.mark.parametrize("num_points", [0, 1, 7])
def test_identical_points_share_one_simplex(num_points):
    features = np.full((num_points, 3), 0.3, np.float32)
    host = build_lattice_on_host(features, num_rows=8)
    assert host.num_vertices == (4 if num_points else 0)
    padded = np.pad(features, ((0, 8 - num_points), (0, 0)))
    assert_same(host, on_device(padded, np.arange(8) < num_points, capacity=capacity(host)))


def test_corners_weigh_one_and_locate_the_point():
    host = build_lattice_on_host(cloud(3))
    np.testing.assert_allclose(host.weights.sum(axis=0), 1, atol=1e-5)  # float32 coordinates
    assert (host.weights > -1e-5).all()


def test_neighbors_are_mutual():
    host = build_lattice_on_host(cloud(6))
    none = host.head_points.shape[1] - 1
    for before, after in host.neighbors:
        vertices = np.flatnonzero(before < none)
        assert len(vertices)
        np.testing.assert_array_equal(after[before[vertices]], vertices)
        assert (before < none).sum() == (after < none).sum()


def test_wide_clouds_are_exact_too():
    # Keys of 62 bits leave no room for an index beside them.
    far = np.array([[0, 0, 0], [3e5, 2e5, 1e5], [-3e5, 1e5, -2e5], [-3e5, 1e5, -2e5]], np.float32)
    host = build_lattice_on_host(far)
    assert host.num_vertices == 12
    np.testing.assert_array_equal(host.vertices[:, 2], host.vertices[:, 3])


def test_a_full_lattice_is_an_error_on_the_host():
    with pytest.raises(ValueError, match=r"needs Capacity\(vertices=\d+"):
        build_lattice_on_host(cloud(3), capacity=Capacity(100, 1000))


def test_a_full_lattice_is_noticed_on_the_device():
    features = cloud(2, spread=1.0)
    lattice = on_device(features, np.ones(200, bool), capacity=Capacity(20, 3))
    assert needed_capacity(lattice) == needed_capacity(build_lattice_on_host(features))


def test_too_wide_keys_are_an_error():
    far = 1e4 * cloud(6)
    with pytest.raises(ValueError, match="widen the kernel"):
        build_lattice_on_host(1e3 * far)
    padded = np.pad(far, ((0, 56), (0, 0)))
    same_shape = capacity(build_lattice_on_host(cloud(6), num_rows=256))  # compiled already
    lattice = on_device(padded, np.arange(256) < 200, capacity=same_shape)
    with pytest.raises(ValueError, match="build it on the host"):
        needed_capacity(lattice)


def test_buckets_hold_and_grow_slowly():
    sizes = [*range(1, 3000), *range(3000, 200_000, 101)]
    buckets = [bucket(size) for size in sizes]
    assert all(held >= size for held, size in zip(buckets, sizes, strict=True))
    steps = sorted(set(buckets))
    assert len(steps) < 30
    assert all(b <= BUCKET_RATIO * a for a, b in itertools.pairwise(steps))
