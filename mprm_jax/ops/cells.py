"""Coarsening and neighbor search of packed clouds over sorted grid cells, with static shapes.

For a search, points are sorted into cells no smaller than the radius, so that all neighbors of a
query lie in the 3 x 3 columns of three cells around it. A column is one stretch of the sorted
points: the candidates of a query are nine stretches, laid end to end.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt32

from mprm_jax.types import Array

_MARGIN = 2  # empty cells on each side, so that cells beside a point's own never wrap around
_MAX_KEYS = 2.0**32 - 2.0**16  # by more than rounding below the key of padding
NO_KEY = np.uint32(0xFFFFFFFF)  # of padding
_CHUNK_CANDIDATES = 2**21  # looked at together, each with some 32 bytes


class CellGrid(NamedTuple):
    """A grid that holds all points of a bucket, one copy for each cloud."""

    size: Float[Array, ""]  # meters, edge of a cell
    low: Int32[Array, "3"]  # the lowest cell of any point, less the margin
    spans: UInt32[Array, "3"]  # cells on each axis
    too_wide: Bool[Array, ""]  # cells cannot be told apart: every result is void


class SortedCells(NamedTuple):
    """Rows of a bucket in the order of their cells; rows of one cell keep their order."""

    keys: UInt32[Array, " T"]  # ascending
    rows: Int32[Array, " T"]


class Coarse(NamedTuple):
    """The next level of a bucket."""

    points: Float32[Array, "M 3"]  # meters; 0 on padding
    clouds: Int32[Array, " M"]  # num_clouds on padding
    num_needed: Int32[Array, ""]  # occupied voxels; those beyond M are left out
    too_wide: Bool[Array, ""]  # voxels cannot be told apart: the level is void


class CellList(NamedTuple):
    """The points of a bucket in the order of the cells of a grid."""

    grid: CellGrid
    keys: UInt32[Array, " T"]  # ascending
    rows: Int32[Array, " T"]  # place of each point in the bucket
    points: Float[Array, "T 3"]


class Found(NamedTuple):
    """Neighbor lists."""

    neighbors: Int32[Array, "M H"]  # nearest first; T for no neighbor
    num_cut: Int32[Array, ""]  # candidates that were not looked at; 0 if the lists are right


def make_grid(
    points: Float[Array, "T 3"],
    clouds: Int32[Array, " T"],
    size: Float[Array, ""] | float,
    num_clouds: int,
) -> CellGrid:
    """Lays a grid, aligned with the origin, over the points of all clouds.

    Args:
      points: meters.
      clouds: `num_clouds` on padding.
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


def cell_keys(
    grid: CellGrid, points: Float[Array, "T 3"], clouds: Int32[Array, " T"], num_clouds: int
) -> UInt32[Array, " T"]:
    """Numbers of cells, ascending by cloud, then by x, y, z; `NO_KEY` on padding.

    A point further than a cell outside of the grid counts to the nearest cell that keeps one cell
    on each side inside.
    """
    cells = jnp.floor(points / grid.size).astype(jnp.int32) - grid.low[None]
    cells = jnp.clip(cells, 1, jnp.maximum(grid.spans.astype(jnp.int32) - 2, 1)[None])
    key = clouds.astype(jnp.uint32)
    for axis in range(3):
        key = key * grid.spans[axis] + cells[:, axis].astype(jnp.uint32)
    return jnp.where(clouds < num_clouds, key, NO_KEY)


def sort_cells(keys: UInt32[Array, " T"]) -> SortedCells:
    """Sorts rows by the keys of their cells."""
    rows = jnp.arange(len(keys), dtype=jnp.int32)
    return SortedCells(*jax.lax.sort((keys, rows), num_keys=1, is_stable=True))


