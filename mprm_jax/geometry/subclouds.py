"""Places ball seeds in a scene and finds the points of each ball (paper 3, eq. 1)."""

import numpy as np
from scipy.spatial import cKDTree

from mprm_jax.types import Array


def grid_seeds(coords: Array, radius: float, placement: str) -> Array:
    """Ball centers on a regular grid over the bounding box of a cloud, floor(l / r) + 1 per axis.

    "ends" puts the outer seeds on the faces of the box, as the released labels do; an axis shorter
    than the radius has one seed, at its minimum. "centres" puts as many seeds at the centers of
    equal cells, whose balls cover the whole box.

    Args:
      coords: [N, 3] meters, N >= 1.
      radius: meters, r.

    Returns:
      [S, 3] float64, x changes slowest; empty balls are not removed here.

    Source: paper section 3; mprm `datasets/Scannet_subcloud.py`.
    """
    low, high = coords.min(axis=0).astype(np.float64), coords.max(axis=0).astype(np.float64)
    counts = np.floor((high - low) / radius).astype(int) + 1
    if placement == "ends":
        axes = [np.linspace(low[a], high[a], counts[a]) for a in range(3)]
    elif placement == "centres":
        axes = [
            low[a] + (np.arange(counts[a]) + 0.5) * (high[a] - low[a]) / counts[a] for a in range(3)
        ]
    else:
        raise ValueError(f"data.seeds is {placement!r}; choose ends or centres.")
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def ball_rows(tree: cKDTree, center: Array, radius: float) -> Array:
    """Ascending rows of the tree's points with distance < `radius` to `center`, as int32."""
    if np.isinf(radius):
        return np.arange(tree.n, dtype=np.int32)
    rows = tree.query_ball_point(center, np.nextafter(np.float64(radius), 0), return_sorted=True)
    return np.asarray(rows, np.int32)
