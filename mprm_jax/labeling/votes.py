"""Merges the class scores of overlapping subclouds into one score per point of a scene."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mprm_jax.config import Config, MiningConfig
from mprm_jax.data.loader import Loader
from mprm_jax.data.plan import scene_plan
from mprm_jax.data.subclouds import Subclouds
from mprm_jax.labeling.outputs import subcloud_outputs
from mprm_jax.models.mprm import Mprm
from mprm_jax.ops.pcam import merge_paths
from mprm_jax.ops.upsampling import nearest_upsample
from mprm_jax.types import Array, Batch, MprmOutput

_CHUNK = 16  # scenes whose votes are collected at the same time


class SceneVotes(NamedTuple):
    """What all subclouds of one scene say about its voxels."""

    scores: Array  # [V, num_classes] float32, mean over the balls of a voxel; 0 in no ball
    num_balls: Array  # [V] uint16
    num_tagged: Array  # [V, num_classes] uint16, balls of the voxel that are tagged with the class


def make_mining(model: Mprm, mining: MiningConfig) -> Callable[[Any, Batch], Array]:
    """Returns (variables, bucket) -> point class activation maps [T_0, num_classes].

    Paths are merged on the coarsest level and the result is copied up to level 0 (paper 4.2).

    Raises:
      ValueError: the network was trained without one of the paths.
    """
    trained = model.config.paths
    missing = [path for path in mining.paths if path not in trained]
    if missing:
        raise ValueError(
            f"mining.paths: the network has no path {missing[0]!r}; it was trained with "
            f"{', '.join(trained)}."
        )
    chosen = np.array([trained.index(path) for path in mining.paths or trained])

    def mine(variables: Any, batch: Batch) -> Array:
        output: MprmOutput = model.apply(
            variables, batch.pyramid, batch.features, len(batch.real), train=False
        )
        scores = merge_paths(output.point_scores[chosen], mining.fusion)
        for upsamples in reversed(batch.pyramid.upsamples):
            scores = nearest_upsample(scores, upsamples)
        return scores

    return mine


def scene_votes(
    predict: Callable[[Any, Any], Any],
    state: Any,
    subclouds: Subclouds,
    config: Config,
    mesh: jax.sharding.Mesh,
    scenes: Sequence[int],
    progress: Callable[[int], None],
) -> Iterator[tuple[int, SceneVotes]]:
    """Yields the votes of every scene in order; each subcloud votes `mining.votes` times.

    The first time it lies where it is; then it moves at random as in training.

    Args:
      predict: step that returns the maps of all buckets, [num_devices * T_0, num_classes].
      scenes: places in `subclouds.scenes`.
      progress: called with the number of votes just taken.
    """
    bucket = config.pyramid.bucket_points, config.pyramid.max_clouds
    with Loader(subclouds, config) as loader:
        for chunk in _chunks(scenes):
            plan = scene_plan(subclouds.scene_of, chunk, subclouds.num_points, *bucket, mesh.size)
            sums = {scene: _no_votes(subclouds, scene) for scene in chunk}
            for epoch in (None, *range(config.mining.votes - 1)):
                outputs = subcloud_outputs(predict, state, loader, plan, mesh, epoch)
                for index, scores in outputs:
                    rows = subclouds.read(index).rows[: len(scores)]
                    sums[int(subclouds.scene_of[index])][rows] += scores
                    progress(1)
            for scene in chunk:
                yield scene, _votes(subclouds, scene, sums.pop(scene), config.mining.votes)


def _chunks(scenes: Sequence[int]) -> Iterator[list[int]]:
    waiting = iter(scenes)
    while chunk := list(itertools.islice(waiting, _CHUNK)):
        yield chunk


def _no_votes(subclouds: Subclouds, scene: int) -> Array:
    return np.zeros((subclouds.num_voxels(scene), subclouds.tags.shape[1]), np.float32)


def _votes(subclouds: Subclouds, scene: int, sums: Array, votes: int) -> SceneVotes:
    """Means of the sums, and counts of the balls and their tags."""
    num_balls = np.zeros(len(sums), np.uint16)
    num_tagged = np.zeros(sums.shape, np.uint16)
    for index in np.flatnonzero(subclouds.scene_of == scene):
        rows = subclouds.read(index).rows
        num_balls[rows] += 1
        num_tagged[rows] += subclouds.tags[index][None]
    return SceneVotes(sums / np.maximum(votes * num_balls, 1)[:, None], num_balls, num_tagged)
