"""Runs a network over the balls of scenes and merges what it says of their voxels."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mprm_jax.batches.balls import Balls
from mprm_jax.config import Config
from mprm_jax.training.answers import Answers
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
      predict: step that returns arrays [num_devices * T_0, num_classes].
      scenes: places in `balls.scenes`.
      epochs: whose random motion the balls make; None leaves them where they are.
      progress: called with the number of votes just taken.
    """
    epochs = tuple(epochs)
    with Answers(predict, state, balls, config, mesh) as answers:
        for chunk in _chunks(scenes):
            groups = [np.flatnonzero(balls.scene_of == scene) for scene in chunk]
            merged = {scene: _no_votes(balls, scene) for scene in chunk}
            for epoch in epochs:
                for index, output in answers.of_rows(groups, epoch):
                    rows = balls.read(index).rows
                    of_scene = merged[int(balls.scene_of[index])]
                    of_scene.sums[rows] += output
                    of_scene.num_votes[rows] += 1
                    progress(1)
            for scene in chunk:
                yield scene, merged.pop(scene)


def _chunks(scenes: Sequence[int]) -> Iterator[list[int]]:
    waiting = iter(scenes)
    while chunk := list(itertools.islice(waiting, _CHUNK)):
        yield chunk


def _no_votes(balls: Balls, scene: int) -> SceneSums:
    num_voxels = balls.num_voxels(scene)
    return SceneSums(
        np.zeros((num_voxels, balls.num_classes), np.float32), np.zeros(num_voxels, np.int32)
    )
