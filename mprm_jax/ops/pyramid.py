"""Builds the resolutions of a bucket and the lists that connect them, in traced code.

The same result as packing the clouds of `geometry.pyramid`, without the host: the same rows, and
the same lists but for the order of neighbors at equal distance.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float32, Int32

from mprm_jax.geometry.pyramid import Capacities, PyramidSpec
from mprm_jax.ops.cells import (
    CellList,
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
    levels = _Levels(points, clouds, spec, capacities, num_clouds)
    top = len(spec.conv_radii) - 1
    neighbors, pools, upsamples = [], [], []
    cut = [jnp.int32(0)] * (top + 1)
    for i in range(top + 1):
        cells = levels.cells(i)
        capacity = capacities.candidates[i]
        found = levels.search(cells, i, spec.conv_radii[i], spec.conv_neighbors[i], capacity)
        neighbors.append(found.neighbors)
        cut[i] += found.num_cut
        if i < top:
            found = levels.search(
                cells, i + 1, spec.pool_radii[i], spec.pool_neighbors[i], capacity
            )
            pools.append(found.neighbors)
            cut[i] += found.num_cut
            radius = cover_radius(spec.voxel_size * 2 ** (i + 1))
            cells, capacity = levels.upsample_cells(i + 1), capacities.upsample_candidates[i]
            found = levels.search(cells, i, radius, 1, capacity)
            upsamples.append(found.neighbors[:, 0])
            cut[i + 1] += found.num_cut
    pyramid = PointPyramid(
        points=tuple(levels.points),
        clouds=tuple(levels.clouds),
        neighbors=tuple(neighbors),
        pools=tuple(pools),
        upsamples=tuple(upsamples),
        real=jnp.zeros(num_clouds, bool).at[levels.clouds[-1]].set(True, mode="drop"),
    )
    too_wide = sum(jnp.asarray(x, jnp.int32) for x in levels.too_wide)
    return BuiltPyramid(pyramid, Overflow(jnp.stack(levels.cut_rows), jnp.stack(cut), too_wide))


def count_pyramid_candidates(
    points: Float32[Array, "T_0 3"],
    clouds: Int32[Array, " T_0"],
    spec: PyramidSpec,
    coarse_rows: tuple[int, ...],
    num_clouds: int,
) -> tuple[tuple[Int32[Array, ""], ...], tuple[Int32[Array, ""], ...]]:
    """The most candidates of any query, for `Capacities`: L for the lists, L-1 for upsampling."""
    capacities = Capacities(coarse_rows, (), ())
    levels = _Levels(points, clouds, spec, capacities, num_clouds)
    top = len(spec.conv_radii) - 1
    lists, upsamples = [], []
    for i in range(top + 1):
        cells = levels.cells(i)
        most = jnp.max(levels.count(cells, i))
        if i < top:
            most = jnp.maximum(most, jnp.max(levels.count(cells, i + 1)))
            upsamples.append(jnp.max(levels.count(levels.upsample_cells(i + 1), i)))
        lists.append(most)
    return tuple(lists), tuple(upsamples)


class _Levels:
    """The rows of every level, and searches among them."""

    def __init__(
        self,
        points: Float32[Array, "T_0 3"],
        clouds: Int32[Array, " T_0"],
        spec: PyramidSpec,
        capacities: Capacities,
        num_clouds: int,
    ):
        self.spec, self.num_clouds = spec, num_clouds
        self.points, self.clouds = [points], [clouds]
        self.cut_rows, self.too_wide = [jnp.int32(0)], []
        for level, rows in enumerate(capacities.coarse_rows, start=1):
            coarse = coarsen(
                self.points[-1],
                self.clouds[-1],
                spec.voxel_size * 2**level,
                num_rows=rows,
                num_clouds=num_clouds,
            )
            self.points.append(coarse.points)
            self.clouds.append(coarse.clouds)
            self.cut_rows.append(jnp.maximum(coarse.num_needed - rows, 0))
            self.too_wide.append(coarse.too_wide)

    def cells(self, level: int) -> CellList:
        """Cells as wide as the longest list into a level."""
        size = max(self.spec.conv_radii[level], *self.spec.pool_radii[level : level + 1], 0.0)
        return self._cell_list(level, size)

    def upsample_cells(self, level: int) -> CellList:
        """Cells that hold the nearest point of a level."""
        return self._cell_list(level, cover_radius(self.spec.voxel_size * 2**level))

    def _cell_list(self, level: int, size: float) -> CellList:
        cells = make_cell_list(self.points[level], self.clouds[level], size, self.num_clouds)
        self.too_wide.append(cells.grid.too_wide)
        return cells

    def search(self, cells: CellList, level: int, radius: float, width: int, capacity: int):
        """Lists of the rows of a level."""
        return search(
            cells,
            self.points[level],
            self.clouds[level],
            radius,
            width=width,
            capacity=capacity,
            num_clouds=self.num_clouds,
        )

    def count(self, cells: CellList, level: int) -> Int32[Array, " M"]:
        """Candidates of the rows of a level."""
        return count_candidates(cells, self.points[level], self.clouds[level], self.num_clouds)
