"""Settings of a run: nested frozen dataclasses, explained where declared, checked where made.

A config is a value. Presets (`mprm_jax.presets`) return one, `mprm_jax.overrides` changes and
explains single fields by name. Fields left open are calibrated from the prepared data before
training; the calibrated config is what the work directory and the checkpoints hold.

A config of an older version opens: what it lacks takes the default, or, where that is another
behavior than the older version's, the value in `AS_BEFORE`.
"""

import dataclasses
import json
import typing
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mprm_jax.errors import UserError
from mprm_jax.reading import parse_json
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


class Range(NamedTuple):
    """Numbers that a setting may be."""

    text: str  # completes "give ..."
    holds: Callable[[float], bool]


POSITIVE = Range("a value above 0", lambda value: value > 0)
NOT_NEGATIVE = Range("0 or more", lambda value: value >= 0)
SHARE = Range("a share in [0, 1)", lambda value: 0 <= value < 1)
PROBABILITY = Range("a probability in [0, 1]", lambda value: 0 <= value <= 1)
PERCENTAGE = Range("a percentage in (0, 100]", lambda value: 0 < value <= 100)


class About(NamedTuple):
    """What is declared of a setting besides its type and its default."""

    meaning: str
    allowed: Range | None  # any number of its type if None
    unit: str  # "" if it is a plain number or no number
    choices: tuple[str, ...]  # words that it may be; of a tuple, each at most once


def setting(
    default: Any,
    meaning: str,
    allowed: Range | None = None,
    *,
    unit: str = "",
    choices: tuple[str, ...] = (),
) -> Any:
    """Declares a setting; see `About`."""
    about = About(meaning, allowed, unit, choices)
    return dataclasses.field(default=default, metadata={"about": about})


class _Checked:
    """Checks every setting of a section as it is declared."""

    def __post_init__(self):
        section = type(self).__name__.removesuffix("Config").lower()
        for field in dataclasses.fields(self):
            if "about" in field.metadata:
                name = f"{section}.{field.name}".removeprefix(".")
                _check(name, getattr(self, field.name), field.metadata["about"])


@dataclasses.dataclass(frozen=True)
class DataConfig(_Checked):
    """How scans are read and which weakly labeled balls are drawn."""

    scale: float = setting(
        1.0,
        "length of a unit of the scans and tags of a folder; 0.001 for millimeters",
        POSITIVE,
        unit="meters",
    )
    test_area: int = setting(5, "area of S3DIS that validates", POSITIVE)
    colors: str = setting(
        "auto", "none leaves out the colors of scans that have them", choices=("auto", "none")
    )
    voxel_size: float = setting(
        0.04, "voxels of level 0 of every network; fixed by prepare", POSITIVE, unit="meters"
    )
    sphere_radius: float = setting(
        2.0, "radius r of a tagged ball (paper 5.1)", POSITIVE, unit="meters"
    )
    seeds: str = setting(
        "ends",
        "centers of the balls: a grid with both ends (released code), or the centers of its cells",
        choices=("ends", "centres"),
    )
    point_labels: str = setting(
        "none",
        "scenes whose point labels may be learned beside the tags: none, all, or a file that names "
        "them, one per line; fixed by prepare",
    )
    labels: str = setting(
        "subcloud",
        "tags that a ball is trained with: its own, or those of its scene",
        choices=("subcloud", "scene"),
    )
    epoch_subclouds: int = setting(0, "balls of an epoch; 0: every ball once", NOT_NEGATIVE)
    workers: int = setting(
        0, "processes that build buckets; 0: one thread of the main process", NOT_NEGATIVE
    )
    prefetch: int = setting(4, "how far ahead buckets are built", POSITIVE, unit="steps")
    keep_gb: float = setting(
        3.0,
        "memory of a process for neighbors that augment.grid=fixed finds only once; those beyond "
        "are found again",
        NOT_NEGATIVE,
        unit="GB",
    )


