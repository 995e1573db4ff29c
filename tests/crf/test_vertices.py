import numpy as np
import pytest

from mprm_jax.crf import vertices
from mprm_jax.crf.vertices import find_vertices, neighbor_pairs, point_order


def cloud(num_points=300, num_dims=3):
    rng = np.random.default_rng((num_points, num_dims))
    return (2 * rng.normal(size=(num_points, num_dims))).astype(np.float32)


def test_a_table_numbers_vertices_like_a_sort(monkeypatch):
    expected = find_vertices(cloud())
    for table_size in (0, 10**6):
        monkeypatch.setattr(vertices, "TABLE_SIZE", table_size)
        for ours, other in zip(find_vertices(cloud()), expected, strict=True):
            np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize("num_dims", [1, 3, 6])
def test_neighbors_are_those_of_a_search(num_dims):
    found = find_vertices(cloud(num_dims=num_dims))
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
    features = cloud(2000)
    order = point_order(features)
    assert sorted(order.tolist()) == list(range(2000))
    steps = np.linalg.norm(np.diff(features[order], axis=0), axis=1).mean()
    assert steps < 0.7 * np.linalg.norm(np.diff(features, axis=0), axis=1).mean()
