"""Runs a network over subclouds and hands back what it says of each one's rows."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from mprm_jax.data.loader import Loader
from mprm_jax.training.parallel import shard_batch
from mprm_jax.types import Array


def subcloud_outputs(
    predict: Callable[[Any, Any], Any],
    state: Any,
    loader: Loader,
    plan: list[list[list[int]]],
    mesh: jax.sharding.Mesh,
    epoch: int | None = None,
) -> Iterator[tuple[int, Array]]:
    """Yields each subcloud of a plan with its rows of the step's result, [N, ...].

    Args:
      predict: step that returns an array [num_devices * T_0, ...].
      plan: step -> device -> subclouds.
      epoch: whose random motion the subclouds make; None leaves them where they are.
    """
    for loaded in loader.load(plan, epoch):
        results = np.asarray(predict(state, shard_batch(loaded.batch, mesh)))
        results = results.reshape(mesh.size, loader.shape.rows[0], *results.shape[1:])
        clouds = loaded.batch.pyramid.clouds[0].reshape(mesh.size, -1)
        for bucket, members in enumerate(loaded.members):
            sizes = np.bincount(clouds[bucket], minlength=len(members))[: len(members)]
            parts = np.split(results[bucket], np.cumsum(sizes))[:-1]
            yield from zip(members, parts, strict=True)
