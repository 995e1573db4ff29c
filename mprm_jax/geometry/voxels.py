"""Reduces a cloud to one point per occupied voxel: barycenters, mean colors, majority labels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64, Integer, Real, Shaped

from mprm_jax.errors import UserError
from mprm_jax.types import Array


class VoxelGrid(NamedTuple):
    """Which voxel each point fell into; voxels are in lexicographic order of their cells."""

    inverse: Int32[Array, " N"]  # voxel of each point
    counts: Int64[Array, " V"]  # points of each voxel, at least 1


def voxel_grid(coords: Real[Array, "N 3"], voxel_size: float) -> VoxelGrid:
    """Assigns points to the cells of a grid aligned with the origin.

    Args:
      coords: meters, finite.
      voxel_size: meters, edge of a cell.

    Raises:
      ValueError: the cloud spans more than 2^21 cells on an axis.

    Source: mprm `cpp_wrappers/cpp_subsampling/grid_subsampling.cpp` (origin at multiples of the
    cell).
    """
    if len(coords) == 0:
        return VoxelGrid(np.zeros(0, np.int32), np.zeros(0, np.int64))
    keys = np.zeros(len(coords), np.int64)
    # Column by column: NumPy reduces [N, 3] over its rows many times slower.
    for column in np.asarray(coords, np.float64).T:
        cells = np.floor(column / voxel_size)
        cells -= cells.min()
        span = cells.max() + 1
        if span > 1 << 21:
            raise UserError(
                f"The cloud spans {span:g} voxels of {voxel_size} m on one axis; "
                "check its unit or remove stray points."
            )
        keys = keys * np.int64(span) + cells.astype(np.int64)
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return VoxelGrid(inverse.astype(np.int32), counts)


def voxel_means(values: Real[Array, "N D"], grid: VoxelGrid) -> Float64[Array, "V D"]:
    """Means of point values over each voxel."""
    columns = [np.bincount(grid.inverse, column, len(grid.counts)) for column in values.T]
    return np.stack(columns, axis=1) / grid.counts[:, None]


def voxel_majority(
    labels: Integer[Array, " N"], grid: VoxelGrid, num_classes: int
) -> Int32[Array, " V"]:
    """Most frequent label of each voxel; the smallest of equals.

    Unannotated points (-1) vote like a class. The released code takes the largest id instead:
    mprm grid_subsampling.cpp, corrected later in KPConv (issue 58).

    Args:
      labels: in [-1, num_classes).
    """
    num_bins = num_classes + 1
    votes = np.bincount(
        grid.inverse.astype(np.int64) * num_bins + labels + 1, minlength=len(grid.counts) * num_bins
    )
    return (votes.reshape(-1, num_bins).argmax(axis=1) - 1).astype(np.int32)


def spread_to_points(
    values: Shaped[Array, "V ..."], point_voxel: Integer[Array, " N"]
) -> Shaped[Array, "N ..."]:
    """Gives each point the value of its voxel.

    Args:
      values: labels, confidences or scores of the voxels.
      point_voxel: into the voxels, as the scene store keeps it.

    Returns:
      In the order of the scan.

    Raises:
      ValueError: the map names voxels that are not there.
    """
    if len(point_voxel) and not 0 <= point_voxel.min() <= point_voxel.max() < len(values):
        raise UserError(
            f"points lie in voxels {point_voxel.min()} to {point_voxel.max()}, but values are "
            f"given for {len(values)} voxels; they are of another scene or voxel size, make them "
            "again from this store."
        )
    return values[point_voxel]
