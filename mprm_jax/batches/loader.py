"""Builds the buckets of coming steps ahead of the training loop, in threads or processes."""

import collections
import concurrent.futures
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mprm_jax.batches.balls import Balls
from mprm_jax.batches.bare_buckets import BareBatch, BareBucketBuilder
from mprm_jax.batches.packing import BucketShape, Cloud, Packed, pack
from mprm_jax.batches.plan import mixed
from mprm_jax.batches.shapes import bucket_shape, pyramid_spec
from mprm_jax.config import Config
from mprm_jax.types import Array, Batch
from mprm_jax.worker_processes import explain_lost_workers, make_pool


class LoadedBatch(NamedTuple):
    """The buckets of one step on this host."""

    batch: Batch | BareBatch  # buckets concatenated along the first axis
    members: list[list[int]]  # balls of each bucket
    clouds: Array  # [num_buckets * T_0] int32, cloud of each level-0 row; B on padding
    points: int  # level-0 rows that hold a point
    cut_rows: Array | None  # [num_buckets, L] int64, as of `Packed`; None of bare points
    waited: float  # seconds the caller waited for it


class BucketBuilder:
    """Turns lists of balls into buckets; made once per worker."""

    def __init__(self, balls: Balls, config: Config):
        self.balls = balls
        self.spec = pyramid_spec(config)
        self.shape: BucketShape = bucket_shape(config, balls.num_classes)
        self._augment, self._seed = config.augment, config.seed

    def __call__(self, members: list[list[int]], epoch: int | None) -> Packed:
        """The concatenated buckets of a step."""
        packed = [pack(self._clouds(bucket, epoch), self.shape) for bucket in members]
        return Packed(
            _concatenate([bucket.batch for bucket in packed]),
            np.concatenate([bucket.cut_rows for bucket in packed]),
        )

    def _clouds(self, bucket: list[int], epoch: int | None) -> list[Cloud]:
        return [
            self.balls.cloud(balls, self.spec, epoch, self._augment.drop_color)
            for balls in mixed(bucket, self._augment.mix, self._seed, epoch)
        ]


def make_builder(balls: Balls, config: Config) -> BucketBuilder | BareBucketBuilder:
    """Builds complete buckets, or bare ones if the device computes the geometry."""
    if config.pyramid.builder == "device":
        return BareBucketBuilder(balls, config)
    return BucketBuilder(balls, config)


class Loader:
    """Loads steps in order with a fixed number of them under way.

    A context manager: leaving it stops the workers. The result does not depend on their number.
    """

    def __init__(self, balls: Balls, config: Config):
        self._balls = balls
        self._builder = make_builder(balls, config)
        self._prefetch = max(config.data.prefetch, config.data.workers)
        if config.data.workers == 0:
            self._pool = concurrent.futures.ThreadPoolExecutor(1)
            self._build = self._builder
        else:
            self._pool = make_pool(config.data.workers, _start_worker, (balls, config))
            self._build = _build_in_worker

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def shape(self) -> BucketShape:
        """The static sizes of every bucket."""
        return self._builder.shape

    def example(self) -> Batch:
        """A complete bucket of padding."""
        return pack([], self.shape).batch

    def empty(self) -> Batch | BareBatch:
        """A bucket without balls, as `load` yields it."""
        built = self._builder([[]], 0)
        return built if isinstance(built, BareBatch) else built.batch

    def load(
        self, steps: Sequence[list[list[int]]], epoch: int | None = None
    ) -> Iterator[LoadedBatch]:
        """Yields the batches of `steps` (step -> bucket -> balls) in order.

        Raises:
          ChildProcessError: a worker process was killed.
        """
        remedy = "lower data.workers; the same command continues from the last checkpoint"
        with explain_lost_workers(self._balls.clouds.origin, remedy):
            yield from self._load(steps, epoch)

    def _load(self, steps: Sequence[list[list[int]]], epoch: int | None) -> Iterator[LoadedBatch]:
        waiting = collections.deque()
        todo = iter(steps)
        while True:
            for members in todo:
                waiting.append((members, self._pool.submit(self._build, members, epoch)))
                if len(waiting) >= self._prefetch:
                    break
            if not waiting:
                return
            members, future = waiting.popleft()
            start = time.perf_counter()
            built = future.result()
            waited = time.perf_counter() - start
            if isinstance(built, BareBatch):
                batch, clouds, cut_rows = built, built.clouds, None
            else:
                batch, cut_rows = built
                clouds = batch.pyramid.clouds[0]
            points = int(np.sum(clouds < self.shape.clouds))
            yield LoadedBatch(batch, members, clouds, points, cut_rows, waited)


_worker_builder: BucketBuilder | BareBucketBuilder | None = None


def _start_worker(balls: Balls, config: Config) -> None:
    global _worker_builder
    _worker_builder = make_builder(balls, config)


def _build_in_worker(members: list[list[int]], epoch: int | None) -> Packed | BareBatch:
    return _worker_builder(members, epoch)


def _concatenate(batches: list[Batch]) -> Batch:
    """Buckets one after the other in every array."""

    def join(*parts):
        if isinstance(parts[0], np.ndarray):
            return np.concatenate(parts)
        joined = [join(*entries) for entries in zip(*parts, strict=True)]
        kind = type(parts[0])
        return kind(*joined) if hasattr(kind, "_fields") else kind(joined)

    return join(*batches)
