"""Intersection over union of labels against ground truth, from one confusion matrix."""

import numpy as np

from mprm_jax.types import Array


def confusion_matrix(truth: Array, predicted: Array, num_classes: int) -> Array:
    """Counts [num_classes, num_classes + 1] int64, rows are truth; the last column has no label.

    Unannotated points do not count; annotated ones without a predicted label count as wrong.

    Args:
      truth: [N] int32 in [-1, num_classes).
      predicted: [N] int32 in [-1, num_classes).
    """
    known = truth >= 0
    columns = np.where(predicted[known] >= 0, predicted[known], num_classes)
    cells = truth[known].astype(np.int64) * (num_classes + 1) + columns
    counts = np.bincount(cells, minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1)


def class_iou(confusion: Array) -> Array:
    """IoU of each class, [num_classes]; NaN for a class in neither truth nor prediction."""
    hits = np.diag(confusion).astype(np.float64)
    union = confusion[:, :-1].sum(axis=0) + confusion.sum(axis=1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_iou(confusion: Array) -> float:
    """Mean IoU over the classes that occur."""
    return float(np.nanmean(class_iou(confusion)))
