"""The real programs of training, mining and prediction, lowered for any devices without data.

Their shapes are those of rooms of boxes, made in no time and always the same.
"""

import dataclasses
import time
from typing import Any, NamedTuple

import jax
from step_clouds import BenchmarkBalls, read_clouds, training_balls

from mprm_jax.batches.loader import Loader
from mprm_jax.batches.shapes import calibrate, calibrate_candidates
from mprm_jax.config import Config
from mprm_jax.labeling.mining import make_mining
from mprm_jax.overrides import override
from mprm_jax.presets import PRESETS
from mprm_jax.training.optimizer import make_optimizer
from mprm_jax.training.parallel import make_mesh, replicated_shapes, spread_shapes
from mprm_jax.training.stages import make_stage
from mprm_jax.training.static_sizes import choose_builder
from mprm_jax.training.steps import make_predict_step, make_train_step, state_shapes

PROGRAMS = ("train cls", "mine", "train seg", "predict seg")
_SCENES = 2


class Lowered(NamedTuple):
    """A program that waits to be compiled."""

    config: Config
    lowered: Any  # jax.stages.Lowered
    seconds: float  # of tracing


def lower(
    program: str, preset: str, settings: tuple[str, ...], devices: list[jax.Device]
) -> Lowered:
    """The program with one bucket on each device; devices may be of a machine that is not there.

    Args:
      settings: section.field=value, as of --set.
    """
    stage_name = "seg" if program.endswith("seg") else "cls"
    one_each = f"pyramid.buckets_per_step={len(devices)}"
    config = override(PRESETS[preset](stage_name), (one_each, *settings))
    config, balls = _sized(choose_builder(config))
    start = time.perf_counter()
    stage = make_stage(stage_name, config, balls.num_classes)
    mesh, optimizer = make_mesh(devices), make_optimizer(config, steps_per_epoch=100)
    if program.startswith("train"):
        step = make_train_step(stage, optimizer, mesh, config)
    else:
        asked = make_mining(stage.model, config.mining) if program == "mine" else stage.scores
        step = make_predict_step(asked, mesh)
    with Loader(balls, config) as loader:
        state = state_shapes(stage, optimizer, loader.example())
        buckets = spread_shapes(loader.empty(), mesh, len(devices))
    lowered = step.lower(replicated_shapes(state, mesh), buckets)
    return Lowered(config, lowered, time.perf_counter() - start)


def _sized(config: Config) -> tuple[Config, BenchmarkBalls]:
    """The config with all static sizes, which do not depend on the number of devices."""
    buckets = config.pyramid.buckets_per_step
    alone = _with_buckets(config, 1)
    clouds = read_clouds(None, "boxes", _SCENES, config.data.voxel_size)
    balls = training_balls(clouds, alone)
    alone = calibrate_candidates(calibrate(alone, balls), balls)
    return _with_buckets(alone, buckets), balls


def _with_buckets(config: Config, count: int) -> Config:
    pyramid = dataclasses.replace(config.pyramid, buckets_per_step=count)
    return dataclasses.replace(config, pyramid=pyramid)
