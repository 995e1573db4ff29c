"""Carries what is known of voxels to the points or mesh vertices of the scan."""

from mprm_jax.errors import UserError
from mprm_jax.types import Array


def spread_to_points(values: Array, point_voxel: Array) -> Array:
    """Gives each point the value of its voxel.

    Args:
      values: [V, ...] labels, confidences or scores of the voxels.
      point_voxel: [N] integers into the voxels, as the scene store keeps it.

    Returns:
      [N, ...] in the order of the scan.

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
