"""Chooses who computes the geometry of a run, and the static sizes that the device needs for it."""

import dataclasses
import itertools
import logging

import jax
import numpy as np

from mprm_jax.batches.balls import Balls
from mprm_jax.batches.bare_buckets import RawBatch, RawBucketBuilder
from mprm_jax.batches.plan import epoch_plan
from mprm_jax.config import Config
from mprm_jax.ops.pyramid import count_pyramid_candidates
from mprm_jax.training.inputs import moved_points
from mprm_jax.types import Array

logger = logging.getLogger(__name__)

_SAMPLE = 24  # buckets looked at
_MARGIN = 1.2  # over the sampled maxima: other balls and epochs may be denser
_MULTIPLE = 32


def choose_builder(config: Config) -> Config:
    """The config with the builder of lists that suits what computes, if it is left open."""
    if config.pyramid.builder != "auto":
        return config
    builder = "host" if jax.default_backend() == "cpu" else "device"
    return dataclasses.replace(config, pyramid=dataclasses.replace(config.pyramid, builder=builder))


def calibrate_candidates(config: Config, balls: Balls) -> Config:
    """Fills `candidates` and `upsample_candidates` of `config.pyramid` if they are ().

    Args:
      config: calibrated but for these.
    """
    pyramid = config.pyramid
    if pyramid.builder != "device" or (pyramid.candidates and pyramid.upsample_candidates):
        return config
    builder = RawBucketBuilder(balls, config)
    plan = epoch_plan(
        balls.passes,
        balls.num_points,
        draws=config.data.epoch_subclouds,
        max_points=pyramid.bucket_points,
        max_clouds=pyramid.max_clouds,
        buckets_per_step=1,
        seed=config.seed,
        epoch=0,
    )
    count = jax.jit(_count)
    counts = [jax.device_get(count(builder(step, 0))) for step in itertools.islice(plan, _SAMPLE)]
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


def _count(bucket: RawBatch) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    recipe = bucket.recipe
    return count_pyramid_candidates(
        moved_points(bucket),
        bucket.clouds,
        recipe.spec,
        recipe.capacities.coarse_rows,
        len(bucket.real),
    )


def _capacities(counts: Array) -> tuple[int, ...]:
    return tuple(int(-(-count * _MARGIN // _MULTIPLE) * _MULTIPLE) for count in counts)
