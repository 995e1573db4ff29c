"""Packs whole clouds end to end into one bucket of fixed row counts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mprm_jax.geometry.pyramid import CloudPyramid
from mprm_jax.types import IGNORED, Array, Batch, PointPyramid


class BucketShape(NamedTuple):
    """The static sizes of a bucket."""

    rows: tuple[int, ...]  # T_0 ... T_{L-1}
    clouds: int  # B
    conv_neighbors: tuple[int, ...]
    pool_neighbors: tuple[int, ...]
    in_features: int
    num_classes: int


class Cloud(NamedTuple):
    """One ball, ready to be packed."""

    pyramid: CloudPyramid
    features: Array  # [N_0, C] float32
    tags: Array  # [num_classes] bool
    point_labels: Array  # [N_0] int32


class Packed(NamedTuple):
    """Buckets one after the other, and what of the clouds did not fit."""

    batch: Batch
    cut_rows: Array  # [num_buckets, L] int64, rows per level beyond each bucket


def pack(clouds: Sequence[Cloud], shape: BucketShape) -> Packed:
    """Stacks clouds in order; what exceeds a level's rows is cut and counted.

    Lists that pointed to a cut row get the shadow index instead. A cloud that lost all its coarsest
    rows is not real: it has no point to judge it by.

    Raises:
      ValueError: more clouds than the bucket has places.
    """
    if len(clouds) > shape.clouds:
        raise ValueError(f"{len(clouds)} clouds do not fit {shape.clouds} places of a bucket.")
    levels = range(len(shape.rows))
    sizes = np.array([[len(cloud.pyramid.points[i]) for i in levels] for cloud in clouds], int)
    sizes = sizes.reshape(len(clouds), len(shape.rows))
    offsets = np.cumsum(sizes, axis=0) - sizes
    kept = np.clip(np.array(shape.rows)[None] - offsets, 0, sizes)
    batch = _empty(shape)
    for index, cloud in enumerate(clouds):
        _write(batch, index, cloud, offsets[index], kept[index])
    return Packed(batch, np.sum(sizes - kept, axis=0)[None])


def _empty(shape: BucketShape) -> Batch:
    """A bucket of padding."""
    rows, finer = shape.rows, list(zip(shape.rows[:-1], shape.rows[1:], strict=True))
    return Batch(
        pyramid=PointPyramid(
            points=tuple(np.zeros((n, 3), np.float32) for n in rows),
            clouds=tuple(np.full(n, shape.clouds, np.int32) for n in rows),
            neighbors=tuple(
                np.full((n, width), n, np.int32)
                for n, width in zip(rows, shape.conv_neighbors, strict=True)
            ),
            pools=tuple(
                np.full((coarse, width), fine, np.int32)
                for (fine, coarse), width in zip(finer, shape.pool_neighbors, strict=True)
            ),
            upsamples=tuple(np.full(fine, coarse, np.int32) for fine, coarse in finer),
            real=np.zeros(shape.clouds, bool),
        ),
        features=np.zeros((rows[0], shape.in_features), np.float32),
        cloud_labels=np.zeros((shape.clouds, shape.num_classes), bool),
        point_labels=np.full(rows[0], IGNORED, np.int32),
    )


def _write(batch: Batch, index: int, cloud: Cloud, offsets: Array, kept: Array) -> None:
    """Writes one cloud into its rows of every level."""
    into, source = batch.pyramid, cloud.pyramid
    top = len(offsets) - 1
    for i in range(top + 1):
        rows = slice(offsets[i], offsets[i] + kept[i])
        into.points[i][rows] = source.points[i][: kept[i]]
        into.clouds[i][rows] = index
        into.neighbors[i][rows] = _shift(
            source.neighbors[i][: kept[i]], offsets[i], kept[i], len(into.points[i])
        )
        if i > 0:
            into.pools[i - 1][rows] = _shift(
                source.pools[i - 1][: kept[i]],
                offsets[i - 1],
                kept[i - 1],
                len(into.points[i - 1]),
            )
        if i < top:
            into.upsamples[i][rows] = _shift(
                source.upsamples[i][: kept[i]],
                offsets[i + 1],
                kept[i + 1],
                len(into.points[i + 1]),
            )
    rows = slice(offsets[0], offsets[0] + kept[0])
    batch.features[rows] = cloud.features[: kept[0]]
    batch.point_labels[rows] = cloud.point_labels[: kept[0]]
    batch.cloud_labels[index] = cloud.tags
    into.real[index] = kept[top] > 0


def _shift(index: Array, offset: int, kept: int, shadow: int) -> Array:
    """Moves a cloud's own row numbers to the bucket's; shadow and cut rows become `shadow`."""
    return np.where(index < kept, index + np.int32(offset), np.int32(shadow))