@dataclasses.dataclass(frozen=True)
class PyramidConfig(_Checked):
    """Neighborhoods and the static shapes of a bucket; 0 and () are calibrated from the data."""

    num_levels: int = setting(3, "resolutions of a cloud, each half as fine", POSITIVE)
    conv_radius: float = setting(2.5, "rigid neighborhood", POSITIVE, unit="voxels of its level")
    deform_radius: float = setting(
        5.0, "deformable neighborhood", POSITIVE, unit="voxels of its level"
    )
    bucket_points: int = setting(24576, "level-0 rows of a bucket, T_0", POSITIVE)
    buckets_per_step: int = setting(
        4, "buckets of a step; devices share them, or one computes them all", POSITIVE
    )
    memory_gb: float = setting(
        0.0,
        "memory of a device; not 0: the largest bucket_points that fits is chosen",
        NOT_NEGATIVE,
        unit="GB",
    )
    coarse_points: tuple[int, ...] = setting((), "rows of the coarser levels, T_1 ... T_{L-1}")
    max_clouds: int = setting(0, "clouds of a bucket at most, B", NOT_NEGATIVE)
    conv_neighbors: tuple[int, ...] = setting((), "width of the lists of each level, H_l")
    pool_neighbors: tuple[int, ...] = setting((), "width of the lists of each strided block, P_l")
    percentile: float = setting(
        90.0,
        "lists hold this share of all neighbor counts; what exceeds it is cut, farthest first",
        PERCENTAGE,
    )
    builder: str = setting(
        "auto",
        "what builds lists: the host, the device, or auto: the device if it is an accelerator",
        choices=("auto", "host", "device"),
    )
    candidates: tuple[int, ...] = setting(
        (), "points near another that builder=device looks at, per level"
    )
    upsample_candidates: tuple[int, ...] = setting(
        (), "points that it looks at for the nearest coarser one, per strided block"
    )

    def __post_init__(self):
        super().__post_init__()
        finer = self.num_levels - 1
        for name, length in {
            "conv_neighbors": self.num_levels,
            "candidates": self.num_levels,
            "coarse_points": finer,
            "pool_neighbors": finer,
            "upsample_candidates": finer,
        }.items():
            found = len(getattr(self, name))
            if found not in (0, length):
                raise UserError(
                    f"pyramid.{name} has {found} entries for {self.num_levels} levels; "
                    f"give {length}, or () to calibrate."
                )


