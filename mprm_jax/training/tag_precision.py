"""Scores a network on the tags of a split; no point label is involved."""

import jax
import numpy as np

from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.training.answers import Answers, ReadyNetwork
from mprm_jax.training.hosts import sum_over_hosts
from mprm_jax.types import Array


def tag_precision(network: ReadyNetwork, balls: TaggedBalls) -> dict[str, float]:
    """Average precision of every class over the tagged balls of a split, and the mean.

    Every host takes its share of the scenes with its own devices.

    Args:
      network: its step returns class probabilities [num_devices * B, num_classes].
    """
    scenes = range(jax.process_index(), len(balls.scenes), jax.process_count())
    groups = [np.flatnonzero(balls.scene_of == scene) for scene in scenes]
    scores = np.zeros(balls.tags.shape, np.float32)
    with Answers(network, balls) as answers:
        for index, found in answers.of_clouds(groups):
            scores[index] = found
    # Each ball was scored by one host; the others left 0.
    precision = average_precision(sum_over_hosts(scores), balls.tags)
    classes = balls.store.classes
    values = {f"precision/{name}": value for name, value in zip(classes, precision, strict=True)}
    return values | {"precision": float(np.nanmean(precision))}


def average_precision(scores: Array, labels: Array) -> Array:
    """Area under the precision-recall curve of each class, as the mean precision at its hits.

    Clouds of equal score are taken together: precision is that of the whole group.

    Args:
      scores: [S, num_classes], the higher the likelier.
      labels: [S, num_classes] bool.

    Returns:
      [num_classes] float64 in [0, 1]; NaN for a class that no cloud has.
    """
    return np.array([_one_class(s, y) for s, y in zip(scores.T, labels.T, strict=True)])


def _one_class(scores: Array, labels: Array) -> float:
    if not labels.any():
        return np.nan
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], labels[order]
    group_ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits = np.cumsum(labels)[group_ends]
    precision = hits / (group_ends + 1)
    return float(np.sum(precision * np.diff(hits, prepend=0)) / hits[-1])
