"""The segmentation stage: weights of its classes, and what it says at the end."""

import pathlib

import numpy as np
import pytest
import runs

from mprm_jax.commands.train_seg import class_weights, summary

RESULTS = {"classes": ["wall", "floor"], "targets": "truth", "seconds": 90.0}
MEASURE = {"miou": 31.26, "num_classes": 2, "accuracy": 80.0, "iou": [62.52, 0.0]}
MEASURE |= {"miou_occurring": 62.52, "num_occurring": 1}


def test_classes_weigh_alike_unless_asked():
    assert class_weights(np.array([1, 2]), runs.small_config(stage="seg")) is None


def test_rare_classes_weigh_by_the_root_of_their_frequency():
    config = runs.small_config("seg.class_weights=inverse_sqrt", stage="seg")
    weights = class_weights(np.array([400, 100, 4]), config)
    assert weights == pytest.approx((1, 2, 10))


def test_a_class_without_targets_has_a_finite_weight():
    config = runs.small_config("seg.class_weights=inverse_sqrt", stage="seg")
    assert np.isfinite(class_weights(np.array([400, 0]), config)).all()


def test_the_summary_names_targets_and_says_that_tags_were_not_used():
    text = summary(RESULTS | {"measures": {"val": MEASURE}}, pathlib.Path("runs/x"))
    assert "trained on truth" in text
    assert "val, without tags: mIoU 31.3 over 2 classes, 62.5 over the 1 that occur" in text
    assert [line.split() for line in text.splitlines()[2:4]] == [["wall", "62.5"], ["floor", "0.0"]]


def test_the_summary_says_when_nothing_was_measured():
    assert "not measured" in summary(RESULTS | {"measures": {}}, pathlib.Path("runs/x"))