@dataclasses.dataclass(frozen=True)
class AugmentConfig(_Checked):
    """What training changes of balls at random; their motion as in mprm training_mprm.py."""

    rotate: bool = setting(True, "balls are turned about z, by any angle")
    min_scale: float = setting(0.9, "each axis is scaled by a random factor from here", POSITIVE)
    max_scale: float = setting(1.1, "... to here", POSITIVE)
    flip_x: bool = setting(True, "balls are mirrored along x, with probability 1/2")
    noise: float = setting(
        0.001, "standard deviation of the noise on each coordinate", NOT_NEGATIVE, unit="meters"
    )
    grid: str = setting(
        "moved",
        "coarser points and neighbors of a ball in motion: found after it (released code), or "
        "fixed: found once, as the ball lies, and moved with it, which takes half of the time",
        choices=("moved", "fixed"),
    )
    drop_color: float = setting(
        0.0, "probability with which training sets the colors of a whole ball to 0", PROBABILITY
    )
    mix: float = setting(
        0.0,
        "probability with which training lays two balls of a bucket over one another as one cloud; "
        "stage seg and augment.grid=moved only",
        PROBABILITY,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.min_scale > self.max_scale:
            raise UserError(
                f"augment.min_scale {self.min_scale} exceeds max_scale {self.max_scale}."
            )
        if self.mix and self.grid == "fixed":
            raise UserError(
                f"augment.mix={self.mix}: balls laid over one another have neighbors in common, "
                "which a fixed grid does not find; set augment.grid=moved."
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig(_Checked):
    """The networks; defaults of the classifier (paper 4; widths as in mprm training_mprm.py)."""

    first_features: int = setting(
        64, "features of the first block; doubled after it, after the third, and so on", POSITIVE
    )
    deformable: bool = setting(True, "deformable kernels on the coarse levels")
    first_deformable: int = setting(
        1, "level from which on kernels deform, if they do at all", NOT_NEGATIVE
    )
    modulated: bool = setting(False, "deformable kernels also weigh their points")
    reach_neighbors: int = setting(
        48, "neighbors that a deformable kernel reads: the nearest it reaches of its list", POSITIVE
    )
    num_kernel_points: int = setting(15, "points of a kernel", POSITIVE)
    kernel_extent: float = setting(
        1.0, "reach of a kernel point", POSITIVE, unit="voxels of its level"
    )
    paths: tuple[str, ...] = setting(
        PATHS, "attention paths of the classifier; plain alone is the PCAM baseline", choices=PATHS
    )
    attention_features: int = setting(64, "features of queries and keys, C1 of eq. 3", POSITIVE)
    attention_unary: str = setting(
        "plain",
        "queries, keys and values: plain 1x1 convolutions (paper 4.2.1), or normed, each with "
        "batch norm and leaky ReLU (released code)",
        choices=("plain", "normed"),
    )
    dropout: float = setting(0.5, "share dropped before each linear classifier (paper 5.2)", SHARE)
    head_bias: bool = setting(False, "the classifiers have a bias; eq. 2 has none")
    pooling: str = setting(
        "mean",
        "scores of a cloud from those of its points: their mean (paper) or log_mean_exp",
        choices=("mean", "log_mean_exp"),
    )
    pooling_sharpness: float = setting(
        1.0,
        "sharpness of log_mean_exp: small values tend to the mean, large ones to the maximum",
        POSITIVE,
    )
    height: bool = setting(False, "the height above the ball's lowest point is an input feature")
    keep: float = setting(0.98, "share of the running statistics kept by a step", SHARE)
    negative_slope: float = setting(0.2, "slope of the leaky ReLU below 0")
    dtype: str = setting(
        "float32", "type of the backbone's features and products", choices=("float32", "bfloat16")
    )

    def __post_init__(self):
        super().__post_init__()
        if not self.paths:
            raise UserError(f"model.paths is empty; choose from {', '.join(PATHS)}.")


@dataclasses.dataclass(frozen=True)
class OptimConfig(_Checked):
    """Optimizer and schedule; the defaults are the paper's (5.2) and the released code's."""

    optimizer: str = setting(
        "sgd",
        "sgd with momentum, its weight decay coupled; adamw, decay decoupled",
        choices=("sgd", "adamw"),
    )
    schedule: str = setting(
        "exponential",
        "learning rate over the run: exponential decay (paper), or a cosine to 0",
        choices=("exponential", "cosine"),
    )
    learning_rate: float = setting(0.01, "highest learning rate of the schedule", POSITIVE)
    base_buckets: int = setting(
        0,
        "buckets_per_step that the learning rate is meant for, more scale it; 0: as it is",
        NOT_NEGATIVE,
    )
    momentum: float = setting(0.98, "share of the last step that sgd keeps", SHARE)
    decay_epochs: int = setting(
        100, "time in which exponential decay leaves a tenth", POSITIVE, unit="epochs"
    )
    warmup_steps: int = setting(
        0, "linear warm-up before either schedule", NOT_NEGATIVE, unit="steps"
    )
    epochs: int = setting(400, "length of a run", POSITIVE, unit="epochs")
    min_steps: int = setting(
        0,
        "epochs are added until a run has so many steps, and the schedule is stretched over them; "
        "none are if optim.epochs is set by name",
        NOT_NEGATIVE,
        unit="steps",
    )
    ema: float = setting(
        0.0,
        "share that a step keeps of the averaged weights, which are validated and used in place of "
        "the last ones; 0: no average",
        SHARE,
    )
    weight_decay: float = setting(
        1e-3, "decay of the weights of convolutions and linear layers", NOT_NEGATIVE
    )
    clip_norm: float = setting(100.0, "largest norm of the gradient of a variable", POSITIVE)
    offset_rate: float = setting(
        0.1, "learning rate of deformable offsets, relative to the others'", NOT_NEGATIVE
    )
    offset_loss: float = setting(
        0.1, "weight of fitting and repulsion of deformable kernels", NOT_NEGATIVE
    )


@dataclasses.dataclass(frozen=True)
class MiningConfig(_Checked):
    """How point scores of balls become pseudo-labels."""

    paths: tuple[str, ...] = setting(
        (), "attention paths that are merged; (): all of the network", choices=PATHS
    )
    fusion: str = setting(
        "max", "how paths are merged: by their maximum (paper) or their sum", choices=("max", "sum")
    )
    votes: int = setting(
        1, "votes of every ball: the first as it lies, the others moved as in training", POSITIVE
    )
    calibration: str = setting(
        "class",
        "class: scores are standardised per class over the data set; none: as they are (paper)",
        choices=("class", "none"),
    )
    allowed: str = setting(
        "candidates",
        "classes that a point may take: those that all evidence leaves; for comparison, by tags "
        "alone, those of all of its balls, of any ball, or of the scene",
        choices=("candidates", "intersection", "ball", "scene"),
    )


@dataclasses.dataclass(frozen=True)
class SegConfig(_Checked):
    """How the segmentation network goes over whole scenes, learns and is judged."""

    radius: float = setting(2.0, "radius of a ball", POSITIVE, unit="meters")
    covers: int = setting(
        4, "sets of balls that hold every voxel of a scene; epochs take them in turn", POSITIVE
    )
    class_weights: str = setting(
        "none",
        "weights of the loss: none (paper), or 1 / square root of how many targets a class has",
        choices=("none", "inverse_sqrt"),
    )
    lovasz: float = setting(
        0.0, "weight of the Lovász-softmax loss of balls beside cross-entropy", NOT_NEGATIVE
    )
    validate: bool = setting(True, "measure between epochs, where the split val has point labels")
    rounds: int = setting(1, "covers of a scene that vote in a validation", POSITIVE)


@dataclasses.dataclass(frozen=True)
class LogConfig(_Checked):
    """When the run speaks and saves; no result depends on it."""

    every_steps: int = setting(20, "time between metrics", POSITIVE, unit="steps")
    save_minutes: float = setting(
        10.0,
        "time between checkpoints; the end of an epoch has one too, or of several where "
        "optim.min_steps adds epochs",
        POSITIVE,
        unit="minutes",
    )
    keep_last: int = setting(2, "checkpoints kept beside the best one", POSITIVE)
    eval_epochs: int = setting(
        1,
        "time between validations; more where optim.min_steps adds epochs",
        POSITIVE,
        unit="epochs",
    )


@dataclasses.dataclass(frozen=True)
class Config(_Checked):
    """Everything the result of a run depends on, apart from the data."""

    preset: str = setting("paper", "name of what the settings started from; --preset chooses")
    seed: int = setting(0, "seed of all that is random", NOT_NEGATIVE)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    pyramid: PyramidConfig = dataclasses.field(default_factory=PyramidConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    mining: MiningConfig = dataclasses.field(default_factory=MiningConfig)
    seg: SegConfig = dataclasses.field(default_factory=SegConfig)
    log: LogConfig = dataclasses.field(default_factory=LogConfig)


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
    return from_values(parse_json(text))


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


def _check(name: str, value: Any, about: About) -> None:
    """Raises `UserError` if a setting is not what is declared; "section.field" is its name."""
    if about.allowed is not None and not about.allowed.holds(value):
        raise UserError(f"{name} is {value}; give {about.allowed.text}.")
    words = ", ".join(about.choices)
    if isinstance(value, tuple):
        if about.choices and (len(set(value)) < len(value) or set(value) - {*about.choices}):
            raise UserError(f"{name} is {value}; choose each at most once: {words}.")
    elif about.choices and value not in about.choices:
        raise UserError(f"{name} is {value!r}; choose one of {words}.")
