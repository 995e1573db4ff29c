"""Scores a network on the tags of a split; no point label is involved."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mprm_jax.config import Config
from mprm_jax.data.loader import Loader
from mprm_jax.data.plan import sequential_plan
from mprm_jax.data.subclouds import Subclouds
from mprm_jax.training.hosts import sum_over_hosts
from mprm_jax.training.metrics import average_precision
from mprm_jax.training.parallel import local_buckets, local_rows, shard_batch
from mprm_jax.training.steps import TrainState


def tag_precision(
    predict: Callable[[TrainState, Any], Any],
    state: TrainState,
    subclouds: Subclouds,
    config: Config,
    mesh: jax.sharding.Mesh,
) -> dict[str, float]:
    """Average precision of every class over the subclouds of a split, and the mean.

    Args:
      predict: step that returns class probabilities [B, num_classes] of every bucket.
    """
    pyramid = config.pyramid
    plan = sequential_plan(
        subclouds.num_points, pyramid.bucket_points, pyramid.max_clouds, mesh.size
    )
    scores = np.zeros(subclouds.tags.shape, np.float32)
    with Loader(subclouds, config) as loader:
        for loaded in loader.load(local_buckets(plan, mesh)):
            found = local_rows(predict(state, shard_batch(loaded.batch, mesh)))
            found = found.reshape(len(loaded.members), pyramid.max_clouds, -1)
            for bucket, members in enumerate(loaded.members):
                scores[members] = found[bucket, : len(members)]
    # Each ball was scored by one host; the others left 0.
    precision = average_precision(sum_over_hosts(scores), subclouds.tags)
    classes = subclouds.store.classes
    values = {f"precision/{name}": value for name, value in zip(classes, precision, strict=True)}
    return values | {"precision": float(np.nanmean(precision))}
