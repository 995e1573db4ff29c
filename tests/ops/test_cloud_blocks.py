import jax
import numpy as np
import pytest

from mprm_jax.ops.cloud_blocks import cloud_blocks

arrange = jax.jit(cloud_blocks, static_argnums=(1, 2))

SIZES = {
    "of different sizes": (5, 1, 8),
    "some empty": (0, 5, 0, 3, 0),
    "one": (9,),
    "none filled": (0, 0),
    "as many as rows": (1,) * 14,
}


def of_rows(sizes, num_rows=14):
    clouds = np.full(num_rows, len(sizes), np.int32)
    clouds[: sum(sizes)] = np.repeat(np.arange(len(sizes)), sizes)
    return clouds


@pytest.mark.parametrize("size", [1, 4, 128])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_blocks_hold_the_rows_of_one_cloud_in_order(sizes, size):
    clouds = np.random.default_rng(0).permutation(of_rows(sizes))
    blocks = arrange(clouds, len(sizes), size)
    held = {cloud: [] for cloud in range(len(sizes))}
    for rows, cloud in zip(np.asarray(blocks.rows), np.asarray(blocks.clouds), strict=True):
        found = rows[rows < len(clouds)]
        if cloud == len(sizes):
            assert not len(found)
        else:
            held[int(cloud)].append(found)
    for cloud, found in held.items():
        assert [len(rows) for rows in found[:-1]] == [size] * (len(found) - 1)
        rows = np.concatenate([*found, np.zeros(0, int)])
        np.testing.assert_array_equal(rows, np.flatnonzero(clouds == cloud))


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_blocks_know_the_others_of_their_cloud(sizes):
    blocks = arrange(of_rows(sizes), len(sizes), 4)
    for block, cloud in enumerate(np.asarray(blocks.clouds)):
        if cloud < len(sizes):
            same = np.flatnonzero(np.asarray(blocks.clouds) == cloud)
            assert (blocks.first[block], blocks.counts[block]) == (same[0], len(same))


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_rows_come_back_where_they_were(sizes):
    clouds = np.random.default_rng(1).permutation(of_rows(sizes))
    blocks = arrange(clouds, len(sizes), 4)
    values = np.random.default_rng(2).normal(size=(len(clouds), 2)).astype(np.float32)
    expected = np.where((clouds < len(sizes))[:, None], values, 0)
    np.testing.assert_array_equal(blocks.collect(blocks.spread(values)), expected)
    assert np.count_nonzero(blocks.filled) == sum(sizes)


def test_clouds_may_be_constants_of_a_program():
    clouds = of_rows((5, 1, 8))
    constant = jax.jit(lambda: cloud_blocks(clouds, 3, 4))()
    jax.tree.map(np.testing.assert_array_equal, constant, arrange(clouds, 3, 4))
