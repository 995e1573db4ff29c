"""Builds the resolutions of a bucket and the lists that connect them, in traced code.

The same result as packing the clouds of `geometry.pyramid`, without the host: the same rows, and
the same lists but for the order of neighbors at equal distance.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int32

from mprm_jax.geometry.pyramid import Capacities, PyramidSpec
from mprm_jax.ops.cells import CellList, Found, coarsen, make_cell_list, search
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
    lists = [_cells(levels[i], spec.list_radius(i), num_clouds) for i in range(top + 1)]
    nearest = [_cells(levels[i], spec.nearest_radius(i), num_clouds) for i in range(1, top + 1)]
    found = [
        _search(
            cells,
            levels[i : i + 2],
            radii=(spec.conv_radii[i], *spec.pool_radii[i : i + 1]),
            # Nearest first: a shorter list is the beginning of a longer one.
            width=max(spec.conv_neighbors[i], *spec.pool_neighbors[i : i + 1], 1),
            capacity=capacities.candidates[i],
            num_clouds=num_clouds,
        )
        for i, cells in enumerate(lists)
    ]
    upsamples = [
        _search(
            cells,
            levels[i : i + 1],
            radii=(spec.nearest_radius(i + 1),),
            width=1,
            capacity=capacities.upsample_candidates[i],
            num_clouds=num_clouds,
        )
        for i, cells in enumerate(nearest)
    ]
    cut = [x.num_cut for x in found]
    for i, nearest_found in enumerate(upsamples, start=1):
        cut[i] += nearest_found.num_cut
    too_wide = [x.too_wide for x in levels[1:]] + [x.grid.too_wide for x in (*lists, *nearest)]
    pyramid = PointPyramid(
        points=tuple(level.points for level in levels),
        clouds=tuple(level.clouds for level in levels),
        neighbors=tuple(
            found[i].neighbors[: len(levels[i].points), :width]
            for i, width in enumerate(spec.conv_neighbors)
        ),
        pools=tuple(
            found[i].neighbors[len(levels[i].points) :, :width]
            for i, width in enumerate(spec.pool_neighbors)
        ),
        upsamples=tuple(x.neighbors[:, 0] for x in upsamples),
        real=jnp.zeros(num_clouds, bool).at[levels[-1].clouds].set(True, mode="drop"),
    )
    overflow = Overflow(
        rows=jnp.stack([level.num_cut for level in levels]),
        candidates=jnp.stack(cut),
        too_wide=sum(jnp.asarray(x, jnp.int32) for x in too_wide),
    )
    return BuiltPyramid(pyramid, overflow)


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


def _search(
    cells: CellList,
    queries: list[_Level],
    *,
    radii: tuple[float, ...],
    width: int,
    capacity: int,
    num_clouds: int,
) -> Found:
    """Lists of the rows of several levels, one below the other: fewer steps for an accelerator.

    Args:
      radii: meters, by level of the queries.
    """
    sq_radii = [jnp.full(len(x.points), r**2) for x, r in zip(queries, radii, strict=True)]
    return search(
        cells,
        jnp.concatenate([x.points for x in queries]),
        jnp.concatenate([x.clouds for x in queries]),
        jnp.concatenate(sq_radii),
        width=width,
        capacity=capacity,
        num_clouds=num_clouds,
    )


def _cells(level: _Level, size: float, num_clouds: int) -> CellList:
    return make_cell_list(level.points, level.clouds, size, num_clouds)
