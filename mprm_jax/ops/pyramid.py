"""Builds the resolutions of a bucket and the lists that connect them, in traced code.

The same result as packing the clouds of `geometry.pyramid`, without the host: the same rows, and
the same lists but for the order of neighbors at equal distance.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int32

from mprm_jax.geometry.pyramid import Capacities, PyramidSpec
from mprm_jax.ops.cells import (
    CellList,
    Found,
    coarsen,
    count_candidates,
    cover_radius,
    make_cell_list,
    search,
)
from mprm_jax.types import Array, PointPyramid


class Overflow(NamedTuple):
    """What did not fit; all 0 if the pyramid is right."""

    rows: Int32[Array, " L"]  # points of each level that have no row
    candidates: Int32[Array, " L"]  # candidates of lists into each level that were not looked at
    too_wide: Int32[Array, ""]  # levels whose cells cannot be told apart


class BuiltPyramid(NamedTuple):
    """A pyramid and what did not fit."""

    pyramid: PointPyramid
    overflow: Overflow


def build_bucket_pyramid(
    points: Float32[Array, "T_0 3"],
    clouds: Int32[Array, " T_0"],
    spec: PyramidSpec,
    capacities: Capacities,
    num_clouds: int,
) -> BuiltPyramid:
    """Coarsens the clouds of a bucket level by level and finds all lists.

    Args:
      points: meters, clouds end to end.
      clouds: `num_clouds` on padding.

    Source: mprm `datasets/common.py`, tf_segmentation_attention_inputs.
    """
    levels = _coarsen_all(points, clouds, spec, capacities.coarse_rows, num_clouds)
    top = len(levels) - 1
    lists = [_cells(levels[i], _reach(spec, i), num_clouds) for i in range(top + 1)]
    nearest = [_cells(levels[i], _nearest_radius(spec, i), num_clouds) for i in range(1, top + 1)]

    def look(cells: CellList, queries: _Level, radius: float, width: int, capacity: int) -> Found:
        sizes = {"width": width, "capacity": capacity, "num_clouds": num_clouds}
        return search(cells, queries.points, queries.clouds, radius, **sizes)

    neighbors = [
        look(lists[i], levels[i], spec.conv_radii[i], spec.conv_neighbors[i], room)
        for i, room in enumerate(capacities.candidates)
    ]
    pools = [
        look(lists[i], levels[i + 1], spec.pool_radii[i], spec.pool_neighbors[i], room)
        for i, room in enumerate(capacities.candidates[:top])
    ]
    upsamples = [
        look(nearest[i], levels[i], _nearest_radius(spec, i + 1), 1, room)
        for i, room in enumerate(capacities.upsample_candidates)
    ]
    cut = [found.num_cut for found in neighbors]
    for i in range(top):
        cut[i] += pools[i].num_cut
        cut[i + 1] += upsamples[i].num_cut
    too_wide = [x.too_wide for x in levels[1:]] + [x.grid.too_wide for x in (*lists, *nearest)]
    pyramid = PointPyramid(
        points=tuple(level.points for level in levels),
        clouds=tuple(level.clouds for level in levels),
        neighbors=tuple(found.neighbors for found in neighbors),
        pools=tuple(found.neighbors for found in pools),
        upsamples=tuple(found.neighbors[:, 0] for found in upsamples),
        real=jnp.zeros(num_clouds, bool).at[levels[-1].clouds].set(True, mode="drop"),
    )
    overflow = Overflow(
        rows=jnp.stack([level.num_cut for level in levels]),
        candidates=jnp.stack(cut),
        too_wide=sum(jnp.asarray(x, jnp.int32) for x in too_wide),
    )
    return BuiltPyramid(pyramid, overflow)


def count_pyramid_candidates(
    points: Float32[Array, "T_0 3"],
    clouds: Int32[Array, " T_0"],
    spec: PyramidSpec,
    coarse_rows: tuple[int, ...],
    num_clouds: int,
) -> tuple[tuple[Int32[Array, ""], ...], tuple[Int32[Array, ""], ...]]:
    """The most candidates of any query, for `Capacities`: L for the lists, L-1 for upsampling."""
    levels = _coarsen_all(points, clouds, spec, coarse_rows, num_clouds)

    def most(cells: CellList, queries: _Level) -> Int32[Array, ""]:
        return jnp.max(count_candidates(cells, queries.points, queries.clouds, num_clouds))

    lists, upsamples = [], []
    for i, level in enumerate(levels):
        cells = _cells(level, _reach(spec, i), num_clouds)
        # Its own rows look at a level, and those of the next.
        lists.append(functools.reduce(jnp.maximum, [most(cells, x) for x in levels[i : i + 2]]))
        if i > 0:
            cells = _cells(level, _nearest_radius(spec, i), num_clouds)
            upsamples.append(most(cells, levels[i - 1]))
    return tuple(lists), tuple(upsamples)


class _Level(NamedTuple):
    """The rows of a level."""

    points: Float32[Array, "T 3"]
    clouds: Int32[Array, " T"]
    num_cut: Int32[Array, ""]  # points that have no row
    too_wide: Bool[Array, ""]  # its cells cannot be told apart


def _coarsen_all(
    points: Float32[Array, "T_0 3"],
    clouds: Int32[Array, " T_0"],
    spec: PyramidSpec,
    coarse_rows: tuple[int, ...],
    num_clouds: int,
) -> list[_Level]:
    levels = [_Level(points, clouds, jnp.int32(0), jnp.bool(False))]
    for number, rows in enumerate(coarse_rows, start=1):
        finer, size = levels[-1], spec.voxel_size * 2**number
        coarse = coarsen(finer.points, finer.clouds, size, num_rows=rows, num_clouds=num_clouds)
        num_cut = jnp.maximum(coarse.num_needed - rows, 0)
        levels.append(_Level(coarse.points, coarse.clouds, num_cut, coarse.too_wide))
    return levels


def _cells(level: _Level, size: float, num_clouds: int) -> CellList:
    return make_cell_list(level.points, level.clouds, size, num_clouds)


def _reach(spec: PyramidSpec, level: int) -> float:
    """The longest list into a level, in meters."""
    return max(spec.conv_radii[level], *spec.pool_radii[level : level + 1], 0.0)


def _nearest_radius(spec: PyramidSpec, level: int) -> float:
    """Within it lies the nearest point of a level, in meters."""
    return cover_radius(spec.voxel_size * 2**level)
