"""Settings of a run: nested frozen dataclasses, checked where they are made.

A config is a value. Presets (`mprm_jax.presets`) return one, `mprm_jax.overrides` changes single
fields by name. Fields left open are calibrated from the prepared data before training; the
calibrated config is what the work directory and the checkpoints hold.

A config of an older version opens: what it lacks takes the default, or, where that is another
behavior than the older version's, the value in `AS_BEFORE`.
"""

import dataclasses
import json
import typing
from collections.abc import Iterator
from typing import Any

from mprm_jax.errors import UserError
from mprm_jax.types import PATHS

# What a run did before it had a setting, where the default is something else. To be added to with
# every new setting whose default changes a result.
AS_BEFORE = {
    "model.attention_unary": "normed",
    "model.reach_neighbors": 2**31 - 1,  # deformable kernels read all of their lists
    "pyramid.buckets_per_step": 1,  # of every device that trained; no matter to a trained network
    "pyramid.builder": "host",
}
# Settings that are calibrated when a run begins, by what leaves them open.
OPEN = {
    "pyramid.builder": "auto",
    "pyramid.coarse_points": [],
    "pyramid.max_clouds": 0,
    "pyramid.conv_neighbors": [],
    "pyramid.pool_neighbors": [],
    "pyramid.candidates": [],
    "pyramid.upsample_candidates": [],
}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How scans are read and which weakly labeled subclouds are drawn."""

    scale: float = 1.0  # meters per unit of the scans and tags of a folder; 0.001: millimeters
    test_area: int = 5  # of S3DIS, validates
    colors: str = "auto"  # "none" leaves out the colors of scans that have them
    voxel_size: float = 0.04  # meters, level 0 of every network; fixed by `prepare`
    sphere_radius: float = 2.0  # meters, radius r of a subcloud (paper 5.1)
    seeds: str = "ends"  # "ends": grid with both ends (released); "centres": cell centers
    labels: str = "subcloud"  # "subcloud" or "scene": which tags a subcloud is trained with
    epoch_subclouds: int = 0  # draws per epoch; 0 means every subcloud once
    workers: int = 0  # processes that build buckets; 0 means one thread of the main process
    prefetch: int = 4  # steps built ahead

    def __post_init__(self):
        _check_positive(self, "scale", "test_area", "voxel_size", "sphere_radius", "prefetch")
        _check_choice(self, "colors", ("auto", "none"))
        _check_choice(self, "seeds", ("ends", "centres"))
        _check_choice(self, "labels", ("subcloud", "scene"))
        _check_not_negative(self, "epoch_subclouds", "workers")


@dataclasses.dataclass(frozen=True)
class PyramidConfig:
    """Neighborhoods and the static shapes of a bucket; 0 and () are calibrated from the data."""

    num_levels: int = 3
    conv_radius: float = 2.5  # rigid neighborhood, in voxels of its level
    deform_radius: float = 5.0  # deformable neighborhood, in voxels of its level
    bucket_points: int = 24576  # T_0, level-0 rows of a bucket
    buckets_per_step: int = 4  # whatever computes them: devices share them, or one takes them all
    memory_gb: float = 0.0  # of a device; not 0: the largest bucket_points that fits is chosen
    coarse_points: tuple[int, ...] = ()  # T_1 ... T_{L-1}
    max_clouds: int = 0  # B, clouds per bucket
    conv_neighbors: tuple[int, ...] = ()  # H_l per level
    pool_neighbors: tuple[int, ...] = ()  # P_l per strided block
    percentile: float = 90.0  # of neighbor counts; what lies beyond is cut, farthest first
    builder: str = "auto"  # of lists: "host", "device" (accelerators), or by what computes
    candidates: tuple[int, ...] = ()  # per level, points near another that "device" looks at
    upsample_candidates: tuple[int, ...] = ()  # per strided block, the same for the nearest one

    def __post_init__(self):
        _check_positive(self, "num_levels", "conv_radius", "deform_radius", "bucket_points")
        _check_positive(self, "buckets_per_step")
        _check_not_negative(self, "max_clouds", "memory_gb")
        _check_choice(self, "builder", ("auto", "host", "device"))
        _check_lengths(self, self.num_levels, "conv_neighbors", "candidates")
        finer = self.num_levels - 1
        _check_lengths(self, finer, "coarse_points", "pool_neighbors", "upsample_candidates")
        if not 0 < self.percentile <= 100:
            raise UserError(f"pyramid.percentile is {self.percentile}; give one in (0, 100].")


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Random motion of a subcloud (mprm datasets/common.py; mprm training_mprm.py)."""

    rotate: bool = True  # about z, uniform
    min_scale: float = 0.9  # per axis, uniform
    max_scale: float = 1.1
    flip_x: bool = True  # with probability 1/2
    noise: float = 0.001  # meters, standard deviation per coordinate

    def __post_init__(self):
        _check_positive(self, "min_scale", "max_scale")
        _check_not_negative(self, "noise")
        if self.min_scale > self.max_scale:
            raise UserError(
                f"augment.min_scale {self.min_scale} exceeds max_scale {self.max_scale}."
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The networks; defaults of the classifier (paper 4; widths as in mprm training_mprm.py)."""

    first_features: int = 64  # doubled after the first and the third block, and so on
    deformable: bool = True  # deformable kernels on the coarse levels
    first_deformable: int = 1  # the level from which on kernels deform, if they do at all
    modulated: bool = False  # deformable kernels also weigh their points
    reach_neighbors: int = 48  # that a deformable kernel reads: the nearest it reaches of its list
    num_kernel_points: int = 15
    kernel_extent: float = 1.0  # reach of a kernel point, in voxels of its level
    paths: tuple[str, ...] = PATHS  # ("plain",) is the PCAM baseline
    attention_features: int = 64  # C1 of eq. 3
    # Queries, keys and values: "plain" 1x1 convolutions (paper 4.2.1), or "normed", each with batch
    # norm and leaky ReLU (released).
    attention_unary: str = "plain"
    dropout: float = 0.5  # before each linear classifier (paper 5.2)
    head_bias: bool = False  # eq. 2 has none
    pooling: str = "mean"  # "mean" (paper) or "log_mean_exp", over the points of a cloud
    pooling_sharpness: float = 1.0  # of log_mean_exp; 0 tends to the mean, large to the maximum
    height: bool = False  # adds the height above the ball's lowest point as an input feature
    keep: float = 0.98  # share of the running statistics kept by a step
    negative_slope: float = 0.2  # of the leaky ReLU
    dtype: str = "float32"  # of the backbone's features and products, or "bfloat16"

    def __post_init__(self):
        _check_positive(self, "first_features", "num_kernel_points", "kernel_extent")
        _check_positive(self, "attention_features", "pooling_sharpness", "reach_neighbors")
        _check_not_negative(self, "first_deformable")
        _check_choice(self, "attention_unary", ("plain", "normed"))
        _check_choice(self, "pooling", ("mean", "log_mean_exp"))
        _check_choice(self, "dtype", ("float32", "bfloat16"))
        _check_share(self, "dropout", "keep")
        _check_paths(self)
        if not self.paths:
            raise UserError(f"model.paths is empty; choose from {PATHS}.")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Optimizer and schedule; the defaults are the paper's (5.2) and the released code's."""

    optimizer: str = "sgd"  # "sgd" with momentum, decay coupled; "adamw", decay decoupled
    schedule: str = "exponential"  # "exponential" (paper) or "cosine" to 0
    learning_rate: float = 0.01
    base_buckets: int = 0  # not 0: buckets_per_step that the rate is meant for; more scale it
    momentum: float = 0.98  # of sgd
    decay_epochs: int = 100  # epochs for a tenfold exponential decay
    warmup_steps: int = 0  # linear, before either schedule
    epochs: int = 400
    weight_decay: float = 1e-3
    clip_norm: float = 100.0  # per variable
    offset_rate: float = 0.1  # learning rate of deformable offsets, relative
    offset_loss: float = 0.1  # weight of fitting + repulsion

    def __post_init__(self):
        _check_choice(self, "optimizer", ("sgd", "adamw"))
        _check_choice(self, "schedule", ("exponential", "cosine"))
        _check_positive(self, "learning_rate", "decay_epochs", "epochs", "clip_norm")
        _check_not_negative(self, "warmup_steps", "weight_decay", "offset_rate", "offset_loss")
        _check_not_negative(self, "base_buckets")
        _check_share(self, "momentum")


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """When the run speaks and saves."""

    every_steps: int = 20  # metrics and progress
    save_minutes: float = 10.0  # between checkpoints, and at the end of an epoch at the latest
    keep_last: int = 2  # checkpoints kept beside the best one
    eval_epochs: int = 1  # between validations

    def __post_init__(self):
        _check_positive(self, "every_steps", "save_minutes", "keep_last", "eval_epochs")


@dataclasses.dataclass(frozen=True)
class MiningConfig:
    """How point scores of subclouds become pseudo-labels."""

    paths: tuple[str, ...] = ()  # that are merged; () means all of the network
    fusion: str = "max"  # over paths: "max" (paper) or "sum"
    votes: int = 1  # of every ball; the first as it lies, the others moved as in training
    calibration: str = "class"  # scores standardised per class over the data set; "none": paper
    allowed: str = "intersection"  # tags of all balls of a point; "ball": of any; "scene"

    def __post_init__(self):
        _check_choice(self, "fusion", ("max", "sum"))
        _check_choice(self, "calibration", ("class", "none"))
        _check_choice(self, "allowed", ("intersection", "ball", "scene"))
        _check_positive(self, "votes")
        _check_paths(self)


@dataclasses.dataclass(frozen=True)
class SegConfig:
    """How the segmentation network goes over whole scenes, learns and is judged."""

    radius: float = 2.0  # meters, of a ball
    covers: int = 4  # sets of balls that hold every voxel of a scene; epochs take them in turn
    class_weights: str = "none"  # of the loss (paper), or "inverse_sqrt" of the target frequencies
    validate: bool = True  # between epochs, where the split "val" has point labels
    rounds: int = 1  # covers of a scene that vote in a validation

    def __post_init__(self):
        _check_positive(self, "radius", "covers", "rounds")
        _check_choice(self, "class_weights", ("none", "inverse_sqrt"))


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything the result of a run depends on, apart from the data."""

    preset: str = "paper"
    seed: int = 0
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    pyramid: PyramidConfig = dataclasses.field(default_factory=PyramidConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    mining: MiningConfig = dataclasses.field(default_factory=MiningConfig)
    seg: SegConfig = dataclasses.field(default_factory=SegConfig)
    log: LogConfig = dataclasses.field(default_factory=LogConfig)

    def __post_init__(self):
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; give 0 or more.")


def to_json(config: Config) -> str:
    """The config as indented JSON, fields in order of declaration."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def to_values(config: Config) -> dict[str, Any]:
    """The config as JSON reads it back: dictionaries, lists, numbers and words."""
    return json.loads(to_json(config))


def from_json(text: str) -> Config:
    """The config that `to_json` of this or an older version wrote.

    Raises:
      ValueError: a field is unknown, has a value of another type, or fails its check.
    """
    return from_values(json.loads(text))


def from_values(values: dict[str, Any]) -> Config:
    """The config that `to_values` of this or an older version gave; raises as `from_json`."""
    unknown = list(_unknown(Config, values, ""))
    if unknown:
        raise UserError(
            f"this version does not know {', '.join(unknown)}: a newer one wrote it; update "
            "mprm_jax."
        )
    return _from_dict(Config, values, "")


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by `section.field`."""
    found = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the declared type of a setting; a whole number is a float as well."""
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return isinstance(value, tuple) and all(fits(entry, item) for entry in value)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind


def _unknown(kind: type, values: Any, prefix: str) -> Iterator[str]:
    """Names that a config does not have."""
    if not isinstance(values, dict):
        where = prefix.removesuffix(".") or "a config"
        raise UserError(f"{where} wants settings by name, got {values!r}.")
    hints = typing.get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            yield prefix + name
        elif dataclasses.is_dataclass(hints[name]):
            yield from _unknown(hints[name], value, f"{prefix}{name}.")


def _from_dict(kind: type, values: dict[str, Any], prefix: str) -> Any:
    fields = {}
    for name, hint in typing.get_type_hints(kind).items():
        path = prefix + name
        if dataclasses.is_dataclass(hint):
            fields[name] = _from_dict(hint, values.get(name, {}), f"{path}.")
        elif name in values or path in AS_BEFORE:
            value = values.get(name, AS_BEFORE.get(path))
            fields[name] = tuple(value) if isinstance(value, list) else value
            if not fits(fields[name], hint):
                raise UserError(f"{path} is {value!r}, which is of another type.")
    return kind(**fields)


def _section(config: Any) -> str:
    return type(config).__name__.removesuffix("Config").lower()


def _check_positive(config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise UserError(
                f"{_section(config)}.{name} is {getattr(config, name)}; give a value above 0."
            )


def _check_not_negative(config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) >= 0:
            raise UserError(
                f"{_section(config)}.{name} is {getattr(config, name)}; give 0 or more."
            )


def _check_share(config: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise UserError(
                f"{_section(config)}.{name} is {getattr(config, name)}; give a share in [0, 1)."
            )


def _check_choice(config: Any, name: str, choices: tuple[str, ...]) -> None:
    if getattr(config, name) not in choices:
        raise UserError(
            f"{_section(config)}.{name} is {getattr(config, name)!r}; "
            f"choose one of {', '.join(choices)}."
        )


def _check_paths(config: Any) -> None:
    if len(set(config.paths)) < len(config.paths) or set(config.paths) - {*PATHS}:
        raise UserError(
            f"{_section(config)}.paths is {config.paths}; choose each at most once: {PATHS}."
        )


def _check_lengths(config: Any, length: int, *names: str) -> None:
    for name in names:
        if getattr(config, name) and len(getattr(config, name)) != length:
            raise UserError(
                f"pyramid.{name} has {len(getattr(config, name))} entries for "
                f"{config.num_levels} levels; give {length}, or () to calibrate."
            )
