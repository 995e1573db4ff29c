"""Sorts packed clouds into grid cells: the common part of coarsening and of neighbor search."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mprm_jax.types import Array

_MARGIN = 2  # empty cells on each side, so that cells beside a point's own never wrap around
_MAX_KEYS = 2.0**32 - 2.0**16  # by more than rounding below the key of padding
NO_KEY = np.uint32(0xFFFFFFFF)  # of padding


class CellGrid(NamedTuple):
    """A grid that holds all points of a bucket, one copy for each cloud."""

    size: Array  # [] meters, edge of a cell
    low: Array  # [3] int32, the lowest cell of any point, less the margin
    spans: Array  # [3] uint32, cells on each axis
    too_wide: Array  # [] bool, cells cannot be told apart: every result is void


class SortedCells(NamedTuple):
    """Rows of a bucket in the order of their cells; rows of one cell keep their order."""

    keys: Array  # [T] uint32, ascending
    rows: Array  # [T] int32


def make_grid(points: Array, clouds: Array, size: Array, num_clouds: int) -> CellGrid:
    """Lays a grid, aligned with the origin, over the points of all clouds.

    Args:
      points: [T, 3] meters.
      clouds: [T] int32; `num_clouds` on padding.
      size: meters, edge of a cell.
    """
    size = jnp.asarray(size, points.dtype)
    real = (clouds < num_clouds)[:, None]
    cells = jnp.floor(points / size)
    low = jnp.min(jnp.where(real, cells, jnp.inf), axis=0)
    high = jnp.max(jnp.where(real, cells, -jnp.inf), axis=0)
    spans = jnp.where(high >= low, high - low + 1 + 2 * _MARGIN, 1)
    too_wide = ~(jnp.prod(spans) * num_clouds < _MAX_KEYS)
    low = jnp.where(jnp.isfinite(low), low - _MARGIN, 0)
    return CellGrid(size, low.astype(jnp.int32), spans.astype(jnp.uint32), too_wide)


def cell_keys(grid: CellGrid, points: Array, clouds: Array, num_clouds: int) -> Array:
    """Numbers of cells, [T] uint32, ascending by cloud, then by x, y, z; `NO_KEY` on padding.

    A point further than a cell outside of the grid counts to the nearest cell that keeps one cell
    on each side inside.
    """
    cells = jnp.floor(points / grid.size).astype(jnp.int32) - grid.low[None]
    cells = jnp.clip(cells, 1, jnp.maximum(grid.spans.astype(jnp.int32) - 2, 1)[None])
    key = clouds.astype(jnp.uint32)
    for axis in range(3):
        key = key * grid.spans[axis] + cells[:, axis].astype(jnp.uint32)
    return jnp.where(clouds < num_clouds, key, NO_KEY)


def sort_cells(keys: Array) -> SortedCells:
    """Sorts rows by the keys of their cells."""
    rows = jnp.arange(len(keys), dtype=jnp.int32)
    return SortedCells(*jax.lax.sort((keys, rows), num_keys=1, is_stable=True))
