"""Runs a network over balls and hands back what it says of their points, ball by ball or merged."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mprm_jax.config import Config
from mprm_jax.data.balls import Balls
from mprm_jax.data.loader import Loader
from mprm_jax.data.plan import scene_plan
from mprm_jax.training.parallel import shard_batch
from mprm_jax.types import Array

_CHUNK = 16  # scenes whose outputs are merged at the same time


class SceneSums(NamedTuple):
    """What all balls of one scene say about its voxels."""

    sums: Array  # [V, num_classes] float32, over the votes of a voxel
    num_votes: Array  # [V] int32


def scene_sums(
    predict: Callable[[Any, Any], Any],
    state: Any,
    balls: Balls,
    config: Config,
    mesh: jax.sharding.Mesh,
    scenes: Sequence[int],
    epochs: Iterable[int | None],
    progress: Callable[[int], None],
) -> Iterator[tuple[int, SceneSums]]:
    """Yields the merged outputs of every scene in order; each ball votes once per epoch.

    Args:
      predict: step that returns an array [num_devices * T_0, num_classes].
      scenes: places in `balls.scenes`.
      epochs: whose random motion the balls make; None leaves them where they are.
      progress: called with the number of votes just taken.
    """
    bucket = config.pyramid.bucket_points, config.pyramid.max_clouds
    epochs = tuple(epochs)
    with Loader(balls, config) as loader:
        for chunk in _chunks(scenes):
            plan = scene_plan(balls.scene_of, chunk, balls.num_points, *bucket, mesh.size)
            merged = {scene: _no_votes(balls, scene) for scene in chunk}
            for epoch in epochs:
                for index, output in ball_outputs(predict, state, loader, plan, mesh, epoch):
                    rows = balls.read(index).rows[: len(output)]
                    of_scene = merged[int(balls.scene_of[index])]
                    of_scene.sums[rows] += output
                    of_scene.num_votes[rows] += 1
                    progress(1)
            for scene in chunk:
                yield scene, merged.pop(scene)


def ball_outputs(
    predict: Callable[[Any, Any], Any],
    state: Any,
    loader: Loader,
    plan: list[list[list[int]]],
    mesh: jax.sharding.Mesh,
    epoch: int | None = None,
) -> Iterator[tuple[int, Array]]:
    """Yields each ball of a plan with its rows of the step's result, [N, ...].

    Args:
      predict: step that returns an array [num_devices * T_0, ...].
      plan: step -> device -> balls.
      epoch: whose random motion the balls make; None leaves them where they are.
    """
    for loaded in loader.load(plan, epoch):
        results = np.asarray(predict(state, shard_batch(loaded.batch, mesh)))
        results = results.reshape(mesh.size, loader.shape.rows[0], *results.shape[1:])
        clouds = loaded.clouds.reshape(mesh.size, -1)
        for bucket, members in enumerate(loaded.members):
            sizes = np.bincount(clouds[bucket], minlength=len(members))[: len(members)]
            parts = np.split(results[bucket], np.cumsum(sizes))[:-1]
            yield from zip(members, parts, strict=True)


def _chunks(scenes: Sequence[int]) -> Iterator[list[int]]:
    waiting = iter(scenes)
    while chunk := list(itertools.islice(waiting, _CHUNK)):
        yield chunk


def _no_votes(balls: Balls, scene: int) -> SceneSums:
    num_voxels = balls.num_voxels(scene)
    return SceneSums(
        np.zeros((num_voxels, balls.num_classes), np.float32), np.zeros(num_voxels, np.int32)
    )
