"""Balls of a tile hold what they would hold in the whole cloud, and every voxel of the tile."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
from prepared import CONFIG

from mprm_jax.batches.covering import TileBalls
from mprm_jax.config import PyramidConfig
from mprm_jax.geometry.balls import in_ball
from mprm_jax.geometry.tiles import tiles
from mprm_jax.store.scenes import CloudArrays

SMALL = dataclasses.replace(CONFIG, pyramid=PyramidConfig(bucket_points=40))


def voxels(num_voxels=900):
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 1, (num_voxels, 3)).astype(np.float32) * np.float32([9, 5, 2])
    return CloudArrays(coords, rng.integers(0, 256, (num_voxels, 3)).astype(np.uint8))


def cut(cloud, tile):
    return CloudArrays(cloud.coords[tile.rows], cloud.colors[tile.rows])


@pytest.fixture(params=[1, 2])
def num_covers(request):
    return request.param


@pytest.mark.parametrize("config", [CONFIG, SMALL], ids=["large buckets", "small buckets"])
def test_balls_of_a_tile_are_balls_of_the_cloud(config, num_covers):
    cloud = voxels()
    for tile in tiles(cloud.coords, 200, config.seg.radius):
        balls = TileBalls(cut(cloud, tile), tile.core, "", 3, config, num_covers)
        for index in range(len(balls)):
            rows = tile.rows[balls.read(index).rows]
            offsets = cloud.coords - balls.centers[index][None]
            np.testing.assert_array_equal(
                rows, np.flatnonzero(in_ball(offsets, balls.radii[index]))
            )
            assert len(rows) == balls.num_points[index] <= config.pyramid.bucket_points


def test_every_own_voxel_lies_in_a_ball_of_each_cover(num_covers):
    cloud = voxels()
    for tile in tiles(cloud.coords, 200, CONFIG.seg.radius):
        balls = TileBalls(cut(cloud, tile), tile.core, "", 3, CONFIG, num_covers)
        seen = np.bincount(np.concatenate([balls.read(i).rows for i in range(len(balls))]))
        assert np.all(seen[tile.core[: len(seen)]] >= num_covers)
        assert not tile.core[len(seen) :].any()


def test_tiles_do_not_pile_up_in_memory():
    balls = TileBalls(voxels(), np.ones(900, bool), "", 3, CONFIG, 1)
    balls.read(0)
    clouds = weakref.ref(balls.clouds)  # holds points and search tree
    del balls
    gc.collect()
    assert clouds() is None
