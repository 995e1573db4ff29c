"""Directions of the surfaces that points lie on, by the principal axes of their neighbors."""

import itertools

import numpy as np
from jaxtyping import Bool, Float64, Integer, Real
from scipy.spatial import cKDTree

from mprm_jax.types import Array

CHUNK_ROWS = 100_000  # bounds temporary memory to some tens of megabytes
FLATNESS = 1e-6  # of the squared second axis to the squared first; below, points are on a line


def surface_normals(
    queries: Real[Array, "M 3"],
    supports: Real[Array, "N 3"],
    num_neighbors: int = 20,
    radius: float = 0.3,
) -> Float64[Array, "M 3"]:
    """Unit normals of the surface at each query; their sign means nothing.

    The normal is the smallest principal axis of the nearest `num_neighbors` supports closer than
    `radius`, the query itself among them where it is a support.

    Args:
      queries: meters.
      supports: meters, same frame as `queries`.
      radius: meters.

    Returns:
      Zero where fewer than three neighbors are found, or only such on a line.
    """
    normals = np.zeros((len(queries), 3))
    if len(supports) == 0:
        return normals
    supports = np.asarray(supports, np.float64)
    tree = cKDTree(supports)
    ranks = range(1, num_neighbors + 1)
    for start in range(0, len(queries), CHUNK_ROWS):
        part = np.asarray(queries[start : start + CHUNK_ROWS], np.float64)
        distances, rows = tree.query(part, k=ranks, distance_upper_bound=radius)
        found = np.isfinite(distances)
        offsets = supports[np.where(found, rows, 0)] - part[:, None]
        normals[start : start + CHUNK_ROWS] = _smallest_axes(offsets, found)
    return normals


def mean_axes(
    normals: Real[Array, "N 3"], group: Integer[Array, " N"], num_groups: int
) -> Float64[Array, "G 3"]:
    """The axis that the normals of each group lie along best, whatever their signs.

    Args:
      normals: unit length, or zero where there is none.
      group: of each, in [0, num_groups).

    Returns:
      Unit length; zero for a group without normals.
    """
    n = np.asarray(normals, np.float64)
    outer = np.zeros((num_groups, 3, 3))
    for row, column in itertools.product(range(3), repeat=2):
        outer[:, row, column] = np.bincount(group, n[:, row] * n[:, column], num_groups)
    _, axes = np.linalg.eigh(outer)  # ascending
    return np.where(outer.any(axis=(1, 2))[:, None], axes[:, :, 2], 0.0)


def sign_free(normals: Real[Array, "N 3"]) -> Float64[Array, "N 6"]:
    """Features of normals that are the same for n and -n.

    They are n_x², n_y², n_z², √2 n_x n_y, √2 n_x n_z, √2 n_y n_z: the squared distance of those of
    two unit normals with angle t between them is 2 sin² t. A point without normal has zeros, at a
    distance of 1 from all that have one.

    Args:
      normals: unit length, or zero where there is none.
    """
    n = np.asarray(normals, np.float64)
    mixed = np.sqrt(2) * n[:, [0, 0, 1]] * n[:, [1, 2, 2]]
    return np.concatenate([np.square(n), mixed], axis=1)


def _smallest_axes(
    offsets: Float64[Array, "M K 3"], found: Bool[Array, "M K"]
) -> Float64[Array, "M 3"]:
    """Smallest principal axes of the found offsets; zero where they span no plane."""
    weights = found / np.maximum(found.sum(axis=1, keepdims=True), 1)
    mean = np.einsum("mk,mkd->md", weights, offsets)
    centered = offsets - mean[:, None]
    covariance = np.einsum("mk,mkd,mke->mde", weights, centered, centered, optimize=True)
    spreads, axes = np.linalg.eigh(covariance)  # ascending
    is_plane = spreads[:, 1] > FLATNESS * spreads[:, 2]
    return np.where(is_plane[:, None], axes[:, :, 0], 0.0)
