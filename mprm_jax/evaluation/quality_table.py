"""Shows measures to people, as columns side by side, and to programs, as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.evaluation.quality import Measure
from mprm_jax.types import Array

ABSENT = "-"  # in place of a number: the class does not occur
_GAP = "  "
_CELL = 6  # at least as wide as "100.0"


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
        ("mean accuracy", [_percent(m.mean_accuracy) for m in measures]),
        ("overall accuracy", [_percent(m.accuracy) for m in measures]),
        ("without a label", [_percent(m.num_unlabeled / m.num_points) for m in measures]),
        ("points", [str(m.num_points) for m in measures]),
    ]
    first = max(len(name) for name, _ in rows)
    widths = [max(_CELL, *(len(row[1][i]) for row in rows)) for i in range(len(measures))]
    return "\n".join(
        _GAP.join([name.ljust(first), *map(str.rjust, cells, widths)]) for name, cells in rows
    )


def measure_values(found: Measure) -> dict[str, Any]:
    """JSON values of a measure, in per cent to two places; null for a class that is absent."""
    return {
        "miou": _rounded(found.mean_iou),
        "num_classes": found.num_classes,
        "accuracy": _rounded(found.accuracy),
        "mean_accuracy": _rounded(found.mean_accuracy),
        "num_points": found.num_points,
        "num_unlabeled": found.num_unlabeled,
        "iou": _all_rounded(found.iou),
        "class_accuracy": _all_rounded(found.class_accuracy),
    }


def _percent(share: float) -> str:
    return ABSENT if np.isnan(share) else f"{100 * share:.1f}"


def _rounded(share: float) -> float:
    return round(100 * float(share), 2)


def _all_rounded(shares: Array) -> list[float | None]:
    return [None if np.isnan(share) else _rounded(share) for share in shares]
