"""Chooses the static shapes of a run from its balls, so that XLA compiles a step once."""

import dataclasses
import logging

import numpy as np

from mprm_jax.batches.balls import Balls
from mprm_jax.batches.packing import BucketShape
from mprm_jax.batches.plan import epoch_order, fill_buckets, mixed
from mprm_jax.config import Config
from mprm_jax.geometry.pyramid import PyramidSpec, coarsen, most_candidates, neighbor_counts
from mprm_jax.types import Array

logger = logging.getLogger(__name__)

_SAMPLE_SIZE = 192  # balls looked at
_MARGIN = 1.04  # over the sampled maxima: other balls and epochs may be fuller
_ROW_MULTIPLE = 128  # TPU lanes
_CANDIDATE_MARGIN = 1.2  # over the sampled maxima, which vary more
_CANDIDATE_MULTIPLE = 32


def pyramid_spec(config: Config) -> PyramidSpec:
    """Radii in meters and list widths of a calibrated config; deformable blocks search further."""
    sizes = [config.data.voxel_size * 2**level for level in range(config.pyramid.num_levels)]
    radii = tuple(
        size * (config.pyramid.deform_radius if deforms else config.pyramid.conv_radius)
        for size, deforms in zip(sizes, deformable_levels(config), strict=True)
    )
    return PyramidSpec(
        voxel_size=config.data.voxel_size,
        conv_radii=radii,
        pool_radii=radii[:-1],
        conv_neighbors=config.pyramid.conv_neighbors,
        pool_neighbors=config.pyramid.pool_neighbors,
    )


def deformable_levels(config: Config) -> tuple[bool, ...]:
    """Whether the blocks of each level have deformable kernels."""
    first = config.model.first_deformable if config.model.deformable else config.pyramid.num_levels
    return tuple(level >= first for level in range(config.pyramid.num_levels))


def num_features(config: Config) -> int:
    """Input channels: 1, red, green, blue, and the height if asked for."""
    return 5 if config.model.height else 4


def bucket_shape(config: Config, num_classes: int) -> BucketShape:
    """The bucket of a calibrated config."""
    return BucketShape(
        rows=(config.pyramid.bucket_points, *config.pyramid.coarse_points),
        clouds=config.pyramid.max_clouds,
        conv_neighbors=config.pyramid.conv_neighbors,
        pool_neighbors=config.pyramid.pool_neighbors,
        in_features=num_features(config),
        num_classes=num_classes,
    )


def calibrate(config: Config, balls: Balls) -> Config:
    """Fills the settings of `config.pyramid` that are 0 or (); what is given stays.

    List widths are the `percentile` of the list lengths in a sample of balls. Coarser row
    counts hold the fullest of many sampled buckets. What is cut is logged, here for the lists and
    by the loader for rows.
    """
    config = calibrate_lists(config, balls)
    if config.pyramid.max_clouds and config.pyramid.coarse_points:
        return config
    rng = np.random.default_rng((config.seed, 3))
    # Not mixed: two balls laid over one another fill no more coarse voxels than each by itself.
    clouds, pyramid = _sample(balls, rng, mix=0.0), config.pyramid
    sizes = np.array(
        [[len(x) for x in coarsen(c, config.data.voxel_size, pyramid.num_levels)] for c in clouds]
    )
    max_clouds = pyramid.max_clouds or _max_clouds(config, balls)
    filled = dataclasses.replace(
        pyramid,
        max_clouds=max_clouds,
        coarse_points=pyramid.coarse_points
        or _coarse_rows(sizes, pyramid.bucket_points, max_clouds, rng),
    )
    return dataclasses.replace(config, pyramid=filled)


def calibrate_lists(config: Config, balls: Balls) -> Config:
    """Fills the widths of neighbor lists, the part of `calibrate` that no bucket changes."""
    pyramid = config.pyramid
    if pyramid.conv_neighbors and pyramid.pool_neighbors:
        return config
    rng = np.random.default_rng((config.seed, 3))
    convs, pools = _list_widths(_sample(balls, rng, config.augment.mix), config)
    pyramid = dataclasses.replace(
        pyramid,
        conv_neighbors=pyramid.conv_neighbors or convs,
        pool_neighbors=pyramid.pool_neighbors or pools,
    )
    return dataclasses.replace(config, pyramid=pyramid)


