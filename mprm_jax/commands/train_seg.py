"""The segmentation stage from end to end: trains on targets, measures on true labels if any."""

import logging
import pathlib

import jax
import numpy as np

from mprm_jax.batches.covering import CoveringBalls
from mprm_jax.config import Config
from mprm_jax.evaluation.quality import Measure, confusion_matrix, measure, measure_values
from mprm_jax.prediction.scenes import segment
from mprm_jax.store.scenes import SceneStore, StoredClouds
from mprm_jax.store.targets import EVIDENCE, TRUTH, Survey, Targets, open_targets, survey
from mprm_jax.store.truth import has_labels, voxel_labels
from mprm_jax.training.answers import ReadyNetwork
from mprm_jax.training.hosts import sum_over_hosts
from mprm_jax.training.loop import Validation, fit
from mprm_jax.training.parallel import (
    choose_devices,
    describe_devices,
    local_copy,
    local_mesh,
    make_mesh,
    step_mesh,
)
from mprm_jax.training.stages import Stage, seg_stage
from mprm_jax.training.start import settings_of_run, start_run
from mprm_jax.training.static_sizes import whole_balls
from mprm_jax.training.steps import TrainState, make_predict_step
from mprm_jax.types import Array

logger = logging.getLogger(__name__)

VALIDATION = "val"  # split
SCORE = "val/miou"


def train_segmenter(
    store: SceneStore,
    config: Config,
    workdir: pathlib.Path,
    num_devices: int | None,
    pseudo_labels: str,
    start_from: pathlib.Path | None = None,
) -> dict:
    """Trains and measures; returns what was learned and how well.

    Args:
      workdir: new, or of the same run.
      num_devices: all if None.
      pseudo_labels: folder of an export, "evidence", or "truth".
      start_from: as of `fit`.

    Raises:
      ValueError: targets that do not fit the data, too few devices, a work directory of another
        run, a loss not finite.
      OSError: a file is missing or cannot be written.
      StoppedError: see `fit`.
    """
    devices = choose_devices(num_devices)
    everywhere = make_mesh(devices)
    config = settings_of_run(workdir, "seg", config, len(devices))
    mesh = step_mesh(devices, config.pyramid.buckets_per_step)
    num_classes = len(store.classes)
    targets = open_targets(pseudo_labels, store, "train")
    clouds = StoredClouds(store, "train", targets.scenes)
    found = survey(targets, clouds, num_classes)
    _report(store, targets, found)
    covers = config.seg.covers
    train = CoveringBalls(clouds, num_classes, whole_balls(config), covers, targets)
    stage = seg_stage(config, num_classes, class_weights(found.counts, config))
    config = start_run("seg", stage, store, train, config, mesh, workdir, targets=found.fingerprint)
    true_labels = _true_labels(stage, store, config, everywhere)
    validation = true_labels and Validation(true_labels, SCORE)
    state = fit(stage, train, validation, config, mesh, workdir, start_from=start_from)
    return {
        "classes": list(store.classes),
        "devices": describe_devices(mesh),
        "targets": targets.name,
        "labeled": float(found.counts.sum() / found.num_voxels),
        "step": int(state.step),
        "measures": {VALIDATION: measure_values(true_labels.measure(state))} if true_labels else {},
    }


def class_weights(counts: Array, config: Config) -> tuple[float, ...] | None:
    """Weight 1 for the most frequent class, more for the others; None if all weigh alike.

    Args:
      counts: [num_classes], targets of each class.
    """
    if config.seg.class_weights == "none":
        return None
    # A class without a target has no point to weigh.
    weights = np.sqrt(counts.max() / np.maximum(counts, 1))
    return tuple(float(weight) for weight in weights)


