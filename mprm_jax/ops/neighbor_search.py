"""Finds the points within a radius of packed clouds, nearest first, with static shapes.

Points are sorted into cells no smaller than the radius, so that all neighbors of a query lie in
the 3 x 3 columns of three cells around it. A column is one stretch of the sorted points: the
candidates of a query are nine stretches, laid end to end.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mprm_jax.ops.cells import CellGrid, cell_keys, make_grid, sort_cells
from mprm_jax.types import Array

_CHUNK_CANDIDATES = 2**21  # looked at together, each with some 32 bytes


class CellList(NamedTuple):
    """The points of a bucket in the order of the cells of a grid."""

    grid: CellGrid
    keys: Array  # [T] uint32, ascending
    rows: Array  # [T] int32, place of each point in the bucket
    points: Array  # [T, 3]


class Found(NamedTuple):
    """Neighbor lists."""

    neighbors: Array  # [M, H] int32, nearest first; T for no neighbor
    num_cut: Array  # [] int32, candidates that were not looked at; 0 if the lists are right


def make_cell_list(points: Array, clouds: Array, size: float, num_clouds: int) -> CellList:
    """Sorts the points of a bucket into cells.

    Args:
      points: [T, 3] meters.
      clouds: [T] int32; `num_clouds` on padding.
      size: meters, edge of a cell: the largest radius that will be searched.
    """
    grid = make_grid(points, clouds, size, num_clouds)
    keys, rows = sort_cells(cell_keys(grid, points, clouds, num_clouds))
    return CellList(grid, keys, rows, points[rows])


def count_candidates(cells: CellList, queries: Array, clouds: Array, num_clouds: int) -> Array:
    """Points in the cells around each query, [M] int32; what `capacity` must hold."""
    starts, ends = _stretches(cells, queries, clouds, num_clouds)
    return jnp.sum(ends - starts, axis=1)


def search(
    cells: CellList,
    queries: Array,
    clouds: Array,
    radius: float,
    *,
    width: int,
    capacity: int,
    num_clouds: int,
) -> Found:
    """The nearest `width` points closer than `radius` to each query, of its own cloud.

    Args:
      queries: [M, 3] meters.
      clouds: [M] int32; `num_clouds` on padding, which has no neighbors.
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
    cells: CellList, queries: Array, clouds: Array, num_clouds: int
) -> tuple[Array, Array]:
    """Sorted points of the nine columns around each query: first and one past the last, [M, 9]."""
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
