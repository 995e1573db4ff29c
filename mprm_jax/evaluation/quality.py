"""Measures labels against ground truth, from one confusion matrix summed over scenes.

ScanNet and S3DIS are measured alike: points of all scenes go into one matrix, never scene by
scene. On ScanNet the points are mesh vertices, those outside the 20 classes do not count, and a
vertex without a label is a miss but no false positive. On S3DIS every point counts, over 13
classes, on Area 5 or, with the matrices of `sum_six_areas`, on all six.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.types import IGNORED, Array

S3DIS_AREAS = (1, 2, 3, 4, 5, 6)
ABSENT = "-"  # in place of a number: the class does not occur
_GAP = "  "
_CELL = 6  # at least as wide as "100.0"


class Measure(NamedTuple):
    """How good labels are; shares in [0, 1].

    Sources of the rules: ScanNet, `evaluate_semantic_label.py`; S3DIS, Pointcept's tester. Both
    are met where every class occurs. Else the first ends without a result and the second scores
    an absent class 0; here `num_classes` says how many the mean covers.
    """

    iou: Array  # [num_classes]; NaN for a class in neither truth nor prediction
    class_accuracy: Array  # [num_classes], share of a class's points found; NaN if it has none
    mean_iou: float  # over the classes that have one
    num_classes: int  # that `mean_iou` covers
    mean_accuracy: float  # over the classes that occur in the truth
    accuracy: float  # share of all annotated points
    occurring_iou: float  # mean over the classes that occur in the truth, for comparisons
    num_occurring: int  # that it covers
    num_points: int  # annotated
    num_unlabeled: int  # annotated points without a predicted label, which count as wrong
    error_near: float  # share of wrong ones near the border of a class; NaN if not looked at
    error_far: float  # ... and farther away


def measure(confusion: Array, near: Array | None = None) -> Measure:
    """Measures from the sum of the confusion matrices of all scenes.

    Args:
      confusion: [num_classes, num_classes + 1], as of `confusion_matrix`.
      near: that of the points near the border of a class, see `evaluation.borders`.

    Raises:
      ValueError: no point is annotated.
    """
    num_points = int(confusion.sum())
    if not num_points:
        raise UserError("no annotated point, so nothing to measure; choose a split with labels.")
    iou, class_accuracy = class_iou(confusion), _class_accuracy(confusion)
    occurs = confusion.sum(axis=1) > 0
    return Measure(
        iou=iou,
        class_accuracy=class_accuracy,
        mean_iou=float(np.nanmean(iou)),
        num_classes=int(np.sum(np.isfinite(iou))),
        mean_accuracy=float(np.nanmean(class_accuracy)),
        accuracy=float(np.trace(confusion) / num_points),
        occurring_iou=float(np.mean(iou[occurs])),
        num_occurring=int(occurs.sum()),
        num_points=num_points,
        num_unlabeled=int(confusion[:, -1].sum()),
        error_near=np.nan if near is None else _error(near),
        error_far=np.nan if near is None else _error(confusion - near),
    )


def confusion_matrix(truth: Array, predicted: Array, num_classes: int) -> Array:
    """Counts [num_classes, num_classes + 1] int64, rows are truth; the last column has no label.

    Unannotated points do not count; annotated ones without a predicted label count as wrong.

    Args:
      truth: [N] integers in [-1, num_classes).
      predicted: [N] integers in [-1, num_classes).

    Raises:
      ValueError: lengths differ, or a label is none of the classes.
    """
    if len(truth) != len(predicted):
        raise UserError(
            f"{len(truth)} true labels but {len(predicted)} predicted ones; "
            "both must be of the same points in the same order."
        )
    for what, labels in (("true", truth), ("predicted", predicted)):
        wrong = (labels < IGNORED) | (labels >= num_classes)
        if wrong.any():
            raise UserError(
                f"{what} label {labels[wrong][0]} is not among {num_classes} classes; "
                f"give class indices, and {IGNORED} for none."
            )
    known = truth >= 0
    columns = np.where(predicted[known] >= 0, predicted[known], num_classes)
    cells = truth[known].astype(np.int64) * (num_classes + 1) + columns
    counts = np.bincount(cells, minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1)


def sum_six_areas(confusions: Mapping[int, Array]) -> Array:
    """Confusion matrix of S3DIS's 6-fold rule, from that of each area under its own network.

    The matrices are summed and measured once; the six IoUs are not averaged.

    Raises:
      ValueError: an area is missing or unknown.
    """
    if sorted(confusions) != list(S3DIS_AREAS):
        raise UserError(
            f"6-fold over areas {', '.join(map(str, sorted(confusions))) or 'none'}; "
            "measure each of Area_1 to Area_6 with a network trained on the other five."
        )
    return sum(confusions[area] for area in S3DIS_AREAS)


def class_iou(confusion: Array) -> Array:
    """IoU of each class, [num_classes]; NaN for a class in neither truth nor prediction."""
    hits = np.diag(confusion).astype(np.float64)
    union = confusion[:, :-1].sum(axis=0) + confusion.sum(axis=1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def quality_table(columns: Mapping[str, Measure], classes: Sequence[str]) -> str:
    """Lines of text: the IoU of each class and the means, in per cent, one column per measure.

    Args:
      columns: measures by column name, such as "with tags" and "without tags".
      classes: names in index order.

    Raises:
      ValueError: a measure is of other classes.
    """
    for name, found in columns.items():
        if len(found.iou) != len(classes):
            raise UserError(
                f"column {name!r} measures {len(found.iou)} classes, the table has "
                f"{len(classes)}; measure all columns on one class list."
            )
    measures = tuple(columns.values())
    rows = [
        ("IoU in %", tuple(columns)),
        *((name, [_percent(m.iou[i]) for m in measures]) for i, name in enumerate(classes)),
        ("mean IoU", [_percent(m.mean_iou) for m in measures]),
        ("  over classes", [f"{m.num_classes} of {len(classes)}" for m in measures]),
        ("  of those true", [_percent(m.occurring_iou) for m in measures]),
        ("mean accuracy", [_percent(m.mean_accuracy) for m in measures]),
        ("overall accuracy", [_percent(m.accuracy) for m in measures]),
        *_border_rows(measures),
        ("without a label", [_percent(m.num_unlabeled / m.num_points) for m in measures]),
        ("points", [str(m.num_points) for m in measures]),
    ]
    first = max(len(name) for name, _ in rows)
    widths = [max(_CELL, *(len(row[1][i]) for row in rows)) for i in range(len(measures))]
    return "\n".join(
        _GAP.join([name.ljust(first), *map(str.rjust, cells, widths)]) for name, cells in rows
    )


def _border_rows(measures: Sequence[Measure]) -> list[tuple[str, list[str]]]:
    """Errors near borders and elsewhere, if somebody looked at them."""
    if all(np.isnan(m.error_near) and np.isnan(m.error_far) for m in measures):
        return []
    return [
        ("wrong near borders", [_percent(m.error_near) for m in measures]),
        ("wrong elsewhere", [_percent(m.error_far) for m in measures]),
    ]


def measure_values(found: Measure) -> dict[str, Any]:
    """JSON values of a measure, in per cent to two places; null for a class that is absent."""
    return {
        "miou": _rounded(found.mean_iou),
        "num_classes": found.num_classes,
        "miou_occurring": _rounded(found.occurring_iou),
        "num_occurring": found.num_occurring,
        "accuracy": _rounded(found.accuracy),
        "mean_accuracy": _rounded(found.mean_accuracy),
        "num_points": found.num_points,
        "num_unlabeled": found.num_unlabeled,
        "error_near_borders": _all_rounded([found.error_near])[0],
        "error_elsewhere": _all_rounded([found.error_far])[0],
        "iou": _all_rounded(found.iou),
        "class_accuracy": _all_rounded(found.class_accuracy),
    }


def _class_accuracy(confusion: Array) -> Array:
    hits = np.diag(confusion).astype(np.float64)
    total = confusion.sum(axis=1)
    return np.divide(hits, total, out=np.full(len(hits), np.nan), where=total > 0)


def _error(confusion: Array) -> float:
    """Share of wrong points; NaN of none."""
    total = confusion.sum()
    return float(1 - np.trace(confusion) / total) if total else np.nan


def _percent(share: float) -> str:
    return ABSENT if np.isnan(share) else f"{100 * share:.1f}"


def _rounded(share: float) -> float:
    return round(100 * float(share), 2)


def _all_rounded(shares: Array | Sequence[float]) -> list[float | None]:
    return [None if np.isnan(share) else _rounded(share) for share in shares]
