"""Chooses the static sizes of a run from its settings, its data, and the memory of a device."""

import functools
import logging

import jax

from mprm_jax.batches.balls import Balls
from mprm_jax.batches.loader import Loader
from mprm_jax.batches.plan import epoch_order
from mprm_jax.batches.shapes import calibrate, calibrate_lists
from mprm_jax.config import Config
from mprm_jax.training.budget import fit_memory
from mprm_jax.training.capacities import calibrate_candidates, choose_builder
from mprm_jax.training.forecast import step_cost
from mprm_jax.training.hosts import exchange
from mprm_jax.training.optimizer import make_optimizer
from mprm_jax.training.parallel import replicated_shapes, spread_shapes
from mprm_jax.training.stages import Stage
from mprm_jax.training.steps import make_train_step, state_shapes

logger = logging.getLogger(__name__)


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


def _calibrated(config: Config, balls: Balls) -> Config:
    return calibrate_candidates(calibrate(config, balls), balls)


def _peak_bytes(stage: Stage, balls: Balls, mesh: jax.sharding.Mesh, config: Config) -> int:
    """Memory of a device in a training step; of the host where it is largest."""
    config = _calibrated(config, balls)
    optimizer = make_optimizer(config, steps_per_epoch=1)
    step = make_train_step(stage, optimizer, mesh, config)
    with Loader(balls, config) as loader:
        state = state_shapes(stage, optimizer, loader.example())
        buckets = spread_shapes(loader.empty(), mesh, config.pyramid.buckets_per_step)
    cost = step_cost(step, replicated_shapes(state, mesh), buckets)
    peak = max(map(int, exchange(str(cost.peak_bytes), "memory of a step")))
    logger.info(
        "a step with buckets of %d points needs %.3g GB of a device",
        *(config.pyramid.bucket_points, peak / 1e9),
    )
    return peak