def summary(results: dict, workdir: pathlib.Path) -> str:
    """What a person wants to know at the end.

    Args:
      results: of `train_segmenter`, and the `seconds` that all took.
    """
    lines = [f"segmentation network trained on {results['targets']}"]
    if VALIDATION in results["measures"]:
        values = results["measures"][VALIDATION]
        lines.append(
            f"split {VALIDATION}, without tags: mIoU {values['miou']:.1f} over "
            f"{values['num_classes']} classes, {values['miou_occurring']:.1f} over the "
            f"{values['num_occurring']} that occur, accuracy {values['accuracy']:.1f}"
        )
        for name, iou in zip(results["classes"], values["iou"], strict=True):
            lines.append(f"  {name:20s} {'-' if iou is None else format(iou, '.1f'):>5}")
    else:
        lines.append(f"not measured: no point labels of split {VALIDATION}, or seg.validate=False")
    lines.append(f"done in {results['seconds'] / 60:.1f} minutes; see {workdir}")
    return "\n".join(lines)


class ValidationLabels:
    """Measures a network on the voxels of labeled scenes; it sees no tags.

    Every host takes its share of the scenes.
    """

    def __init__(
        self,
        stage: Stage,
        store: SceneStore,
        scenes: list[str],
        config: Config,
        mesh: jax.sharding.Mesh,
    ):
        self._store, self._config, self._here = store, config, local_mesh(mesh)
        clouds = StoredClouds(store, VALIDATION, scenes)
        num_classes = len(store.classes)
        self._balls = CoveringBalls(clouds, num_classes, config, config.seg.rounds)
        self._predict = make_predict_step(stage.scores, self._here)
        self._last: tuple[int, Measure] | None = None

    def __call__(self, state: TrainState) -> dict[str, float]:
        """Mean IoU, accuracy and the IoU of every class, as shares."""
        found = self.measure(state)
        classes = zip(self._store.classes, found.iou, strict=True)
        values = {SCORE: found.mean_iou, "val/accuracy": found.accuracy}
        return values | {f"val/iou/{name}": float(iou) for name, iou in classes}

    def measure(self, state: TrainState) -> Measure:
        """The measure of a state; the last one is remembered."""
        step = int(state.step)
        if self._last is None or self._last[0] != step:
            self._last = step, self._measure(state)
        return self._last[1]

    def _measure(self, state: TrainState) -> Measure:
        num_classes = self._balls.num_classes
        confusion = np.zeros((num_classes, num_classes + 1), np.int64)
        scenes = range(jax.process_index(), len(self._balls.scenes), jax.process_count())
        state = local_copy(state, self._here)
        network = ReadyNetwork(self._predict, state, self._config, self._here)
        for scene, segmented in segment(network, self._balls, scenes=scenes):
            truth = voxel_labels(self._store, VALIDATION, scene)
            labels = segmented.probabilities.argmax(axis=1)
            confusion += confusion_matrix(truth, labels, num_classes)
        return measure(sum_over_hosts(confusion))


def _report(store: SceneStore, targets: Targets, found: Survey) -> None:
    names = {TRUTH: "the GROUND TRUTH", EVIDENCE: "what the evidence leaves one class to"}
    logger.info(
        "learning %s: %.1f %% of %d voxels have a label",
        names.get(targets.name, f"the pseudo-labels in {targets.name}"),
        100 * found.counts.sum() / found.num_voxels,
        found.num_voxels,
    )
    left_out = len(store.scenes("train")) - len(targets.scenes)
    if left_out:
        logger.warning("%d scenes without pseudo-labels are left out", left_out)


def _true_labels(
    stage: Stage, store: SceneStore, config: Config, mesh: jax.sharding.Mesh
) -> ValidationLabels | None:
    """What measures the split "val", if it has point labels and they are asked for."""
    if not config.seg.validate:
        return None
    scenes = store.scenes(VALIDATION) if VALIDATION in store.splits else ()
    labeled = [scene for scene in scenes if has_labels(store, VALIDATION, scene)]
    if not labeled:
        logger.info("no split %s with point labels: the last checkpoint counts", VALIDATION)
        return None
    return ValidationLabels(stage, store, labeled, config, mesh)
