"""Makes the network's input inside the step: lays buckets end to end, computes what is missing."""

import functools
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mprm_jax.batches.bare_buckets import AT_REST, BareBatch
from mprm_jax.errors import UserError
from mprm_jax.ops.motion import move
from mprm_jax.ops.pyramid import Overflow, build_bucket_pyramid
from mprm_jax.ops.rows import gather_rows
from mprm_jax.types import Array, Batch

logger = logging.getLogger(__name__)

_META = ("recipe",)
_DATA = tuple(name for name in BareBatch.__dataclass_fields__ if name not in _META)
jax.tree_util.register_dataclass(BareBatch, data_fields=_DATA, meta_fields=_META)
_MESSAGES = {
    "rows": "points of level %s exceed pyramid.coarse_points and are left out",
    "candidates": "lists into level %s leave out some points near a query, which exceed "
    "pyramid.candidates or pyramid.upsample_candidates",
}


class CompleteBatch(NamedTuple):
    """What a device computes with, and what of it did not fit the static sizes."""

    batch: Batch
    overflow: Overflow | None  # None: the host built the lists and has counted what it cut


def complete(buckets: Batch | BareBatch, num_buckets: int) -> CompleteBatch:
    """One bucket of all that a device holds; lists and features are computed where needed.

    Args:
      buckets: concatenated along the first axis.
      num_buckets: on this device. Each is built by itself, so that what does not fit one of them
        does not depend on how many lie here.
    """
    if isinstance(buckets, Batch):
        return CompleteBatch(lay_end_to_end(buckets, num_buckets), None)
    apart = jax.tree.map(lambda x: x.reshape(num_buckets, -1, *x.shape[1:]), buckets)
    built, overflow = jax.vmap(_build)(apart)
    joined = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), built)
    overflow = jax.tree.map(lambda x: jnp.sum(x, axis=0), overflow)
    return CompleteBatch(lay_end_to_end(joined, num_buckets), overflow)


def lay_end_to_end(batch: Batch, num_buckets: int) -> Batch:
    """One bucket of several that are concatenated along the first axis.

    Rows stay where they are; row and cloud numbers are counted through, and the shadow index and
    the cloud of padding are those of the whole.
    """
    if num_buckets == 1:
        return batch
    pyramid = batch.pyramid
    rows = [len(points) // num_buckets for points in pyramid.points]
    places = pyramid.num_clouds // num_buckets

    def through(index: Array, size: int) -> Array:
        bucket = jnp.arange(len(index)) // (len(index) // num_buckets)
        start = size * bucket.reshape(-1, *[1] * (index.ndim - 1)).astype(index.dtype)
        return jnp.where(index == size, size * num_buckets, index + start)

    return batch._replace(
        pyramid=pyramid._replace(
            clouds=tuple(through(clouds, places) for clouds in pyramid.clouds),
            neighbors=tuple(map(through, pyramid.neighbors, rows)),
            pools=tuple(map(through, pyramid.pools, rows)),
            upsamples=tuple(map(through, pyramid.upsamples, rows[1:])),
        )
    )


def _gridded_points(bucket: BareBatch) -> Array:
    """Level-0 points [T_0, 3] that coarser ones and neighbors are found of.

    They have moved as the bucket's epoch says, unless the grid is fixed.
    """
    if bucket.recipe.augment.grid == "fixed":
        return bucket.points
    return _moved(bucket, (bucket.points,), (bucket.clouds,))[0]


def _moved(
    bucket: BareBatch, levels: tuple[Array, ...], clouds: tuple[Array, ...]
) -> tuple[Array, ...]:
    """Points of levels 0, 1, ... after the random motion of the bucket's epoch, if it has one."""
    recipe = bucket.recipe
    key = jax.random.fold_in(jax.random.key(recipe.seed), bucket.epoch[0])
    keys = jax.vmap(lambda ball: jax.random.fold_in(key, ball))(bucket.balls)
    moved = move(levels, clouds, keys, recipe.augment)
    rests = bucket.epoch[0] == AT_REST
    return tuple(jnp.where(rests, *both) for both in zip(levels, moved, strict=True))


def _mixed_clouds(bucket: BareBatch) -> Array:
    """Cloud of each row [T_0]; balls laid over one another share the first one's. B on padding."""
    return gather_rows(bucket.mixed, bucket.clouds, fill=bucket.num_clouds)


def overflow_metrics(overflow: Overflow | None) -> dict[str, Array]:
    """What was cut on this device, by level, for the log; empty for None."""
    if overflow is None:
        return {}
    metrics: dict[str, Any] = {"cut/too_wide": overflow.too_wide}
    for level in range(len(overflow.rows)):
        metrics[f"cut/rows_level{level}"] = overflow.rows[level]
        metrics[f"cut/candidates_level{level}"] = overflow.candidates[level]
    return metrics


def check_overflow(values: Mapping[str, Any]) -> None:
    """Warns, once for each kind and level, of what `cut/...` counts.

    Raises:
      ValueError: the balls are too wide to tell their cells apart.
    """
    require_narrow(values)
    for name, count in values.items():
        kind, _, level = name.removeprefix("cut/").partition("_level")
        if name.startswith("cut/") and kind in _MESSAGES and count > 0:
            _warn_once(kind, level)


def require_narrow(values: Mapping[str, Any]) -> None:
    """Raises `ValueError` if the balls are too wide to tell their cells apart."""
    if np.any(values.get("cut/too_wide", 0)):
        raise UserError(
            "the balls span too many cells to compute neighbors on the device; set "
            "pyramid.builder=host, or use smaller balls or larger voxels."
        )


def _build(bucket: BareBatch) -> tuple[Batch, Overflow]:
    """Moves the clouds of one bucket and computes its lists and features."""
    recipe, num_clouds = bucket.recipe, bucket.num_clouds
    points, clouds = _gridded_points(bucket), _mixed_clouds(bucket)
    built = build_bucket_pyramid(points, clouds, recipe.spec, recipe.capacities, num_clouds)
    pyramid = built.pyramid
    if recipe.augment.grid == "fixed":
        pyramid = pyramid._replace(points=_moved(bucket, pyramid.points, pyramid.clouds))
    batch = Batch(
        pyramid=pyramid,
        features=_features(pyramid.points[0], bucket),
        cloud_labels=bucket.cloud_labels,
        point_labels=bucket.point_labels,
    )
    return batch, built.overflow


def _features(points: Array, bucket: BareBatch) -> Array:
    """1, red, green, blue, and the height above the lowest point of the ball if asked for."""
    num_clouds = bucket.num_clouds
    real = (bucket.clouds < num_clouds)[:, None]
    columns = [jnp.ones((len(points), 1)), bucket.colors.astype(jnp.float32) / 255]
    if bucket.recipe.height:
        floors = jax.ops.segment_min(points[:, 2], bucket.clouds, num_segments=num_clouds)
        floors = floors[jnp.minimum(bucket.clouds, num_clouds - 1)]
        columns.append((points[:, 2] - floors)[:, None])
    return jnp.where(real, jnp.concatenate(columns, axis=1), 0.0)


@functools.cache
def _warn_once(kind: str, level: str) -> None:
    message = _MESSAGES[kind] + "; if cut/%s_level%s grows, give larger ones in a new --workdir"
    logger.warning(message, level, kind, level)
