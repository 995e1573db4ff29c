"""A training step of the classifier as a case to measure: settings, buckets, program."""

import argparse
import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import jax
import optax
from step_clouds import BenchmarkBalls, read_clouds, sized_balls, training_balls

from mprm_jax.batches.bare_buckets import BareBatch
from mprm_jax.batches.loader import Loader, make_builder
from mprm_jax.batches.plan import epoch_plan
from mprm_jax.batches.shapes import calibrate, calibrate_candidates
from mprm_jax.config import Config
from mprm_jax.overrides import override
from mprm_jax.presets import PRESETS
from mprm_jax.training.optimizer import make_optimizer
from mprm_jax.training.parallel import make_mesh, replicate, shard_batch
from mprm_jax.training.stages import cls_stage
from mprm_jax.training.static_sizes import choose_builder
from mprm_jax.training.steps import TrainState, init_state, make_train_step
from mprm_jax.types import Batch


class CaseSpec(NamedTuple):
    """What tells cases apart; travels to worker processes as JSON."""

    preset: str
    settings: tuple[str, ...]  # section.field=value, as of --set
    devices: int
    cloud: str | None  # path of an `.npz`; None for rooms
    rooms: str  # size
    scenes: int
    points_per_cloud: int  # 0: balls of the preset's radius
    clouds_per_bucket: int  # 0: as many as fit


class Case(NamedTuple):
    """A step and what it is called with."""

    config: Config  # calibrated
    balls: BenchmarkBalls
    members: list[list[int]]  # balls of each device's bucket
    local: Batch | BareBatch  # buckets on the host
    optimizer: optax.GradientTransformation
    step: Any  # jitted; consumes the state
    state: TrainState
    bucket: Batch | BareBatch  # on the devices
    points: int  # level-0 points of a step on all devices


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say which clouds are measured with which settings."""
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--set", nargs="*", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--cloud", type=pathlib.Path, help=".npz with points and colors")
    parser.add_argument("--rooms", default="full", help="size of Rooms (default: full)")
    parser.add_argument("--scenes", type=int, default=2, help="rooms (default: 2)")
    parser.add_argument(
        "--points-per-cloud", type=int, default=0, help="instead of balls of the preset's radius"
    )


def spec_of(args: argparse.Namespace, *settings: str, devices: int = 1, **changes) -> CaseSpec:
    """The case that flags of `add_data_flags` ask for, with further settings."""
    spec = CaseSpec(
        preset=args.preset,
        settings=(*args.set, *settings),
        devices=devices,
        cloud=str(args.cloud) if args.cloud else None,
        rooms=args.rooms,
        scenes=args.scenes,
        points_per_cloud=args.points_per_cloud,
        clouds_per_bucket=0,
    )
    return spec._replace(**changes)


def read_spec(text: str) -> CaseSpec:
    """The case of a JSON object."""
    spec = CaseSpec(**json.loads(text))
    return spec._replace(settings=tuple(spec.settings))


def make_balls(spec: CaseSpec) -> tuple[Config, BenchmarkBalls]:
    """The calibrated config of a case, and the balls it was calibrated for."""
    one_each = f"pyramid.buckets_per_step={spec.devices}"
    config = choose_builder(override(PRESETS[spec.preset](), (one_each, *spec.settings)))
    if spec.clouds_per_bucket:
        pyramid = dataclasses.replace(config.pyramid, max_clouds=spec.clouds_per_bucket)
        config = dataclasses.replace(config, pyramid=pyramid)
    path = pathlib.Path(spec.cloud) if spec.cloud else None
    clouds = read_clouds(path, spec.rooms, spec.scenes, config.data.voxel_size)
    if spec.points_per_cloud:
        places = config.pyramid.bucket_points // spec.points_per_cloud
        count = 3 * spec.devices * min(max(places, 1), spec.clouds_per_bucket or places)
        balls = sized_balls(clouds, config, spec.points_per_cloud, count)
    else:
        balls = training_balls(clouds, config)
    config = calibrate(config, balls)
    return calibrate_candidates(config, balls), balls


def plan_of(config: Config, balls: BenchmarkBalls) -> list[list[list[int]]]:
    """Steps of the first epoch over all balls."""
    return epoch_plan(
        balls.passes,
        balls.num_points,
        draws=0,
        max_points=config.pyramid.bucket_points,
        max_clouds=config.pyramid.max_clouds,
        buckets_per_step=config.pyramid.buckets_per_step,
        seed=config.seed,
        epoch=0,
    )


def make_case(spec: CaseSpec) -> Case:
    """Calibrates, builds the first buckets and puts state and buckets on the devices."""
    config, balls = make_balls(spec)
    mesh = make_mesh(jax.local_devices()[: spec.devices])
    members = plan_of(config, balls)[0]
    built = make_builder(balls, config)(members, 0)
    local = built if isinstance(built, BareBatch) else built.batch
    stage = cls_stage(config, balls.num_classes)
    optimizer = make_optimizer(config, steps_per_epoch=100)
    step = make_train_step(stage, optimizer, mesh, config)
    with Loader(balls, config) as loader:
        state = init_state(stage, optimizer, loader.example(), config.seed)
    points = sum(int(balls.num_points[ball]) for bucket in members for ball in bucket)
    return Case(
        config,
        balls,
        members,
        local,
        optimizer,
        step,
        replicate(state, mesh),
        shard_batch(local, mesh),
        points,
    )
