"""Merges the class scores of overlapping subclouds into one score per point of a scene."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from mprm_jax.config import Config
from mprm_jax.data.loader import Loader
from mprm_jax.data.plan import sequential_plan
from mprm_jax.data.subclouds import Subclouds
from mprm_jax.models.mprm import Mprm
from mprm_jax.ops.pcam import merge_paths
from mprm_jax.ops.upsampling import nearest_upsample
from mprm_jax.training.parallel import shard_batch
from mprm_jax.types import Array, Batch, MprmOutput


class SceneVotes(NamedTuple):
    """What all subclouds of one scene say about its voxels."""

    sums: Array  # [V, num_classes] float32, class scores summed over the balls of a voxel
    num_balls: Array  # [V] int32
    num_tagged: Array  # [V, num_classes] int32, balls of the voxel that are tagged with the class


def make_mining(model: Mprm, config: Config) -> Callable[[Any, Batch], Array]:
    """Returns (variables, bucket) -> point class activation maps [T_0, num_classes].

    Paths are merged on the coarsest level and the result is copied up to level 0 (paper 4.2).
    """

    def mine(variables: Any, batch: Batch) -> Array:
        output: MprmOutput = model.apply(
            variables, batch.pyramid, batch.features, len(batch.real), train=False
        )
        scores = merge_paths(output.point_scores, config.mining.fusion)
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
    progress: Callable[[int], None],
) -> Iterator[tuple[str, SceneVotes]]:
    """Yields the votes of every scene of a split, each as soon as its last subcloud is done.

    Args:
      predict: step that returns the maps of all buckets, [num_devices * T_0, num_classes].
      progress: called with the number of subclouds just done.
    """
    pyramid = config.pyramid
    plan = sequential_plan(
        subclouds.num_points, pyramid.bucket_points, pyramid.max_clouds, mesh.size
    )
    missing = np.bincount(subclouds.scene_of, minlength=len(subclouds.scenes))
    open_votes: dict[int, SceneVotes] = {}
    with Loader(subclouds, config) as loader:
        for loaded in loader.load(plan):
            maps = np.asarray(predict(state, shard_batch(loaded.batch, mesh)))
            maps = maps.reshape(mesh.size, pyramid.bucket_points, -1)
            for bucket, members in enumerate(loaded.members):
                clouds = loaded.batch.pyramid.clouds[0].reshape(mesh.size, -1)[bucket]
                sizes = np.bincount(clouds, minlength=len(members))[: len(members)]
                for index, scores in zip(
                    members, np.split(maps[bucket], np.cumsum(sizes))[:-1], strict=True
                ):
                    scene = int(subclouds.scene_of[index])
                    if scene not in open_votes:
                        open_votes[scene] = _no_votes(subclouds, scene)
                    _add(open_votes[scene], subclouds, index, scores)
                    missing[scene] -= 1
                    if missing[scene] == 0:
                        yield subclouds.scenes[scene], open_votes.pop(scene)
                progress(len(members))


def _no_votes(subclouds: Subclouds, scene: int) -> SceneVotes:
    num_voxels = subclouds.num_voxels(scene)
    num_classes = subclouds.tags.shape[1]
    return SceneVotes(
        np.zeros((num_voxels, num_classes), np.float32),
        np.zeros(num_voxels, np.int32),
        np.zeros((num_voxels, num_classes), np.int32),
    )


def _add(votes: SceneVotes, subclouds: Subclouds, index: int, scores: Array) -> None:
    rows = subclouds.read(index).rows[: len(scores)]
    votes.sums[rows] += scores
    votes.num_balls[rows] += 1
    votes.num_tagged[rows] += subclouds.tags[index][None]
