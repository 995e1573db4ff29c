"""Reduces packed clouds to the barycenters of their voxels, with static shapes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mprm_jax.ops.cells import NO_KEY, cell_keys, make_grid, sort_cells
from mprm_jax.types import Array


class Coarse(NamedTuple):
    """The next level of a bucket."""

    points: Array  # [M, 3] float32 meters; 0 on padding
    clouds: Array  # [M] int32; num_clouds on padding
    num_needed: Array  # [] int32, occupied voxels; those beyond M are left out
    too_wide: Array  # [] bool, voxels cannot be told apart: the level is void


def coarsen(
    points: Array, clouds: Array, voxel_size: float, *, num_rows: int, num_clouds: int
) -> Coarse:
    """One point per occupied voxel, in the order of clouds, then of x, y, z of the voxels.

    Args:
      points: [T, 3] float32 meters.
      clouds: [T] int32; `num_clouds` on padding.
      voxel_size: meters, of a grid aligned with the origin.
      num_rows: M.

    Source: mprm `cpp_wrappers/cpp_subsampling/grid_subsampling.cpp`.
    """
    grid = make_grid(points, clouds, voxel_size, num_clouds)
    keys, rows = sort_cells(cell_keys(grid, points, clouds, num_clouds))
    new = jnp.concatenate([jnp.ones(1, bool), keys[1:] != keys[:-1]]) & (keys != NO_KEY)
    voxels = jnp.cumsum(new.astype(jnp.int32)) - 1
    # Rows past the last place are dropped by the sums below.
    voxels = jnp.where(keys != NO_KEY, voxels, num_rows)
    ones = jnp.ones((len(points), 1), points.dtype)
    sums = jax.ops.segment_sum(
        jnp.concatenate([points, ones], axis=1)[rows],
        voxels,
        num_segments=num_rows,
        indices_are_sorted=True,
    )
    of_voxel = jnp.full(num_rows, num_clouds, jnp.int32)
    return Coarse(
        points=sums[:, :3] / jnp.maximum(sums[:, 3:], 1),
        clouds=of_voxel.at[voxels].set(clouds[rows], mode="drop"),
        num_needed=jnp.sum(new, dtype=jnp.int32),
        too_wide=grid.too_wide,
    )
