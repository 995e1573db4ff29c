"""Makes the network's input of a bucket inside the step, if the loader sent bare points."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mprm_jax.data.raw_buckets import AT_REST, RawBatch
from mprm_jax.ops.motion import move
from mprm_jax.ops.pyramid import Overflow, build_pyramid
from mprm_jax.types import Array, Batch

_META = ("recipe",)
_DATA = tuple(name for name in RawBatch.__dataclass_fields__ if name not in _META)
jax.tree_util.register_dataclass(RawBatch, data_fields=_DATA, meta_fields=_META)


class CompleteBatch(NamedTuple):
    """A bucket and what of it did not fit its static sizes."""

    batch: Batch
    overflow: Overflow | None  # None: the host built the lists and has counted what it cut


def complete(bucket: Batch | RawBatch) -> CompleteBatch:
    """Moves the clouds of one device's bucket and computes lists and features, where needed."""
    if isinstance(bucket, Batch):
        return CompleteBatch(bucket, None)
    recipe, num_clouds = bucket.recipe, len(bucket.real)
    points = moved_points(bucket)
    built = build_pyramid(points, bucket.clouds, recipe.spec, recipe.capacities, num_clouds)
    top = jnp.zeros(num_clouds, bool).at[built.pyramid.clouds[-1]].set(True, mode="drop")
    batch = Batch(
        pyramid=built.pyramid,
        features=_features(points, bucket),
        cloud_labels=bucket.cloud_labels,
        real=bucket.real & top,
        point_labels=bucket.point_labels,
    )
    return CompleteBatch(batch, built.overflow)


def moved_points(bucket: RawBatch) -> Array:
    """Level-0 points [T_0, 3] after the random motion of the bucket's epoch, if it has one."""
    recipe = bucket.recipe
    key = jax.random.fold_in(jax.random.key(recipe.seed), bucket.epoch[0])
    keys = jax.vmap(lambda ball: jax.random.fold_in(key, ball))(bucket.balls)
    moved = move(bucket.points, bucket.clouds, keys, recipe.augment)
    return jnp.where(bucket.epoch[0] == AT_REST, bucket.points, moved)


def overflow_metrics(overflow: Overflow | None, axis: str) -> dict[str, Array]:
    """What was cut on all devices, by level, for the log; empty for None.

    Args:
      axis: of the mesh, to sum over.
    """
    if overflow is None:
        return {}
    overflow = jax.lax.psum(overflow, axis)
    metrics: dict[str, Any] = {"cut/too_wide": overflow.too_wide}
    for level in range(len(overflow.rows)):
        metrics[f"cut/rows_level{level}"] = overflow.rows[level]
        metrics[f"cut/candidates_level{level}"] = overflow.candidates[level]
    return metrics


def _features(points: Array, bucket: RawBatch) -> Array:
    """1, red, green, blue, and the height above the lowest point of the cloud if asked for."""
    num_clouds = len(bucket.real)
    real = (bucket.clouds < num_clouds)[:, None]
    columns = [jnp.ones((len(points), 1)), bucket.colors.astype(jnp.float32) / 255]
    if bucket.recipe.height:
        floors = jax.ops.segment_min(points[:, 2], bucket.clouds, num_segments=num_clouds)
        floors = floors[jnp.minimum(bucket.clouds, num_clouds - 1)]
        columns.append((points[:, 2] - floors)[:, None])
    return jnp.where(real, jnp.concatenate(columns, axis=1), 0.0)
