"""Asks a network about balls, in buckets that hold them whole, and merges its answers by scene.

The static sizes of a training run are those of its data. Here they only say how much is computed at
a time: the balls of a bucket that did not fit are computed again, in buckets filled by the rows of
all levels, with more room for a ball that needs it. So no row is left out, whatever the scan.
"""

import collections
import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mprm_jax.batches.balls import Balls
from mprm_jax.batches.loader import LoadedBatch, Loader
from mprm_jax.batches.plan import group_plan
from mprm_jax.config import Config
from mprm_jax.training.inputs import require_narrow
from mprm_jax.training.parallel import shard_batch
from mprm_jax.training.steps import Predicted
from mprm_jax.types import Array

logger = logging.getLogger(__name__)

_LADDER = 1.25  # between the sizes that are tried, so that few programs are compiled
_MULTIPLE = 128  # TPU lanes
# The device moves and coarsens the points by itself: a little more room than the host counts.
_DEVICE_SHARE = 0.96
_CHUNK = 16  # scenes whose outputs are merged at the same time


class _Bucket(NamedTuple):
    """What the network says of one bucket."""

    members: list[int]  # balls
    values: Array  # of the rows or of the places for clouds, first axis
    clouds: Array  # [T_0] int32, cloud of each row


class ReadyNetwork(NamedTuple):
    """A network that can be asked: its compiled step and its weights, on this host's devices."""

    predict: Callable[[Any, Any], Predicted]  # of `make_predict_step`
    state: Any
    config: Config  # calibrated
    mesh: jax.sharding.Mesh


class Answers:
    """A network that is asked about balls. A context manager: leaving it stops its workers."""

    def __init__(self, network: ReadyNetwork, balls: Balls):
        self._predict, self._state, config, self._mesh = network
        self._config = _as_asked(config)
        self._balls = balls
        self._stack = contextlib.ExitStack()
        self._loaders: dict[Config, Loader] = {}

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def of_rows(
        self, groups: Sequence[Array], epoch: int | None = None
    ) -> Iterator[tuple[int, Array]]:
        """Yields each ball with what the network says of its level-0 rows, [N, ...].

        Args:
          groups: balls, e.g. scene by scene; no bucket holds balls of two groups.
          epoch: whose random motion the balls make; None leaves them where they are.
        """
        for bucket in self._buckets(groups, epoch):
            sizes = np.bincount(bucket.clouds, minlength=len(bucket.members))
            ends = np.cumsum(sizes[: len(bucket.members)])
            yield from zip(bucket.members, np.split(bucket.values, ends)[:-1], strict=True)

    def of_clouds(self, groups: Sequence[Array]) -> Iterator[tuple[int, Array]]:
        """Yields each ball with what the network says of it; `groups` as of `of_rows`."""
        for bucket in self._buckets(groups, epoch=None):
            values = bucket.values[: len(bucket.members)]
            yield from zip(bucket.members, values, strict=True)

    def _buckets(self, groups: Sequence[Array], epoch: int | None) -> Iterator[_Bucket]:
        """All balls of the groups in the network's own buckets, or in others if they do not fit."""
        sizes = [self._balls.num_points[balls] for balls in groups]
        left = yield from self._fill(self._config, groups, sizes, epoch)
        if not left:
            return
        logger.debug("%d balls do not fit as they were in training", len(left))
        by_room = collections.defaultdict(list)
        for balls in groups:
            balls = balls[np.isin(balls, left)]
            sizes = np.array([self._balls.level_sizes(int(i), epoch) for i in balls], int)
            if len(balls):
                by_room[self._room(sizes.max(axis=0))].append((balls, sizes))
        for config, members in by_room.items():
            groups, sizes = zip(*members, strict=True)
            while left := (yield from self._fill(config, groups, sizes, epoch)):
                config = _more_room(config)
                kept = [np.isin(balls, left) for balls in groups]
                groups = [balls[here] for balls, here in zip(groups, kept, strict=True)]
                sizes = [of_group[here] for of_group, here in zip(sizes, kept, strict=True)]

    def _fill(
        self, config: Config, groups: Sequence[Array], sizes: Sequence[Array], epoch: int | None
    ) -> Generator[_Bucket, None, list[int]]:
        """Yields the buckets that fit; returns the balls of the others.

        Args:
          sizes: of the balls of each group: [N] level-0 points, or [N, L] of all levels.
        """
        pyramid = config.pyramid
        coarse = [_to_fill(config, rows) for rows in pyramid.coarse_points]
        by_level = any(of_group.ndim > 1 for of_group in sizes)
        rows = [pyramid.bucket_points, *(coarse if by_level else ())]
        plan = group_plan(groups, sizes, rows, pyramid.max_clouds, self._mesh.size)
        left = []
        for loaded in self._loader(config).load(plan, epoch):
            predicted = self._predict(self._state, shard_batch(loaded.batch, self._mesh))
            fits = _fits(loaded, jax.device_get(predicted.overflow))
            for number, bucket in enumerate(_split(loaded, np.asarray(predicted.values))):
                if fits[number]:
                    yield bucket
                else:
                    left += bucket.members
        return left

    def _room(self, largest: Array) -> Config:
        """The config with buckets that hold a ball of these sizes: as trained, if that does.

        Only the ball decides, not what was asked before it, so that its result does not either.
        """
        pyramid = self._config.pyramid
        coarse = []
        for rows, size in zip(pyramid.coarse_points, largest[1:], strict=True):
            while _to_fill(self._config, rows) < size:
                rows = _up(rows * _LADDER)
            coarse.append(rows)
        return _with_pyramid(self._config, coarse_points=tuple(coarse))

    def _loader(self, config: Config) -> Loader:
        if config not in self._loaders:
            self._loaders[config] = self._stack.enter_context(Loader(self._balls, config))
        return self._loaders[config]


