"""Measures pseudo-labels against ground truth, beside what the tags alone would give."""

from typing import Any

import numpy as np

from mprm_jax.evaluation.borders import near_borders
from mprm_jax.evaluation.quality import Measure, confusion_matrix, measure
from mprm_jax.labeling.choice import ClassScale, decide, has_scores, standardise
from mprm_jax.store.exports import Export, ExportedScene, as_labels
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.truth import has_labels, voxel_labels
from mprm_jax.types import Array

# How labels are chosen; the first two from the mined scores, the others from tags alone.
CALIBRATED, RAW = "calibrated", "raw"


def measure_labels(export: Export, store: SceneStore) -> Measure | None:
    """Measures the exported labels by voxel; None if no scene has ground truth."""
    return _measure(export, store, lambda scene, _: {"": as_labels(scene.label)}).get("")


def measure_choices(export: Export, store: SceneStore, seed: int) -> dict[str, Measure]:
    """Measures the ways of choosing labels from the same scores, and from the tags alone.

    Returns:
      CALIBRATED, RAW (the paper's argmax) and BASELINES; empty if no scene has ground truth.
    """
    settings: dict[str, Any] = export.manifest.settings
    scale = ClassScale(**{key: np.array(x) for key, x in settings["class_scale"].items()})
    frequency = np.array(settings["tag_frequency"])

    def choose(scene: ExportedScene, name: str) -> dict[str, Array]:
        coords = store.voxel_cloud(export.manifest.split, name).coords
        scores = scene.scores.astype(np.float32)
        found = {CALIBRATED: standardise(scores, scale), RAW: scores}
        for baseline, score in BASELINES.items():
            rng = np.random.default_rng((seed, 4, export.scenes.index(name)))
            found[baseline] = score(scene.allowed, frequency, rng)
        scored = has_scores(scene.num_balls)
        return {way: decide(x, scene.allowed, coords, scored).label for way, x in found.items()}

    return _measure(export, store, choose)


def random_labels(allowed: Array, _: Array, rng: np.random.Generator) -> Array:
    """Scores whose best allowed class is a random one, as [V, num_classes]."""
    return rng.random(allowed.shape, np.float32)


def frequent_labels(allowed: Array, frequency: Array, _: np.random.Generator) -> Array:
    """Scores whose best allowed class is the most frequent tag, as [V, num_classes].

    Args:
      frequency: [num_classes], share of the balls that are tagged with the class.
    """
    return np.broadcast_to(frequency[None], allowed.shape)


def _measure(export: Export, store: SceneStore, choose: Any) -> dict[str, Measure]:
    """Measures what `choose` (scene, name) -> {way: labels} makes of every scene."""
    split, num_classes = export.manifest.split, len(export.classes)
    confusions: dict[str, Array] = {}  # of all voxels, and of those near borders
    for name in export.scenes:
        if has_labels(store, split, name):
            truth = voxel_labels(store, split, name)
            near = near_borders(store.voxel_cloud(split, name).coords, truth)
            for way, labels in choose(export.load(name), name).items():
                counts = np.stack(
                    [
                        confusion_matrix(truth, labels, num_classes),
                        confusion_matrix(truth[near], labels[near], num_classes),
                    ]
                )
                confusions[way] = confusions.get(way, 0) + counts
    return {way: measure(*counts) for way, counts in confusions.items() if counts.any()}


BASELINES = {"random allowed class": random_labels, "most frequent allowed class": frequent_labels}
