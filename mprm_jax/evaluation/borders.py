"""Which points lie near the border of a class, where labels are hardest to tell."""

import numpy as np
from jaxtyping import Bool, Integer, Real
from scipy.spatial import cKDTree

from mprm_jax.types import Array

BORDER_WIDTH = 0.13  # meters: voxels of 8 cm that touch another class, and their neighbors


def near_borders(
    coords: Real[Array, "N 3"], labels: Integer[Array, " N"], width: float = BORDER_WIDTH
) -> Bool[Array, " N"]:
    """Points closer than `width` to one of another class.

    Args:
      coords: meters.
      labels: true ones; those below 0 are no class: such points are near nothing, nor is anything
        near to them.
    """
    near = np.zeros(len(coords), bool)
    for label in np.unique(labels[labels >= 0]):
        others = np.flatnonzero((labels >= 0) & (labels != label))
        tree = cKDTree(coords[labels == label])
        distances, _ = tree.query(coords[others], distance_upper_bound=width)
        near[others[np.isfinite(distances)]] = True
    return near
