"""Clouds on which the CRF runs: voxels finer than the network's, with colors and normals.

Borders between classes are finer than the voxels of a network, which the CRF need not share: it
costs little for each point, and scans have the points.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Real

from mprm_jax.geometry.normals import mean_axes, surface_normals
from mprm_jax.geometry.voxels import VoxelGrid, voxel_grid, voxel_means
from mprm_jax.store.scenes import SceneStore
from mprm_jax.types import Array

SUPPORT_SIZE = 0.02  # meters, voxels of the points that normals are fitted to
# Scans are noisy by about a centimeter; smaller patches of surface would show that.
SHARP = {"num_neighbors": 40, "radius": 0.1}


class FineCloud(NamedTuple):
    """Voxels of a scene, each inside of one of the store's."""

    coords: Real[Array, "F 3"]  # meters, means of points
    colors: Real[Array, "F 3"]  # in [0, 1]
    voxel: Int32[Array, " F"]  # the store's, that holds it
    num_points: Float64[Array, " F"]  # that it stands for, at least 1
    of_point: Int32[Array, " N"]  # fine voxel of each point of the scan


def fine_cloud(store: SceneStore, split: str, scene: str, voxel_size: float) -> FineCloud:
    """A scene in voxels of `voxel_size` meters, cut where voxels of the store end.

    A voxel of the store without a point of the scan, inside of a large triangle, stands for itself;
    all do if they are no coarser than `voxel_size`, or if that is 0.
    """
    coarse, voxel = store.voxel_cloud(split, scene), store.point_voxel(split, scene)
    num_voxels = len(coarse.coords)
    if not 0 < voxel_size < store.manifest.settings.voxel_size:
        rows = np.arange(num_voxels, dtype=np.int32)
        return FineCloud(coarse.coords, coarse.colors / 255.0, rows, np.ones(num_voxels), voxel)
    points = store.points(split, scene)
    empty = np.setdiff1d(np.arange(num_voxels, dtype=np.int32), voxel)
    coords = np.concatenate([points.coords, coarse.coords[empty]])
    colors = np.concatenate([points.colors, coarse.colors[empty]])
    voxel = np.concatenate([voxel, empty])
    keys = voxel_grid(coords, voxel_size).inverse.astype(np.int64) * num_voxels + voxel
    keys, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    grid = VoxelGrid(inverse.astype(np.int32), counts)
    return FineCloud(
        voxel_means(coords, grid),
        voxel_means(colors, grid) / 255.0,
        (keys % num_voxels).astype(np.int32),
        counts.astype(np.float64),
        grid.inverse[: len(points.coords)],
    )


def normals_of(store: SceneStore, split: str, scene: str, fine: FineCloud) -> Float64[Array, "F 3"]:
    """Normals of the fine voxels, of either sign: those that come with the scan, or else fitted.

    They are fitted to the surface through the points of the scan; where these are too few, through
    the fine voxels; and are zero where these are, too.
    """
    normals, given = np.zeros((len(fine.coords), 3)), store.normals(split, scene)
    if given is not None:
        normals = mean_axes(given, fine.of_point, len(fine.coords))
    if (bare := ~normals.any(axis=1)).any():
        coords = store.points(split, scene).coords
        supports = voxel_means(coords, voxel_grid(coords, SUPPORT_SIZE))
        normals[bare] = surface_normals(fine.coords[bare], supports, **SHARP)
    if (bare := ~normals.any(axis=1)).any():
        normals[bare] = surface_normals(fine.coords[bare], fine.coords)
    return normals


def over_voxels(
    values: Real[Array, "F C"], fine: FineCloud, num_voxels: int
) -> Float64[Array, "V C"]:
    """Means over the points of each voxel of the store."""
    columns = [np.bincount(fine.voxel, column * fine.num_points, num_voxels) for column in values.T]
    return np.stack(columns, axis=1) / np.bincount(fine.voxel, fine.num_points, num_voxels)[:, None]
