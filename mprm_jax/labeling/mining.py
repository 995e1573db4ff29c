"""Mines pseudo-labels for a whole split with a trained network, and measures them where it can."""

import json
import logging
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from mprm_jax.config import Config
from mprm_jax.data.subclouds import Subclouds
from mprm_jax.data.truth import has_labels, voxel_labels
from mprm_jax.labeling.baselines import frequent_labels, random_labels
from mprm_jax.labeling.pseudo_labels import (
    ClassScale,
    allowed_classes,
    choose_labels,
    empty_scale,
    mean_scores,
)
from mprm_jax.labeling.quality import class_iou, confusion_matrix
from mprm_jax.labeling.votes import SceneVotes, scene_votes
from mprm_jax.progress import progress_bar
from mprm_jax.types import IGNORED, MAX_CLASSES, Array
from mprm_jax.writing import explain_failed_write, whole_file, write_whole

logger = logging.getLogger(__name__)

# How labels are chosen; the first two from the mined scores, the others from tags alone.
CALIBRATED, RAW = "calibrated", "raw"
BASELINES = {"random allowed class": random_labels, "most frequent allowed class": frequent_labels}

UNLABELED = MAX_CLASSES  # stored where no voxel of the scene has an allowed class


class MinedScene(NamedTuple):
    """The pseudo-labels of one scene and what they were chosen from, by voxel."""

    scores: Array  # [V, num_classes] float16, mean over balls and merged over paths
    allowed: Array  # [V, num_classes] bool
    label: Array  # [V] uint8, from scores standardised per class; 255 (UNLABELED) for none
    label_raw: Array  # [V] uint8, from the scores as they are (the paper's argmax)
    num_balls: Array  # [V] uint16


def mine(
    predict: Callable[[Any, Any], Any],
    state: Any,
    subclouds: Subclouds,
    config: Config,
    mesh: jax.sharding.Mesh,
    directory: pathlib.Path,
) -> dict[str, Any]:
    """Writes `<scene>.npz` for every scene of a split and returns the measures of their labels.

    Args:
      predict: step that returns point class activation maps, see `votes.make_mining`.

    Returns:
      JSON values: per way of choosing labels the IoU of each class and their mean in per cent
      (only where ground truth exists), and the share of voxels in no ball.
    """
    with explain_failed_write(directory):
        directory.mkdir(parents=True, exist_ok=True)
    scale, uncovered, total = empty_scale(subclouds.tags.shape[1]), 0, 0
    with progress_bar(len(subclouds), "subclouds", "mining") as bar:
        votes = scene_votes(predict, state, subclouds, config, mesh, bar.update)
        for scene, scene_vote in votes:
            mined = _collect(scene_vote)
            scale = scale.add(mined.scores[mined.num_balls > 0])
            uncovered += int(np.sum(mined.num_balls == 0))
            total += len(mined.num_balls)
            save_mined(directory / f"{scene}.npz", mined)
    logger.info(
        "%.2f %% of %d voxels lie in no ball and take the nearest label",
        100 * uncovered / total,
        total,
    )
    measures = _label(subclouds, scale, directory)
    measures["uncovered"] = uncovered / total
    write_whole(directory / "class_scale.json", json.dumps(_scale_values(scale), indent=1))
    return measures


def save_mined(path: pathlib.Path, mined: MinedScene) -> None:
    """Writes the arrays of one scene, whole or not at all."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **mined._asdict())


def load_mined(path: pathlib.Path) -> MinedScene:
    """The arrays that `save_mined` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return MinedScene(**{name: arrays[name] for name in MinedScene._fields})


def as_labels(stored: Array) -> Array:
    """Stored labels as int32, IGNORED where there is none."""
    return np.where(stored == UNLABELED, IGNORED, stored.astype(np.int32))


def _collect(votes: SceneVotes) -> MinedScene:
    """Scores and allowed classes of a scene; labels are still to be chosen."""
    no_label = np.zeros(len(votes.num_balls), np.uint8)
    return MinedScene(
        scores=mean_scores(votes).astype(np.float16),
        allowed=allowed_classes(votes),
        label=no_label,
        label_raw=no_label,
        num_balls=votes.num_balls.astype(np.uint16),
    )


def _label(subclouds: Subclouds, scale: ClassScale, directory: pathlib.Path) -> dict[str, Any]:
    """Chooses the labels of every scene and measures all ways of choosing."""
    num_classes = subclouds.tags.shape[1]
    names = (CALIBRATED, RAW, *BASELINES)
    confusions = {name: np.zeros((num_classes, num_classes + 1), np.int64) for name in names}
    unlabeled = []
    frequency = subclouds.tags.mean(axis=0)
    for number, scene in enumerate(subclouds.scenes):
        path = directory / f"{scene}.npz"
        if not path.exists():
            continue  # a scene without a subcloud has no scores
        mined = load_mined(path)
        coords = subclouds.store.voxel_cloud(subclouds.split, scene).coords
        scores = mined.scores.astype(np.float32)
        calibrated = choose_labels(scale.standardise(scores), mined.allowed, coords)
        raw = choose_labels(scores, mined.allowed, coords)
        save_mined(path, mined._replace(label=_stored(calibrated), label_raw=_stored(raw)))
        if not mined.allowed.any():
            unlabeled.append(scene)
        if has_labels(subclouds.store, subclouds.split, scene):
            truth = voxel_labels(subclouds.store, subclouds.split, scene)
            labels = {CALIBRATED: calibrated, RAW: raw}
            for name, choose in BASELINES.items():
                rng = np.random.default_rng((subclouds.config.seed, 4, number))
                scores = choose(mined.allowed, frequency, rng)
                labels[name] = choose_labels(scores, mined.allowed, coords)
            for name, predicted in labels.items():
                confusions[name] += confusion_matrix(truth, predicted, num_classes)
    _report_unlabeled(unlabeled)
    found = {name: _measure(confusion) for name, confusion in confusions.items() if confusion.any()}
    return found | {"unlabeled_scenes": unlabeled}


def _report_unlabeled(scenes: list[str]) -> None:
    if scenes:
        logger.warning(
            "%d scenes are tagged with no class and get no label, which counts as wrong: %s",
            *(len(scenes), ", ".join(scenes)),
        )


def _stored(labels: Array) -> Array:
    return np.where(labels == IGNORED, UNLABELED, labels).astype(np.uint8)


def _measure(confusion: Array) -> dict[str, Any]:
    iou = 100 * class_iou(confusion)
    return {
        "miou": round(float(np.nanmean(iou)), 2),
        "accuracy": round(100 * float(np.trace(confusion) / confusion.sum()), 2),
        "num_classes": int(np.sum(np.isfinite(iou))),
        "iou": [None if np.isnan(value) else round(float(value), 2) for value in iou],
    }


def _scale_values(scale: ClassScale) -> dict[str, Any]:
    return {
        "count": scale.count,
        "total": scale.total.tolist(),
        "total_sq": scale.total_sq.tolist(),
    }
