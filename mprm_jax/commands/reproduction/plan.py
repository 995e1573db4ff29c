"""What a report will take, before anything is begun: commands, points, hours and disk by kind."""

import math
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from mprm_jax.batches.balls import Balls
from mprm_jax.batches.covering import CoveringBalls
from mprm_jax.batches.loader import Loader
from mprm_jax.batches.shapes import calibrate
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.commands.jobs import Job, durations
from mprm_jax.commands.reproduction.ladder import LONGER
from mprm_jax.commands.reproduction.render import ABSENT, Table, to_markdown
from mprm_jax.config import Config
from mprm_jax.store.scenes import SceneStore, StoredClouds
from mprm_jax.training.optimizer import make_optimizer
from mprm_jax.training.stages import make_stage
from mprm_jax.training.static_sizes import choose_builder, whole_balls
from mprm_jax.training.steps import state_shapes

_SAMPLE = 8  # scenes that are covered with balls, to know how often a cover reads a voxel
_FILLED = 0.95  # of the rows of a bucket, about
_GRADIENT = 3.0  # a step does about three times the work of a forward pass


class Learned(NamedTuple):
    """How much a training learns, about: to count it exactly takes the covers of all scenes."""

    steps: float
    points: float  # that go through its steps


class Cost(NamedTuple):
    """Of one command."""

    steps: float  # of training
    points: float  # of training, and a third of those that are only read
    bytes: float  # that it leaves on the disk


class Planned(NamedTuple):
    """All commands of a kind."""

    kind: str
    count: int
    left: int  # not done yet
    cost: Cost  # of one
    seconds: float | None  # of one; None if nothing says


def plan(
    root: pathlib.Path,
    store: SceneStore,
    configs: dict[str, Config],
    jobs: Sequence[Job],
    points_per_second: float | None,
) -> list[Planned]:
    """The commands of a report by kind, in their order.

    Args:
      root: work directory; what is done there says how long the rest takes.
      configs: of the stages "cls" and "seg".
      points_per_second: that a training step learns on the machine that will be used; None if that
        is not known.
    """
    cost_of = _costs(store, configs)
    noted, by_kind = durations(root), {}
    for job in jobs:
        by_kind.setdefault(kind_of(job), []).append(job)
    costs = {kind: cost_of(kind) for kind in by_kind}
    taken = {
        kind: statistics.median(times)
        for kind, own in by_kind.items()
        if (times := [noted[name] for job in own if (name := _name(job, root)) in noted])
    }
    speeds = [costs[kind].points / taken[kind] for kind in taken if costs[kind].steps]
    if points_per_second is None and speeds:
        points_per_second = statistics.median(speeds)
    found = []
    for kind, own in by_kind.items():
        seconds = taken.get(kind)
        if seconds is None and points_per_second and costs[kind].points:
            seconds = costs[kind].points / points_per_second
        left = sum(not job.result.exists() for job in own)
        found.append(Planned(kind, len(own), left, costs[kind], seconds))
    return found


def plan_text(planned: Sequence[Planned]) -> str:
    """For people."""
    columns = ["command", "all", "left", "steps", "million points", "hours of what is left", "GB"]
    rows = [_row(found) for found in planned]
    known = [found for found in planned if found.seconds is not None]
    rows.append(
        [
            "together",
            str(sum(found.count for found in planned)),
            str(sum(found.left for found in planned)),
            *("", _millions(sum(found.count * found.cost.points for found in planned))),
            f"{sum(found.left * found.seconds for found in known) / 3600:.2f}" if known else "",
            f"{sum(found.count * found.cost.bytes for found in planned) / 1e9:.2f}",
        ]
    )
    note = (
        "Steps and points are of one command; points that are only read count as a third. Hours "
        "come from commands of the kind that are done, else from the points and the speed of "
        "--points-per-second or of trainings that are done; where they are blank nothing says. GB "
        "are for all, arrays before they are compressed."
    )
    return f"{to_markdown([Table(columns, rows)])}\n{note}"


def kind_of(job: Job) -> str:
    """What a command does, whatever the seed: "train seg", "export", "rounds, networks: 2"."""
    words = list(job.command)
    name = words[words.index("-m") + 2] if "mprm_jax" in words else "clicks"
    if name == "train":
        longer = any(word.startswith("optim.epochs=") for word in words)
        stage = words[words.index("--stage") + 1]
        return f"train {stage}" + (f", {LONGER} times as long" if longer else "")
    if name == "rounds":
        return f"rounds, networks: {words[words.index('--rounds') + 1]}"
    return name


