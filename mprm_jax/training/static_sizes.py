"""Chooses the static sizes of a run from its settings, its data, and the memory of a device."""

import dataclasses
import functools
import logging
from collections.abc import Callable

import jax

from mprm_jax.batches.balls import Balls
from mprm_jax.batches.loader import Loader
from mprm_jax.batches.plan import epoch_order
from mprm_jax.batches.shapes import calibrate, calibrate_candidates, calibrate_lists
from mprm_jax.config import Config
from mprm_jax.errors import UserError
from mprm_jax.training.forecast import step_cost
from mprm_jax.training.hosts import exchange
from mprm_jax.training.optimizer import make_optimizer
from mprm_jax.training.parallel import replicated_shapes, spread_shapes
from mprm_jax.training.stages import Stage
from mprm_jax.training.steps import make_train_step, state_shapes

logger = logging.getLogger(__name__)

_MULTIPLE = 1024  # rows
_SMALLEST = 2048  # rows; below, fixed costs hide those of a row
_TRIES = 4
_SAFETY = 0.98
_NO_LIMIT = 2**31 - 1  # rows


def choose_sizes(
    config: Config, stage: Stage, balls: Balls, mesh: jax.sharding.Mesh, *, is_new: bool
) -> Config:
    """The calibrated config of a run; all hosts choose the same.

    Args:
      balls: to train on, whole if `pyramid.memory_gb` is not 0.
      is_new: a run that goes on keeps its bucket: another compiler or device might find that
        another one fits.

    Raises:
      ValueError: `pyramid.memory_gb` is too little for the largest ball.
    """
    config = choose_builder(config)
    if config.pyramid.memory_gb and is_new:
        config = calibrate_lists(config, balls)  # the same for every bucket
        order = epoch_order(balls.passes, config.data.epoch_subclouds, config.seed, epoch=0)
        config = fit_memory(
            config,
            largest=int(balls.num_points.max()),
            most=-(-int(balls.num_points[order].sum()) // config.pyramid.buckets_per_step),
            peak_bytes=functools.partial(_peak_bytes, stage, balls, mesh),
        )
    return _calibrated(config, balls)


def whole_balls(config: Config) -> Config:
    """The config to cut out training balls with: whole ones, if the bucket is to hold them."""
    return with_rows(config, _NO_LIMIT) if config.pyramid.memory_gb else config


def with_rows(config: Config, rows: int) -> Config:
    """The config with other `pyramid.bucket_points`."""
    pyramid = dataclasses.replace(config.pyramid, bucket_points=rows)
    return dataclasses.replace(config, pyramid=pyramid)


def fit_memory(
    config: Config, largest: int, most: int, peak_bytes: Callable[[Config], int]
) -> Config:
    """The config with the largest `pyramid.bucket_points` that fits `pyramid.memory_gb`.

    Memory grows with the rows of a bucket nearly in proportion: two small buckets tell how, and
    the one chosen is checked. Every look compiles a step.

    Args:
      config: as it is if its `memory_gb` is 0.
      largest: points of the largest ball, which a bucket should hold.
      most: points of an epoch in each bucket of one step; a larger one would hold padding.
      peak_bytes: of a training step of a config, on one device.

    Raises:
      ValueError: not even that ball fits.
    """
    budget = config.pyramid.memory_gb * 1e9
    if not budget:
        return config
    small = max(_round_up(largest), _SMALLEST)
    first, second = (peak_bytes(with_rows(config, rows)) for rows in (small, 2 * small))
    if first > budget:
        raise UserError(
            f"pyramid.memory_gb is {config.pyramid.memory_gb:g}, but the largest ball needs a "
            f"bucket of {small} points and {first / 1e9:.3g} GB; give more, lower "
            "model.first_features, or use smaller balls or larger voxels."
        )
    fits, bytes_of_fit = (2 * small, second) if second <= budget else (small, first)
    rows = _round_down(small + (budget - first) * small / max(second - first, 1))
    rows = min(rows, _round_up(most))
    for _ in range(_TRIES):
        if rows <= fits:
            break
        found = peak_bytes(with_rows(config, rows))
        if found <= budget:
            fits, bytes_of_fit = rows, found
            break
        share = (budget - bytes_of_fit) / (found - bytes_of_fit)
        rows = _round_down(fits + _SAFETY * share * (rows - fits))
    logger.info(
        "buckets of %d points fit %g GB: a step takes %.3g GB of a device",
        fits,
        config.pyramid.memory_gb,
        bytes_of_fit / 1e9,
    )
    return with_rows(config, fits)


def choose_builder(config: Config) -> Config:
    """The config with the builder of lists that suits what computes, if it is left open."""
    if config.pyramid.builder != "auto":
        return config
    builder = "host" if jax.default_backend() == "cpu" else "device"
    return dataclasses.replace(config, pyramid=dataclasses.replace(config.pyramid, builder=builder))


def _calibrated(config: Config, balls: Balls) -> Config:
    return calibrate_candidates(calibrate(config, balls), balls)


def _peak_bytes(stage: Stage, balls: Balls, mesh: jax.sharding.Mesh, config: Config) -> int:
    """Memory of a device in a training step; of the host where it is largest."""
    config = _calibrated(config, balls)
    optimizer = make_optimizer(config, steps_per_epoch=1)
    step = make_train_step(stage, optimizer, mesh, config)
    with Loader(balls, config) as loader:
        averages = config.optim.ema > 0
        state = state_shapes(stage, optimizer, loader.example(), averages=averages)
        buckets = spread_shapes(loader.empty(), mesh, config.pyramid.buckets_per_step)
    cost = step_cost(step, replicated_shapes(state, mesh), buckets)
    peak = max(map(int, exchange(str(cost.peak_bytes), "memory of a step")))
    logger.info(
        "a step with buckets of %d points needs %.3g GB of a device",
        config.pyramid.bucket_points,
        peak / 1e9,
    )
    return peak


def _round_up(rows: float) -> int:
    return int(-(-rows // _MULTIPLE) * _MULTIPLE)


def _round_down(rows: float) -> int:
    return int(rows // _MULTIPLE * _MULTIPLE)
