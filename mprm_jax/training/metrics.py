"""How well clouds are classified: average precision per class."""

import numpy as np

from mprm_jax.types import Array


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
