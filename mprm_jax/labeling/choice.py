"""Decides the label of every point from its class scores and the tags around it (paper eq. 2)."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mprm_jax.errors import UserError
from mprm_jax.store.exports import Export, ExportedScene
from mprm_jax.types import IGNORED, Array


class ScoreSums(NamedTuple):
    """What a scene adds to the mean and deviation of each class's score."""

    count: Array  # [] float64, points
    total: Array  # [num_classes] float64
    total_sq: Array  # [num_classes] float64


class ClassScale(NamedTuple):
    """Mean and deviation of each class's score over all points of a data set."""

    mean: Array  # [num_classes] float64
    deviation: Array  # [num_classes] float64


class Decision(NamedTuple):
    """The pseudo-labels of a scene."""

    label: Array  # [V] int32; IGNORED everywhere if no voxel has an allowed class
    confidence: Array  # [V] float32, softmax of the scores over the allowed classes; 0 for none


def score_sums(scores: Array) -> ScoreSums:
    """The sums of [V, num_classes] scores."""
    scores = scores.astype(np.float64)
    return ScoreSums(np.float64(len(scores)), scores.sum(axis=0), np.square(scores).sum(axis=0))


def class_scale(scenes: Iterable[ScoreSums]) -> ClassScale:
    """Mean and deviation over the points of all scenes.

    Raw scores of different classes are not comparable: a frequent class scores low everywhere.
    Standardising them uses no label.

    Raises:
      ValueError: there is no point.
    """
    count, total, total_sq = (sum(parts) for parts in zip(*scenes, strict=True))
    if not count:
        raise UserError("no point lies in a tagged ball, so there are no scores to compare.")
    mean = total / count
    variance = np.maximum(total_sq / count - np.square(mean), 0.0)
    return ClassScale(mean, np.sqrt(variance + 1e-12))


def standardise(scores: Array, scale: ClassScale) -> Array:
    """Scores [V, num_classes] float32 with mean 0 and deviation 1 over the data set."""
    scores = (scores.astype(np.float64) - scale.mean[None]) / scale.deviation[None]
    return scores.astype(np.float32)


def decide(scores: Array, allowed: Array, coords: Array, scored: Array | None = None) -> Decision:
    """The best allowed class of each voxel.

    A voxel without scores takes the label of the nearest voxel that has one, unless a single class
    is left to it. One that may have no class gets no label.

    Args:
      scores: [V, num_classes].
      allowed: [V, num_classes] bool; classes outside are excluded, never multiplied by zero.
      coords: [V, 3] meters.
      scored: [V] bool, the voxel has scores; all have if None.
    """
    scored = np.ones(len(allowed), bool) if scored is None else scored
    num_left = allowed.sum(axis=1)
    decided = (num_left == 1) | ((num_left > 1) & scored)
    label = np.full(len(allowed), IGNORED, np.int32)
    confidence = np.zeros(len(allowed), np.float32)
    if not decided.any():
        return Decision(label, confidence)
    masked = np.where(allowed, scores.astype(np.float32), -np.inf)[decided]
    label[decided] = masked.argmax(axis=1)
    best = masked.max(axis=1, keepdims=True)
    confidence[decided] = 1.0 / np.exp(masked - best).sum(axis=1)
    open_ = ~decided & ((num_left > 0) | ~scored)
    if open_.any():
        _, nearest = cKDTree(coords[decided]).query(coords[open_])
        label[open_] = label[decided][nearest]
        confidence[open_] = confidence[decided][nearest]
    return Decision(label, confidence)


def has_scores(num_balls: Array) -> Array:
    """Voxels [V] bool whose scores count in `decide`: those in a ball.

    In a scene without balls all do, so that no label spreads from its clicks to what is unlike.

    Args:
      num_balls: [V], balls that hold the voxel.
    """
    return (num_balls > 0) | (not num_balls.any())


def exported_probabilities(
    export: Export, scene: ExportedScene, allowed: Array | None = None
) -> Array:
    """Softmax of the scores that labels were chosen by, over the allowed classes, [V, C] float32.

    Rows without an allowed class are 0. Marginals of a CRF are given as they are.

    Args:
      allowed: [V, C] bool; as exported if None.
    """
    allowed = scene.allowed if allowed is None else allowed
    settings: dict[str, Any] = export.manifest.settings
    scores = scene.scores.astype(np.float32)
    if "refined" in settings:
        return scores
    if "predicted" in settings:
        return over_prior(scores, np.array(settings["prior"]), allowed)
    if settings["mining"]["calibration"] == "class":
        scale = ClassScale(**{key: np.array(x) for key, x in settings["class_scale"].items()})
        scores = standardise(scores, scale)
    scores = np.where(allowed, scores, -np.inf)
    best = np.where(allowed.any(axis=1), scores.max(axis=1), 0.0)
    exponentials = np.exp(scores - best[:, None])
    return exponentials / np.maximum(exponentials.sum(axis=1, keepdims=True), 1e-30)


def over_prior(probabilities: Array, prior: Array, allowed: Array) -> Array:
    """Probabilities divided by how much of each class there is, [V, C] float32.

    Rows sum to 1 over the allowed classes; those without one are 0.

    Args:
      probabilities: [V, C] float32, of a network that was trained on the exported scenes.
      prior: [C], their mean over all voxels of these scenes.
      allowed: [V, C] bool.
    """
    shares = np.where(allowed, probabilities / np.maximum(prior, 1e-6)[None], 0.0)
    return (shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-30)).astype(np.float32)