def coarsen(
    points: Float32[Array, "T 3"],
    clouds: Int32[Array, " T"],
    voxel_size: float,
    *,
    num_rows: int,
    num_clouds: int,
) -> Coarse:
    """One point per occupied voxel, in the order of clouds, then of x, y, z of the voxels.

    Args:
      points: meters.
      clouds: `num_clouds` on padding.
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


def make_cell_list(
    points: Float[Array, "T 3"], clouds: Int32[Array, " T"], size: float, num_clouds: int
) -> CellList:
    """Sorts the points of a bucket into cells.

    Args:
      points: meters.
      clouds: `num_clouds` on padding.
      size: meters, edge of a cell: the largest radius that will be searched.
    """
    grid = make_grid(points, clouds, size, num_clouds)
    keys, rows = sort_cells(cell_keys(grid, points, clouds, num_clouds))
    return CellList(grid, keys, rows, points[rows])


def count_candidates(
    cells: CellList, queries: Float[Array, "M 3"], clouds: Int32[Array, " M"], num_clouds: int
) -> Int32[Array, " M"]:
    """Points in the cells around each query; what `capacity` must hold."""
    starts, ends = _stretches(cells, queries, clouds, num_clouds)
    return jnp.sum(ends - starts, axis=1)


def search(
    cells: CellList,
    queries: Float[Array, "M 3"],
    clouds: Int32[Array, " M"],
    radius: float,
    *,
    width: int,
    capacity: int,
    num_clouds: int,
) -> Found:
    """The nearest `width` points closer than `radius` to each query, of its own cloud.

    Args:
      queries: meters.
      clouds: `num_clouds` on padding, which has no neighbors.
      radius: meters, at most the size of a cell; a point at exactly this distance is out.
      capacity: candidates looked at per query; the others are counted in `num_cut`.
    """
    shadow = len(cells.rows)
    starts, ends = _stretches(cells, queries, clouds, num_clouds)
    lasts = jnp.cumsum(ends - starts, axis=1)  # candidates up to and with each stretch
    shifts = ends - lasts  # of a candidate's place in the stretches to that in the sorted points
    slots = jnp.arange(max(capacity, width), dtype=jnp.int32)

    def nearest(query: tuple[Array, Array, Array]) -> Array:
        point, lasts, shifts = query
        stretch_steps = jnp.where(slots[:, None] >= lasts[None, :-1], jnp.diff(shifts)[None], 0)
        places = slots + shifts[0] + jnp.sum(stretch_steps, axis=1)
        candidates = (slots < lasts[-1]) & (slots < capacity)
        places = jnp.where(candidates, places, 0)
        offsets = cells.points[places] - point[None]
        distances = jnp.sum(jnp.square(offsets), axis=1)
        inside = candidates & (distances < radius**2)
        closeness, chosen = jax.lax.top_k(jnp.where(inside, -distances, -jnp.inf), width)
        return jnp.where(closeness > -jnp.inf, cells.rows[places[chosen]], shadow)

    chunk = max(_CHUNK_CANDIDATES // len(slots), 1)
    neighbors = jax.lax.map(nearest, (queries, lasts, shifts), batch_size=min(chunk, len(queries)))
    return Found(neighbors, jnp.sum(jnp.maximum(lasts[:, -1] - capacity, 0)))


def cover_radius(voxel_size: float) -> float:
    """Every point has the barycenter of its own voxel closer than this; meters."""
    return 1.001 * math.sqrt(3) * voxel_size


def _stretches(
    cells: CellList, queries: Float[Array, "M 3"], clouds: Int32[Array, " M"], num_clouds: int
) -> tuple[Int32[Array, "M 9"], Int32[Array, "M 9"]]:
    """Sorted points of the nine columns around each query: first and one past the last."""
    grid = cells.grid
    keys = cell_keys(grid, queries, clouds, num_clouds)
    across, along = grid.spans[1] * grid.spans[2], grid.spans[2]
    moves = [x * across + y * along - 1 for x in (-1, 0, 1) for y in (-1, 0, 1)]
    # Unsigned numbers wrap around, so that a step back is a sum too.
    lowest = keys[:, None] + jnp.stack(moves).astype(jnp.uint32)[None]
    starts = jnp.searchsorted(cells.keys, lowest).astype(jnp.int32)
    ends = jnp.searchsorted(cells.keys, lowest + 3).astype(jnp.int32)
    ends = jnp.where((clouds < num_clouds)[:, None], ends, starts)
    return starts, ends
