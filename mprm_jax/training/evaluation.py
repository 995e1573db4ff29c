"""Scores a network on the tags of a split; no point label is involved."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mprm_jax.batches.tagged_balls import Subclouds
from mprm_jax.config import Config
from mprm_jax.training.answers import Answers
from mprm_jax.training.hosts import sum_over_hosts
from mprm_jax.training.metrics import average_precision
from mprm_jax.training.steps import TrainState


def tag_precision(
    predict: Callable[[TrainState, Any], Any],
    state: TrainState,
    subclouds: Subclouds,
    config: Config,
    mesh: jax.sharding.Mesh,
) -> dict[str, float]:
    """Average precision of every class over the subclouds of a split, and the mean.

    Every host takes its share of the scenes with its own devices.

    Args:
      predict: step that returns class probabilities [num_devices * B, num_classes].
      state: on the devices of the mesh.
      mesh: of this host's devices.
    """
    scenes = range(jax.process_index(), len(subclouds.scenes), jax.process_count())
    groups = [np.flatnonzero(subclouds.scene_of == scene) for scene in scenes]
    scores = np.zeros(subclouds.tags.shape, np.float32)
    with Answers(predict, state, subclouds, config, mesh) as answers:
        for index, found in answers.of_clouds(groups):
            scores[index] = found
    # Each ball was scored by one host; the others left 0.
    precision = average_precision(sum_over_hosts(scores), subclouds.tags)
    classes = subclouds.store.classes
    values = {f"precision/{name}": value for name, value in zip(classes, precision, strict=True)}
    return values | {"precision": float(np.nanmean(precision))}
