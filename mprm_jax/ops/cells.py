"""Coarsening and neighbor search of packed clouds over sorted grid cells, with static shapes.

For a search, points are sorted into cells no smaller than the radius, so that all neighbors of a
query lie in the 3 x 3 columns of three cells around it. A column is one stretch of the sorted
points, whose ends stand in a table: the candidates of a query are nine stretches, laid end to end.
Of each candidate only a bit is kept, whether it is closer than the radius, and the nearest are
chosen from the few that are.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt32

from mprm_jax.ops.bits import nth_set_bits, pack_bits
from mprm_jax.types import Array

_MARGIN = 2  # empty cells on each side, so that cells beside a point's own never wrap around
_MAX_KEYS = 2.0**32 - 2.0**16  # by more than rounding below the key of padding
NO_KEY = np.uint32(0xFFFFFFFF)  # of padding
# A moved ball of 2 m has 3 to 11 cells of 10 cm for each of its voxels of 4 cm.
_CELLS_A_ROW = 16
_CHUNK_BYTES = 2**28  # of queries that are looked at together


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


class CellTable(NamedTuple):
    """Where cells begin among the sorted points."""

    shift: UInt32[Array, ""]  # an entry stands for 2^shift cells: 1, unless the grid is too large
    firsts: Int32[Array, " S"]  # points before those of each entry


class CellList(NamedTuple):
    """The points of a bucket in the order of the cells of a grid."""

    grid: CellGrid
    table: CellTable
    keys: UInt32[Array, " T"]  # ascending
    rows: Int32[Array, " T"]  # place of each point in the bucket
    points: Float[Array, "3 T"]  # by axis: TPUs would pad rows of 3 numbers to 128


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
    return CellList(grid, _make_table(keys), keys, rows, points[rows].T)


def search(
    cells: CellList,
    queries: Float[Array, "M 3"],
    clouds: Int32[Array, " M"],
    sq_radius: Float[Array, " M"],
    *,
    width: int,
    capacity: int,
    num_clouds: int,
) -> Found:
    """The nearest `width` points within a radius of each query, of its own cloud.

    Args:
      queries: meters.
      clouds: `num_clouds` on padding, which has no neighbors.
      sq_radius: square meters, of at most the size of a cell; a point at exactly this distance is
        out.
      capacity: candidates looked at per query; the others are counted in `num_cut`.
    """
    starts, ends = _stretches(cells, queries, clouds, num_clouds)
    lasts = jnp.cumsum(ends - starts, axis=1)
    num_looked = jnp.minimum(lasts[:, -1], capacity)
    looks = _Look(queries, sq_radius, lasts, ends - lasts, num_looked)
    find = _nearest_one if width == 1 else functools.partial(_nearest, width=width)
    # The place of each candidate; of those in the room also distances, and copies that sort them.
    chunk = max(_CHUNK_BYTES // (4 * capacity + 32 * _room(width, capacity)), 1)
    neighbors = jax.lax.map(
        functools.partial(find, cells, capacity=capacity),
        looks,
        batch_size=min(chunk, len(queries)),
    )
    return Found(neighbors, jnp.sum(lasts[:, -1] - num_looked))


class _Look(NamedTuple):
    """A query and its candidates, which are numbered through its stretches."""

    point: Float[Array, "3"]
    sq_radius: Float[Array, ""]
    lasts: Int32[Array, "9"]  # candidates up to and with each stretch
    shifts: Int32[Array, "9"]  # of a candidate's number to its place among the sorted points
    num_looked: Int32[Array, ""]  # candidates that are looked at


def _nearest(
    cells: CellList, look: _Look, *, width: int, capacity: int
) -> Int32[Array, " {width}"]:
    """Rows of the nearest candidates within the radius; T for none."""
    room = _room(width, capacity)
    slots = jnp.arange(capacity, dtype=jnp.int32)
    inside = pack_bits(_measure(cells, look, slots)[0] < look.sq_radius)
    num_inside = jnp.sum(jax.lax.population_count(inside).astype(jnp.int32))

    def take(first: Array) -> tuple[Array, Array]:
        """Closeness and places of `room` of those inside, -inf past the last."""
        numbers = first + jnp.arange(room, dtype=jnp.int32)
        sq_dist, places = _measure(cells, look, nth_set_bits(inside, numbers))
        return -sq_dist, places

    def choose(closeness: Array, places: Array) -> tuple[Array, Array]:
        closeness, chosen = jax.lax.top_k(closeness, width)
        return closeness, places[chosen]

    def go_on(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        first, *best = state
        both = (jnp.concatenate(pair) for pair in zip(best, take(first), strict=True))
        return first + room, *choose(*both)

    # Hardly any query has more points inside than there is room for at once.
    state = (jnp.int32(room), *choose(*take(jnp.int32(0))))
    _, closeness, places = jax.lax.while_loop(lambda x: x[0] < num_inside, go_on, state)
    return jnp.where(closeness > -jnp.inf, cells.rows[places], len(cells.rows))


def _nearest_one(cells: CellList, look: _Look, *, capacity: int) -> Int32[Array, "1"]:
    """The row of the nearest candidate, as of `_nearest`."""
    best = jnp.argmin(_measure(cells, look, jnp.arange(capacity, dtype=jnp.int32))[0])
    # Measured again, so that nothing is kept of the others.
    sq_dist, places = _measure(cells, look, best[None].astype(jnp.int32))
    return jnp.where(sq_dist < look.sq_radius, cells.rows[places], len(cells.rows))


def _room(width: int, capacity: int) -> int:
    """Candidates that the nearest `width` are chosen from at once."""
    # A percentile of list lengths is some two thirds of the longest; networks that sort take
    # powers of two.
    return min(2 ** math.ceil(math.log2(1.5 * width)), max(capacity, width))


def _measure(
    cells: CellList, look: _Look, numbers: Int32[Array, " S"]
) -> tuple[Float[Array, " S"], Int32[Array, " S"]]:
    """Squared distances of candidates by number, inf where there are not as many; their places."""
    later = numbers[:, None] >= look.lasts[None, :-1]
    shifts = look.shifts[0] + jnp.sum(jnp.where(later, jnp.diff(look.shifts)[None], 0), axis=1)
    there = numbers < look.num_looked
    places = jnp.where(there, numbers + shifts, 0)
    squares = (
        jnp.square(axis[places] - point)
        for axis, point in zip(cells.points, look.point, strict=True)
    )
    return jnp.where(there, sum(squares), jnp.inf), places


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
    starts, ends = _find_keys(cells, jnp.stack([lowest, lowest + 3]))
    ends = jnp.where((clouds < num_clouds)[:, None], ends, starts)
    return starts, ends


def _make_table(keys: UInt32[Array, " T"]) -> CellTable:
    """Looks up where cells begin; `keys` ascend."""
    size = _CELLS_A_ROW * len(keys)
    real = keys != NO_KEY
    last = jnp.max(jnp.where(real, keys, 0))
    shift = jnp.sum((last >> jnp.arange(32, dtype=jnp.uint32)) >= size, dtype=jnp.uint32)
    entries = jnp.where(real, keys >> shift, size + 1).astype(jnp.int32)
    counts = jnp.zeros(size + 2, jnp.int32)
    counts = counts.at[entries + 1].add(1, mode="drop", indices_are_sorted=True)
    return CellTable(shift, jnp.cumsum(counts))


def _find_keys(cells: CellList, wanted: UInt32[Array, "..."]) -> Int32[Array, "..."]:
    """The first sorted point whose key is not below the wanted one."""
    table, keys = cells.table, cells.keys
    entries = jnp.minimum(wanted >> table.shift, len(table.firsts) - 2).astype(jnp.int32)
    low = table.firsts[entries]
    high = jnp.where(table.shift > 0, table.firsts[entries + 1], low)

    def halve(bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) // 2
        less = (low < high) & (keys[middle] < wanted)
        return jnp.where(less, middle + 1, low), jnp.where(less, high, middle)

    # Only entries of several cells leave something to search.
    return jax.lax.while_loop(lambda x: jnp.any(x[0] < x[1]), halve, (low, high))[0]
