import functools

import jax
import numpy as np
import pytest

from mprm_jax.crf import lattice_host, threads
from mprm_jax.crf.lattice_device import build_lattice_on_host
from mprm_jax.crf.lattice_host import (
    build_host_kernels,
    find_vertices,
    messages,
    neighbor_pairs,
    point_order,
)
from mprm_jax.crf.mean_field import make_kernel, mean_field_on_host
from mprm_jax.crf.mean_field import messages as jax_messages
from mprm_jax.crf.normalization import NORMALIZATIONS

on_lattice = jax.jit(make_kernel, static_argnames="normalization")


def cloud(num_dims, num_points=200, seed=0):
    rng = np.random.default_rng((num_dims, seed))
    features = (2 * rng.normal(size=(num_points, num_dims))).astype(np.float32)
    sender = (rng.uniform(size=num_points) < 0.8).astype(np.float32)
    return features, sender, rng.uniform(size=(num_points, 4)).astype(np.float32)


def build_kernel(features, *how):
    return build_host_kernels([features], *how)


def points(num_points=300, num_dims=3):
    rng = np.random.default_rng((num_points, num_dims))
    return (2 * rng.normal(size=(num_points, num_dims))).astype(np.float32)


def test_a_table_numbers_vertices_like_a_sort(monkeypatch):
    expected = find_vertices(points())
    for table_size in (0, 10**6):
        monkeypatch.setattr(lattice_host, "TABLE_SIZE", table_size)
        for ours, other in zip(find_vertices(points()), expected, strict=True):
            np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize("num_dims", [1, 3, 6])
def test_neighbors_are_those_of_a_search(num_dims):
    found = find_vertices(points(num_dims=num_dims))
    *strides, last = found.strides
    places = {key: place for place, key in enumerate(found.keys.tolist())}
    for axis in range(num_dims + 1):
        step = (strides[axis] if axis < num_dims else 0) - last
        wrap = (num_dims + 1) * last - sum(strides)  # from remainder 0 to d
        expected = set()
        for key, place in places.items():
            wanted = key + step + (wrap if place < found.firsts[1] else 0)
            if wanted in places:
                expected.add((place, places[wanted]))
        pairs = set(zip(*(part.tolist() for part in neighbor_pairs(found, axis)), strict=True))
        assert pairs == expected and expected


def test_order_is_a_permutation_that_brings_close_points_together():
    features = points(2000)
    order = point_order(features)
    assert sorted(order.tolist()) == list(range(2000))
    steps = np.linalg.norm(np.diff(features[order], axis=0), axis=1).mean()
    assert steps < 0.7 * np.linalg.norm(np.diff(features, axis=0), axis=1).mean()


@pytest.mark.parametrize("num_dims", [1, 3, 6])
def test_messages_are_those_of_the_lattice(num_dims):
    features, sender, values = cloud(num_dims)
    expected = jax.jit(jax_messages)(on_lattice(build_lattice_on_host(features), sender), values)
    # float32 sums over 200 points in another order
    np.testing.assert_allclose(messages(build_kernel(features, sender), values), expected, 1e-4)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_normalization_is_that_of_the_lattice(normalization):
    features, sender, values = cloud(3)
    kernel = on_lattice(build_lattice_on_host(features), sender, normalization=normalization)
    expected = jax.jit(jax_messages)(kernel, values)
    result = messages(build_kernel(features, sender, normalization), values)
    np.testing.assert_allclose(result, expected, 1e-4)  # as above


def test_a_point_that_sends_nothing_still_hears():
    features, _, values = cloud(3)
    silent = np.arange(200) % 2 == 0
    kernel = build_kernel(features, (~silent).astype(np.float32))
    changed = np.where(silent[:, None], np.float32(7), values)
    heard = messages(kernel, values)
    np.testing.assert_array_equal(messages(kernel, changed), heard)
    assert (heard[silent] > 0).mean() > 0.9  # few of them have nobody in reach


@pytest.mark.parametrize("block_size", [1, 64])
def test_blocks_change_nothing(monkeypatch, block_size):
    features, sender, values = cloud(3)
    run = functools.partial(mean_field_on_host, weights=[2.0], num_iterations=3)
    expected = run(build_kernel(features, sender), values)
    for name in ("BLOCK_POINTS", "BLOCK_VERTICES", "BLOCK_SIMPLICES"):
        monkeypatch.setattr(lattice_host, name, block_size)
    np.testing.assert_array_equal(run(build_kernel(features, sender), values), expected)


@pytest.mark.parametrize("num_cores", [1, 3])
def test_threads_change_nothing(monkeypatch, num_cores):
    features, sender, values = cloud(3)
    run = functools.partial(mean_field_on_host, weights=[2.0], num_iterations=3)
    expected = run(build_kernel(features, sender), values)
    monkeypatch.setattr(threads, "usable_cpus", lambda: num_cores)
    np.testing.assert_array_equal(run(build_kernel(features, sender), values), expected)


def test_distant_points_do_not_hear_each_other():
    features, _, values = cloud(3)
    features[0] = 1000
    kernel = build_kernel(features, np.ones(200, np.float32))
    changed = values.copy()
    changed[1:] = 0
    np.testing.assert_array_equal(messages(kernel, values)[0], messages(kernel, changed)[0])


def test_no_kernel_and_no_iteration_leave_the_unary():
    features, sender, values = cloud(3)
    kernels = build_kernel(features, sender)
    expected = np.exp(-values) / np.exp(-values).sum(axis=1, keepdims=True)
    for weights, num_iterations in (([0.0], 3), ([1.0], 0)):
        result = mean_field_on_host(kernels, values, weights, num_iterations=num_iterations)
        np.testing.assert_allclose(result, expected, 1e-5)  # float32 exponentials


def test_extreme_energies_do_not_overflow():
    features, sender, values = cloud(3)
    kernels = build_kernel(features, sender)
    for shift in (-500, 500):
        shifted = values + np.float32(shift) * (np.arange(200) % 2)[:, None].astype(np.float32)
        expected = mean_field_on_host(kernels, values, [1.0], num_iterations=1)
        result = mean_field_on_host(kernels, shifted, [1.0], num_iterations=1)
        np.testing.assert_allclose(result, expected, 1e-3)  # energies of 500 in float32


def test_too_many_kernel_widths_are_one_clear_line():
    features, sender, _ = cloud(6)
    features[0] = 1e6
    with pytest.raises(ValueError, match="too many to number; widen the kernel"):
        build_kernel(features, sender)


@pytest.mark.parametrize("num_dims", [(3, 6), (6, 3), (2, 4, 1)])
def test_kernels_together_send_the_sum(num_dims):
    clouds = [cloud(d) for d in num_dims]
    _, sender, values = clouds[0]
    apart = [build_kernel(features, sender) for features, _, _ in clouds]
    together = build_host_kernels([features for features, _, _ in clouds], sender)
    expected = sum(messages(kernel, values) for kernel in apart)
    # float32 sums in another order
    np.testing.assert_allclose(messages(together, values), expected, 1e-5)
