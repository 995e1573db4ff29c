"""Decides the label of every point from its class scores and the tags around it (paper eq. 2)."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mprm_jax.labeling.votes import SceneVotes
from mprm_jax.types import IGNORED, Array


class ClassScale(NamedTuple):
    """Mean and deviation of each class's score over all points of a data set.

    Raw scores of different classes are not comparable: a frequent class scores low everywhere.
    Standardising them uses no label. Sums are kept so that scenes can be added one by one.
    """

    count: float
    total: Array  # [num_classes] float64
    total_sq: Array  # [num_classes] float64

    def add(self, scores: Array) -> "ClassScale":
        """With the [V, num_classes] scores of one more scene."""
        scores = scores.astype(np.float64)
        return ClassScale(
            self.count + len(scores),
            self.total + scores.sum(axis=0),
            self.total_sq + np.square(scores).sum(axis=0),
        )

    def standardise(self, scores: Array) -> Array:
        """Scores [V, num_classes] with mean 0 and deviation 1 over the data set."""
        mean = self.total / self.count
        variance = np.maximum(self.total_sq / self.count - np.square(mean), 0.0)
        return ((scores - mean[None]) / np.sqrt(variance + 1e-12)[None]).astype(np.float32)


def empty_scale(num_classes: int) -> ClassScale:
    """The scale of no scene yet."""
    return ClassScale(0.0, np.zeros(num_classes), np.zeros(num_classes))


def mean_scores(votes: SceneVotes) -> Array:
    """Mean class scores [V, num_classes] over the balls of each voxel; 0 in no ball."""
    return votes.sums / np.maximum(votes.num_balls, 1)[:, None]


def allowed_classes(votes: SceneVotes) -> Array:
    """Classes that every ball of a voxel is tagged with, as [V, num_classes] bool.

    The class of an annotated point is a tag of each ball around it, so the intersection holds it.
    Where the intersection is empty, as in unannotated regions, any class tagged around the voxel
    is allowed.
    """
    all_agree = votes.num_tagged == np.maximum(votes.num_balls, 1)[:, None]
    some_left = all_agree.any(axis=1, keepdims=True)
    return np.where(some_left, all_agree, votes.num_tagged > 0)


def choose_labels(scores: Array, allowed: Array, coords: Array) -> Array:
    """The best allowed class of each voxel; without any, that of the nearest voxel with one.

    Args:
      scores: [V, num_classes].
      allowed: [V, num_classes] bool.
      coords: [V, 3] meters.

    Returns:
      [V] int32; IGNORED everywhere if no voxel has an allowed class.
    """
    decided = allowed.any(axis=1)
    if not decided.any():
        return np.full(len(allowed), IGNORED, np.int32)
    labels = np.where(allowed, scores, -np.inf).argmax(axis=1).astype(np.int32)
    if not decided.all():
        _, nearest = cKDTree(coords[decided]).query(coords[~decided])
        labels[~decided] = labels[decided][nearest]
    return labels
