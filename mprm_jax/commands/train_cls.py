"""The classification stage from end to end: trains on tags, then mines and draws pseudo-labels."""

import logging
import pathlib
import shutil

import jax

from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.config import Config
from mprm_jax.errors import UserError
from mprm_jax.evaluation.pictures import draw_showcase
from mprm_jax.evaluation.quality import measure_values
from mprm_jax.labeling.exporting import export_split
from mprm_jax.labeling.measuring import BASELINES, CALIBRATED, RAW, measure_choices
from mprm_jax.store.scenes import SceneStore
from mprm_jax.training.answers import ReadyNetwork
from mprm_jax.training.hosts import is_first_host
from mprm_jax.training.loop import Validation, fit
from mprm_jax.training.parallel import (
    choose_devices,
    describe_devices,
    local_copy,
    local_mesh,
    make_mesh,
    step_mesh,
)
from mprm_jax.training.stages import Stage, cls_stage
from mprm_jax.training.start import settings_of_run, start_run
from mprm_jax.training.static_sizes import whole_balls
from mprm_jax.training.steps import TrainState, make_predict_step
from mprm_jax.training.tag_precision import tag_precision

logger = logging.getLogger(__name__)


def train_classifier(
    store: SceneStore,
    config: Config,
    workdir: pathlib.Path,
    num_devices: int | None,
    start_from: pathlib.Path | None = None,
) -> dict:
    """Trains, mines and draws; returns the measures of the pseudo-labels.

    Args:
      workdir: new, or of the same run.
      num_devices: all if None.
      start_from: as of `fit`.

    Raises:
      ValueError: no tags, too few devices, a work directory of another run, a loss not finite.
      OSError: a file is missing or cannot be written.
      StoppedError: see `fit`.
    """
    devices = choose_devices(num_devices)
    everywhere = make_mesh(devices)
    config = settings_of_run(workdir, "cls", config, len(devices))
    mesh = step_mesh(devices, config.pyramid.buckets_per_step)
    train = _open_split(store, "train", whole_balls(config))
    if not train.tags.any():
        raise UserError(
            f"{store.path}: no ball of split train is tagged with any class; fill in the tags, "
            "then prepare again."
        )
    stage = cls_stage(config, len(store.classes))
    config = start_run("cls", stage, store, train, config, mesh, workdir)
    folder = workdir / f"balls-of-host{jax.process_index()}"  # gone after training
    if config.pyramid.builder == "device":
        train.keep_arrays(folder)
    validation = _validation(stage, store, config, everywhere)
    state = fit(stage, train, validation, config, mesh, workdir, start_from=start_from)
    train.drop_arrays()
    shutil.rmtree(folder, ignore_errors=True)
    export = export_split(
        *(stage.model, state, train, config, everywhere, workdir / "pseudo_labels"), is_own=True
    )
    if is_first_host():
        draw_showcase(train, export, workdir / "pseudo_labels.png")
    measures = measure_choices(export, store, config.seed)
    return {
        "classes": list(store.classes),
        "devices": describe_devices(mesh),
        "labels": config.data.labels,
        "measures": {way: measure_values(found) for way, found in measures.items()},
    }


def summary(results: dict, workdir: pathlib.Path) -> str:
    """What a person wants to know at the end.

    Args:
      results: of `train_classifier`, and the `seconds` that all took.
    """
    tagged = "scenes" if results["labels"] == "scene" else "balls"
    lines = [f"pseudo-labels of the training scenes (tags of {tagged}):"]
    for name in (CALIBRATED, RAW, *BASELINES):
        if name in results["measures"]:
            values = results["measures"][name]
            lines.append(
                f"  {name:28s} mIoU {values['miou']:5.1f} over {values['num_classes']} classes"
                f"   accuracy {values['accuracy']:5.1f}"
            )
    if len(lines) == 1:
        lines.append("  not measured: the scenes have no point labels")
    lines.append(
        f"done in {results['seconds'] / 60:.1f} minutes; see {workdir / 'pseudo_labels.png'}"
    )
    return "\n".join(lines)


def _open_split(store: SceneStore, split: str, config: Config) -> TaggedBalls:
    balls = TaggedBalls(store, split, config)
    if balls.num_thinned:
        logger.warning(
            "%d of %d balls of split %s hold more voxels than pyramid.bucket_points=%d: each "
            "is thinned to a fixed random choice of as many; raise the setting to use all",
            balls.num_thinned,
            len(balls),
            split,
            balls.max_points,
        )
    return balls


def _validation(
    stage: Stage, store: SceneStore, config: Config, mesh: jax.sharding.Mesh
) -> Validation | None:
    """Scores the tags of the split "val", if it has any."""
    if "val" not in store.splits or not any(
        store.info("val", scene).subclouds for scene in store.scenes("val")
    ):
        logger.info("no tagged validation split: the tags are not scored between epochs")
        return None
    balls = _open_split(store, "val", config)
    here = local_mesh(mesh)
    predict = make_predict_step(stage.scores, here)

    def measure(state: TrainState) -> dict[str, float]:
        return tag_precision(ReadyNetwork(predict, local_copy(state, here), config, here), balls)

    return Validation(measure, score="precision")