def calibrate_candidates(config: Config, balls: Balls) -> Config:
    """Fills `candidates` and `upsample_candidates` of `config.pyramid` if they are () and needed.

    Args:
      config: calibrated but for these.
    """
    pyramid = config.pyramid
    if pyramid.builder != "device" or (pyramid.candidates and pyramid.upsample_candidates):
        return config
    rng, spec = np.random.default_rng((config.seed, 3)), pyramid_spec(config)
    counts = [most_candidates(x, spec) for x in _sample(balls, rng, config.augment.mix)]
    lists, upsamples = (np.max(kind, axis=0) for kind in zip(*counts, strict=True))
    pyramid = dataclasses.replace(
        pyramid,
        candidates=pyramid.candidates or _capacities(lists),
        upsample_candidates=pyramid.upsample_candidates or _capacities(upsamples),
    )
    logger.info(
        "geometry on the device: looks at up to %s points by level, and %s for upsampling",
        pyramid.candidates,
        pyramid.upsample_candidates,
    )
    return dataclasses.replace(config, pyramid=pyramid)


def _capacities(counts: Array) -> tuple[int, ...]:
    return tuple(_round_up(count * _CANDIDATE_MARGIN, _CANDIDATE_MULTIPLE) for count in counts)


def _sample(balls: Balls, rng: np.random.Generator, mix: float) -> list[Array]:
    """Points of some balls, moved as in training where their grid moves, some of them mixed.

    Walls along the axes fill fewer coarse voxels than turned ones.
    """
    chosen = rng.permutation(len(balls))[:_SAMPLE_SIZE]
    points = {index: balls.read(index).points for index in chosen}
    if balls.config.augment.grid == "moved":
        points = {index: balls.moved((x,), index, epoch=0)[0] for index, x in points.items()}
    clouds = mixed(chosen, mix, balls.config.seed, epoch=0)
    return [np.concatenate([points[index] for index in cloud]) for cloud in clouds]


def _list_widths(clouds: list[Array], config: Config) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The stated percentile of list lengths, per level and per stride."""
    spec = pyramid_spec(config)
    counts = [neighbor_counts(points, spec) for points in clouds]
    lengths = [
        [np.concatenate(arrays) for arrays in zip(*(pair[kind] for pair in counts), strict=True)]
        for kind in (0, 1)
    ]
    widths = [
        tuple(int(np.ceil(np.percentile(x, config.pyramid.percentile))) for x in kind)
        for kind in lengths
    ]
    cut = [
        100 * np.sum(np.maximum(x - width, 0)) / np.sum(x)
        for x, width in zip(lengths[0] + lengths[1], widths[0] + widths[1], strict=True)
    ]
    logger.info(
        "neighbor lists at the %g-th percentile: %s of the neighbors are cut, farthest first",
        config.pyramid.percentile,
        ", ".join(f"{share:.1f} %" for share in cut),
    )
    return widths[0], widths[1]


def _max_clouds(config: Config, balls: Balls) -> int:
    """The most clouds that meet in a bucket of the first epochs, and one to spare."""
    most = 1
    for epoch in range(3):
        order = epoch_order(balls.passes, config.data.epoch_subclouds, config.seed, epoch)
        buckets = fill_buckets(order, balls.num_points, config.pyramid.bucket_points, len(order))
        most = max(most, int(np.percentile([len(bucket) for bucket in buckets], 99)))
    return most + 1


def _coarse_rows(
    sizes: Array, bucket_points: int, max_clouds: int, rng: np.random.Generator
) -> tuple[int, ...]:
    """Rows of the coarser levels in the fullest of many buckets drawn from sampled clouds."""
    draws = rng.integers(len(sizes), size=20 * max(len(sizes), 50))
    fullest = np.zeros(sizes.shape[1])
    for bucket in fill_buckets(draws, sizes[:, 0], bucket_points, max_clouds):
        fullest = np.maximum(fullest, sizes[bucket].sum(axis=0))
    return tuple(_round_up(rows * _MARGIN, _ROW_MULTIPLE) for rows in fullest[1:])


def _round_up(value: float, multiple: int) -> int:
    return int(-(-value // multiple) * multiple)
