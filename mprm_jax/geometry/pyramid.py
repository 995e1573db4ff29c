"""Builds the resolutions of one cloud on the host, with the lists that connect them."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from mprm_jax.geometry.neighbors import count_neighbors, make_tree, nearest, radius_neighbors
from mprm_jax.geometry.voxels import voxel_grid, voxel_means
from mprm_jax.types import Array


class PyramidSpec(NamedTuple):
    """How a cloud is coarsened and who is whose neighbor; meters. Level l has cells of size
    `voxel_size` * 2^l."""

    voxel_size: float
    conv_radii: tuple[float, ...]  # per level
    pool_radii: tuple[float, ...]  # per strided block, level l+1 looking at level l
    conv_neighbors: tuple[int, ...]  # list widths
    pool_neighbors: tuple[int, ...]

    def list_radius(self, level: int) -> float:
        """The longest list into a level, in meters."""
        return max(self.conv_radii[level], *self.pool_radii[level : level + 1], 0.0)

    def nearest_radius(self, level: int) -> float:
        """Every point of the finer level has its nearest of this one closer than this; meters."""
        # The barycenter of its own voxel is.
        return 1.001 * math.sqrt(3) * self.voxel_size * 2**level


class Capacities(NamedTuple):
    """Static sizes of a pyramid that is built in traced code, besides its list widths."""

    coarse_rows: tuple[int, ...]  # T_1 ... T_{L-1}
    candidates: tuple[int, ...]  # L, points near a query in the cells of each level
    upsample_candidates: tuple[int, ...]  # L-1, the same for the search of one nearest point


class CloudPyramid(NamedTuple):
    """One cloud at every resolution, without padding; shadow index = rows of the level."""

    points: tuple[Array, ...]  # L x [N_l, 3] float32, meters
    neighbors: tuple[Array, ...]  # L x [N_l, H_l] int32 into level l
    pools: tuple[Array, ...]  # (L-1) x [N_{l+1}, P_l] int32 into level l
    upsamples: tuple[Array, ...]  # (L-1) x [N_l] int32 into level l+1


def build_pyramid(points: Float32[Array, "N_0 3"], spec: PyramidSpec) -> CloudPyramid:
    """Coarsens a cloud level by level and finds all lists.

    Args:
      points: meters, N_0 >= 1; already one point per voxel.

    Source: mprm `datasets/common.py`, tf_segmentation_attention_inputs.
    """
    levels = coarsen(points, spec.voxel_size, len(spec.conv_radii))
    trees = [make_tree(level) for level in levels]
    top = len(levels) - 1
    return CloudPyramid(
        points=tuple(levels),
        neighbors=tuple(
            radius_neighbors(levels[i], trees[i], spec.conv_radii[i], spec.conv_neighbors[i])
            for i in range(top + 1)
        ),
        pools=tuple(
            radius_neighbors(levels[i + 1], trees[i], spec.pool_radii[i], spec.pool_neighbors[i])
            for i in range(top)
        ),
        upsamples=tuple(nearest(levels[i], trees[i + 1]) for i in range(top)),
    )


def coarsen(
    points: Float32[Array, "N_0 3"], voxel_size: float, num_levels: int
) -> list[Float32[Array, "_ 3"]]:
    """The cloud and its `num_levels` - 1 coarser versions, barycenters of doubled cells."""
    levels = [np.ascontiguousarray(points, np.float32)]
    for level in range(1, num_levels):
        grid = voxel_grid(levels[-1], voxel_size * 2**level)
        levels.append(voxel_means(levels[-1], grid).astype(np.float32))
    return levels


def neighbor_counts(
    points: Float32[Array, "N_0 3"], spec: PyramidSpec
) -> tuple[tuple[Int64[Array, " _"], ...], tuple[Int64[Array, " _"], ...]]:
    """Unbounded list lengths of a cloud: per level for convolutions, per stride for pooling."""
    levels = coarsen(points, spec.voxel_size, len(spec.conv_radii))
    trees = [make_tree(level) for level in levels]
    convs = tuple(
        count_neighbors(level, tree, radius)
        for level, tree, radius in zip(levels, trees, spec.conv_radii, strict=True)
    )
    pools = tuple(
        count_neighbors(level, tree, radius)
        for level, tree, radius in zip(levels[1:], trees[:-1], spec.pool_radii, strict=True)
    )
    return convs, pools


def most_candidates(
    points: Float32[Array, "N_0 3"], spec: PyramidSpec
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What `Capacities` must hold to build the pyramid of a cloud in traced code.

    Returns:
      The most points around a query: for the lists into each level, and for each upsampling.
    """
    levels = coarsen(points, spec.voxel_size, len(spec.conv_radii))
    # Its own points look at a level, and those of the next.
    lists = tuple(
        max(_most_around(level, queries, spec.list_radius(i)) for queries in levels[i : i + 2])
        for i, level in enumerate(levels)
    )
    upsamples = tuple(
        _most_around(level, levels[i], spec.nearest_radius(i + 1))
        for i, level in enumerate(levels[1:])
    )
    return lists, upsamples


def _most_around(
    supports: Float32[Array, "N 3"], queries: Float32[Array, "M 3"], size: float
) -> int:
    """The most supports in the 3 x 3 x 3 cells around a query; see `ops.cells`.

    Args:
      size: meters, edge of a cell.
    """
    # In float32, as traced code does, so that no point falls into another cell there.
    cells = [np.floor(points / np.float32(size)).astype(np.int64) for points in (supports, queries)]
    low = np.minimum(*(x.min(axis=0) for x in cells)) - 1
    spans = np.maximum(*(x.max(axis=0) for x in cells)) - low + 2
    across, along = spans[1] * spans[2], spans[2]
    keys, looking = ((x - low) @ np.array([across, along, 1]) for x in cells)
    keys = np.sort(keys)
    # Queries of one cell look at the same.
    columns = [x * across + y * along for x in (-1, 0, 1) for y in (-1, 0, 1)]
    wanted = np.unique(looking)[:, None] + np.array(columns)
    ends, starts = (np.searchsorted(keys, wanted + step) for step in (2, -1))
    return int(np.sum(ends - starts, axis=1).max())
