"""Decides which balls share a bucket in which step: a pure function of seed and epoch."""

from collections.abc import Sequence

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.types import Array

# How many balls ahead of the next one may be taken early to fill a bucket.
_LOOKAHEAD = 48


def epoch_order(passes: Sequence[Array], draws: int, seed: int, epoch: int) -> Array:
    """Balls of an epoch in visiting order; each pass is a fresh permutation.

    An epoch takes the next `draws` of an endless row of passes, so that every ball is drawn
    equally often whatever the length of an epoch; with 0 draws it is one pass.

    Args:
      passes: balls that a pass visits; passes take these lists in turn.

    Returns:
      [draws] int64.
    """
    if draws == 0:
        return _pass_order(passes, seed, epoch)
    sizes = [len(balls) for balls in passes]
    rounds, start = divmod(epoch * draws, sum(sizes))
    number = rounds * len(passes)
    while start >= sizes[number % len(passes)]:
        start -= sizes[number % len(passes)]
        number += 1
    order = _pass_order(passes, seed, number)[start:]
    while len(order) < draws:
        number += 1
        order = np.concatenate([order, _pass_order(passes, seed, number)])
    return order[:draws]


def _pass_order(passes: Sequence[Array], seed: int, number: int) -> Array:
    balls = passes[number % len(passes)]
    return balls[np.random.default_rng((seed, 0, number)).permutation(len(balls))]


def fill_buckets(
    order: Sequence[int], num_points: Array, max_points: int, max_clouds: int
) -> list[list[int]]:
    """Packs balls into buckets, in order but for a short look ahead.

    A bucket starts with the next ball and takes whichever of the following ones still fits.

    Args:
      order: balls in visiting order.
      num_points: points of each ball, indexed by ball.

    Raises:
      ValueError: a ball fits no bucket.
    """
    waiting = list(order)
    largest = np.max(num_points[waiting], initial=0)
    if largest > max_points or max_clouds < 1:
        raise UserError(
            f"A ball of {largest} points does not fit a bucket of {max_points} points and "
            f"{max_clouds} clouds; calibrate the config for this data."
        )
    buckets = []
    while waiting:
        bucket, free, place = [], max_points, 0
        while place < min(len(waiting), _LOOKAHEAD) and len(bucket) < max_clouds:
            size = num_points[waiting[place]]
            if size <= free:
                free -= size
                bucket.append(int(waiting.pop(place)))
            else:
                place += 1
        buckets.append(bucket)
    return buckets


def epoch_plan(
    passes: Sequence[Array],
    num_points: Array,
    *,
    draws: int,
    max_points: int,
    max_clouds: int,
    num_devices: int,
    seed: int,
    epoch: int,
) -> list[list[list[int]]]:
    """The steps of an epoch; each step has one bucket per device, some empty in the last step.

    Args:
      passes: as of `epoch_order`.
      num_points: [S] level-0 points of every ball.

    Returns:
      step -> device -> balls.
    """
    order = epoch_order(passes, draws, seed, epoch)
    return _steps(fill_buckets(order, num_points, max_points, max_clouds), num_devices)


def sequential_plan(
    num_points: Array, max_points: int, max_clouds: int, num_devices: int
) -> list[list[list[int]]]:
    """Every ball once, in order but for the look ahead; as `epoch_plan` returns it."""
    order = range(len(num_points))
    return _steps(fill_buckets(order, num_points, max_points, max_clouds), num_devices)


def scene_plan(
    scene_of: Array,
    scenes: Sequence[int],
    num_points: Array,
    max_points: int,
    max_clouds: int,
    num_devices: int,
) -> list[list[list[int]]]:
    """Every ball of some scenes once, scene by scene; as `epoch_plan` returns it.

    No bucket holds balls of two scenes, so that what is computed for a scene does not depend
    on the other scenes or on the number of devices, to the last bit.

    Args:
      scene_of: [S] scene of every ball.
    """
    buckets = []
    for scene in scenes:
        order = np.flatnonzero(scene_of == scene)
        buckets += fill_buckets(order, num_points, max_points, max_clouds)
    return _steps(buckets, num_devices)


def _steps(buckets: list[list[int]], num_devices: int) -> list[list[list[int]]]:
    buckets = buckets + [[] for _ in range(-len(buckets) % num_devices)]
    return [buckets[i : i + num_devices] for i in range(0, len(buckets), num_devices)]
