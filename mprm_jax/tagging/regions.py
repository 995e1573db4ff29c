"""Cuts a scene into pieces of one surface, one color and one label: what a click stands for."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from mprm_jax.types import Array

REACH = 0.14  # meters between neighbors: 8 cm voxels touch at faces, edges and corners
VOXELS_REACHED = 1.75  # of larger voxels, the same in edges of a voxel
MAX_ANGLE = np.deg2rad(20.0)  # between normals, free of their sign
MAX_COLOR = 0.10  # difference of a color channel, of 1
CELL = 1.0  # meters; a region lies in one cell of this grid


def regions(
    coords: Array, colors: Array, normals: Array, labels: Array, voxel_size: float = 0.08
) -> Array:
    """The region of each voxel, numbered from 0, as [V] int32.

    Voxels near each other are of one region if their normals and colors are alike, however far
    that goes; what is found is cut by a grid, then by the labels. Two voxels without a normal are
    alike; one with and one without are not.

    Args:
      coords: [V, 3] meters, at most one per voxel.
      colors: [V, 3] uint8; all alike where a scan has no colors.
      normals: [V, 3] unit normals of any sign, zero where there is none.
      labels: [V] integers, those that the voxels have now.
      voxel_size: meters.

    Source: measured on real rooms beside finer and coarser ones; the constants are of that run.
    """
    pairs = near_pairs(coords, voxel_size)
    pairs = pairs[_alike(colors, normals, pairs)]
    surfaces = connected(pairs, len(coords))
    cells = np.floor(np.asarray(coords, np.float64) / CELL).astype(np.int64)
    keys = np.concatenate([surfaces[:, None], cells, np.asarray(labels)[:, None]], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)


def near_pairs(coords: Array, voxel_size: float) -> Array:
    """Pairs of voxels that touch, [P, 2] int64, each once."""
    reach = max(REACH, VOXELS_REACHED * voxel_size)
    return cKDTree(coords).query_pairs(reach, output_type="ndarray")


def connected(pairs: Array, num_voxels: int) -> Array:
    """The piece of each voxel that pairs [P, 2] hold together, [V] int32."""
    if not num_voxels:
        return np.zeros(0, np.int32)
    edges = (np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1]))
    graph = coo_array(edges, shape=(num_voxels, num_voxels))
    return connected_components(graph, directed=False)[1]


def _alike(colors: Array, normals: Array, pairs: Array) -> Array:
    """Whether two voxels may be of one surface, [P] bool."""
    first, second = pairs.T
    cosines = np.abs(np.einsum("pd,pd->p", normals[first], normals[second]))
    has_normal = normals.any(axis=1)
    along = (cosines > np.cos(MAX_ANGLE)) | ~(has_normal[first] | has_normal[second])
    contrast = np.abs(colors[first].astype(np.int16) - colors[second].astype(np.int16))
    return along & (contrast.max(axis=1, initial=0) < MAX_COLOR * 255)
