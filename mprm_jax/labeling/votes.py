"""Merges the class scores of overlapping subclouds into one score per point of a scene."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mprm_jax.batches.balls import BallParts
from mprm_jax.batches.tagged_balls import Subclouds
from mprm_jax.config import Config, MiningConfig
from mprm_jax.errors import UserError
from mprm_jax.models.mprm import Mprm
from mprm_jax.ops.pcam import merge_paths
from mprm_jax.ops.upsampling import nearest_upsample
from mprm_jax.training.outputs import SceneSums, scene_sums
from mprm_jax.types import Array, Batch, MprmOutput


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
        raise UserError(
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
      subclouds: those too large for a bucket vote in parts.
      scenes: places in `subclouds.scenes`.
      progress: called with the number of votes just taken, of the `num_votes`.
    """
    epochs, parts = (None, *range(config.mining.votes - 1)), BallParts(subclouds)
    merged = scene_sums(predict, state, parts, config, mesh, scenes, epochs, progress)
    for scene, found in merged:
        yield scene, _votes(subclouds, scene, found)


def num_votes(subclouds: Subclouds, mining: MiningConfig, scenes: Sequence[int]) -> int:
    """Votes that `scene_votes` takes for some scenes."""
    return int(np.isin(BallParts(subclouds).scene_of, scenes).sum()) * mining.votes


def _votes(subclouds: Subclouds, scene: int, found: SceneSums) -> SceneVotes:
    """Means of the sums, and counts of the balls and their tags: of whole balls, as tagged."""
    num_balls = np.zeros(len(found.sums), np.uint16)
    num_tagged = np.zeros(found.sums.shape, np.uint16)
    for index in np.flatnonzero(subclouds.scene_of == scene):
        rows = subclouds.rows(index)
        num_balls[rows] += 1
        num_tagged[rows] += subclouds.tags[index][None]
    return SceneVotes(found.sums / np.maximum(found.num_votes, 1)[:, None], num_balls, num_tagged)