class SceneSums(NamedTuple):
    """What all balls of one scene say about its voxels."""

    sums: Array  # [V, num_classes] float32, over the votes of a voxel
    num_votes: Array  # [V] int32


def scene_sums(
    network: ReadyNetwork,
    balls: Balls,
    scenes: Sequence[int],
    epochs: Iterable[int | None],
    progress: Callable[[int], None],
) -> Iterator[tuple[int, SceneSums]]:
    """Yields the merged outputs of every scene in order; each ball votes once per epoch.

    Args:
      network: its step returns arrays [num_devices * T_0, num_classes].
      scenes: places in `balls.scenes`.
      epochs: whose random motion the balls make; None leaves them where they are.
      progress: called with the number of votes just taken.
    """
    epochs = tuple(epochs)
    with Answers(network, balls) as answers:
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


def _as_asked(config: Config) -> Config:
    """The config without what training alone does: also balls that move are seen as they are."""
    augment = dataclasses.replace(config.augment, drop_color=0.0, mix=0.0)
    return dataclasses.replace(config, augment=augment)


def _split(loaded: LoadedBatch, values: Array) -> Iterator[_Bucket]:
    parts = np.split(values, len(loaded.members))
    clouds = np.split(loaded.clouds, len(loaded.members))
    for members, part, of_part in zip(loaded.members, parts, clouds, strict=True):
        yield _Bucket(members, part, of_part)


def _fits(loaded: LoadedBatch, overflow: dict[str, Array]) -> Array:
    """Whether all rows of a bucket, and all candidates for its lists, had room, [num_buckets]."""
    require_narrow(overflow)
    fits = np.ones(len(loaded.members), bool)
    if loaded.cut_rows is not None:  # counted by the host
        fits &= ~loaded.cut_rows.any(axis=1)
    for count in overflow.values():
        fits &= count == 0
    return fits


def _more_room(config: Config) -> Config:
    pyramid = config.pyramid
    sizes = ("coarse_points", "candidates", "upsample_candidates")
    larger = {
        name: tuple(min(_up(x * _LADDER), pyramid.bucket_points) for x in getattr(pyramid, name))
        for name in sizes
    }
    return _with_pyramid(config, **larger)


def _with_pyramid(config: Config, **changes: Any) -> Config:
    return dataclasses.replace(config, pyramid=dataclasses.replace(config.pyramid, **changes))


def _to_fill(config: Config, rows: int) -> int:
    """Rows of a coarser level that the host fills, by its own count."""
    return int(rows * _DEVICE_SHARE) if config.pyramid.builder == "device" else rows


def _up(rows: float) -> int:
    return int(-(-rows // _MULTIPLE) * _MULTIPLE)


def _chunks(scenes: Sequence[int]) -> Iterator[list[int]]:
    waiting = iter(scenes)
    while chunk := list(itertools.islice(waiting, _CHUNK)):
        yield chunk


def _no_votes(balls: Balls, scene: int) -> SceneSums:
    num_voxels = balls.num_voxels(scene)
    return SceneSums(
        np.zeros((num_voxels, balls.num_classes), np.float32), np.zeros(num_voxels, np.int32)
    )
