"""Tables of measures line up, and their JSON keeps every number."""

import json

import numpy as np
import pytest

from mprm_jax.evaluation.quality import confusion_matrix, measure, measure_values, quality_table

CLASSES = ("wall", "shower curtain", "bathtub")
MEASURE = measure(confusion_matrix(np.array([0, 0, 0, 1]), np.array([0, 0, 1, -1]), 3))


def test_a_table_by_hand():
    columns = {"with tags": MEASURE, "raw": MEASURE._replace(num_points=123456789)}
    assert quality_table(columns, CLASSES).splitlines() == [
        "IoU in %          with tags        raw",
        "wall                   66.7       66.7",
        "shower curtain          0.0        0.0",
        "bathtub                   -          -",
        "mean IoU               33.3       33.3",
        "  over classes       2 of 3     2 of 3",
        "  of those true        33.3       33.3",
        "mean accuracy          33.3       33.3",
        "overall accuracy       50.0       50.0",
        "without a label        25.0        0.0",
        "points                    4  123456789",
    ]


def test_errors_near_borders_are_shown_if_somebody_looked():
    text = quality_table({"a": MEASURE._replace(error_near=0.5, error_far=0.25)}, CLASSES)
    assert "wrong near borders    50.0\nwrong elsewhere       25.0" in text


def test_columns_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="column 'a' measures 3 classes, the table has 2; measure"):
        quality_table({"a": MEASURE}, CLASSES[:2])


def test_json_has_per_cent_and_null_for_an_absent_class():
    values = json.loads(json.dumps(measure_values(MEASURE), allow_nan=False))
    assert values == {
        "miou": 33.33,
        "num_classes": 2,
        "miou_occurring": 33.33,
        "num_occurring": 2,
        "accuracy": 50.0,
        "mean_accuracy": 33.33,
        "num_points": 4,
        "num_unlabeled": 1,
        "error_near_borders": None,
        "error_elsewhere": None,
        "iou": [66.67, 0.0, None],
        "class_accuracy": [66.67, 0.0, None],
    }