def training_length(config: Config, points: float, num_balls: int) -> Learned:
    """Steps of a training and points in them.

    Args:
      points: of one pass over all balls.
    """
    draws = config.data.epoch_subclouds
    an_epoch = points * draws / num_balls if draws else points
    a_step = _FILLED * config.pyramid.bucket_points * config.pyramid.buckets_per_step
    steps = max(an_epoch / a_step, 1.0)
    epochs = max(config.optim.epochs, math.ceil(config.optim.min_steps / steps))
    return Learned(epochs * steps, epochs * an_epoch)


def _costs(store: SceneStore, configs: dict[str, Config]) -> Callable[[str], Cost]:
    """What one command of a kind costs."""
    cls, seg = (choose_builder(configs[stage]) for stage in ("cls", "seg"))
    tagged = TaggedBalls(store, "train", whole_balls(cls))
    points = float(tagged.num_points.sum())
    scenes = store.scenes("train")
    sample = scenes[:: max(len(scenes) // _SAMPLE, 1)]
    covers = CoveringBalls(StoredClouds(store, "train", sample), len(store.classes), seg, 1)
    voxels = {split: _sum(store, split, "voxels") for split in store.splits}
    share = voxels["train"] / sum(store.info("train", scene).voxels for scene in sample)
    covered, num_balls = share * float(covers.num_points.sum()), round(share * len(covers))
    reads = covered / voxels["train"]  # how often a cover reads a voxel
    lengths = {
        "cls": training_length(cls, points, len(tagged)),
        "seg": training_length(seg, covered, num_balls),
    }
    exported = _export_bytes(store)
    checkpoints = {
        "cls": _checkpoint_bytes(cls, "cls", store, tagged),
        "seg": _checkpoint_bytes(seg, "seg", store, covers),
    }
    mined = points * cls.mining.votes / _GRADIENT
    labeled = covered / _GRADIENT
    network = Cost(lengths["seg"].steps, lengths["seg"].points, checkpoints["seg"])

    def cost_of(kind: str) -> Cost:
        name, *more = kind.split(", ")
        if name == "train cls":
            steps, learned = lengths["cls"]
            return Cost(steps, learned + mined, checkpoints["cls"] + exported)
        if name == "train seg":
            times = LONGER if more else 1
            return network._replace(steps=times * network.steps, points=times * network.points)
        if name == "rounds":
            count = int(more[0].split()[-1])
            each = network.points + labeled
            return Cost(count * network.steps, count * each, count * (network.bytes + exported))
        if name == "export":
            return Cost(0, mined, exported)
        if name == "evaluate":
            return Cost(0, reads * voxels.get("val", 0) / _GRADIENT, 0)
        return Cost(0, 0, exported if name == "refine" else 0)

    return cost_of


def _row(found: Planned) -> list[str]:
    hours = "" if found.seconds is None else f"{found.left * found.seconds / 3600:.2f}"
    return [
        found.kind,
        str(found.count),
        str(found.left),
        f"{found.cost.steps:.0f}" if found.cost.steps else ABSENT,
        _millions(found.cost.points) if found.cost.points else ABSENT,
        hours,
        f"{found.count * found.cost.bytes / 1e9:.2f}" if found.cost.bytes else ABSENT,
    ]


def _millions(points: float) -> str:
    return f"{points / 1e6:.3g}"


def _name(job: Job, root: pathlib.Path) -> str:
    """As durations are noted."""
    return job.result.relative_to(root).as_posix()


def _sum(store: SceneStore, split: str, name: str) -> int:
    return sum(getattr(store.info(split, scene), name) for scene in store.scenes(split))


def _export_bytes(store: SceneStore) -> float:
    """Of the arrays of `ExportedScene`, for the training scenes."""
    a_voxel = len(store.classes) * (2 + 1) + 1 + 2 + 2
    return a_voxel * _sum(store, "train", "voxels") + 4 * _sum(store, "train", "points")


def _checkpoint_bytes(config: Config, stage: str, store: SceneStore, balls: Balls) -> float:
    """Of the checkpoints that a run keeps: the last ones and the best."""
    config = calibrate(config, balls)
    made = make_stage(stage, config, len(store.classes))
    with Loader(balls, config) as loader:
        averages = config.optim.ema > 0
        optimizer = make_optimizer(config, steps_per_epoch=1)
        state = state_shapes(made, optimizer, loader.example(), averages=averages)
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state))
    return (config.log.keep_last + 1) * size
