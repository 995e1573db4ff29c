"""Decides which subclouds share a bucket in which step: a pure function of seed and epoch."""

from collections.abc import Sequence

import numpy as np

from mprm_jax.types import Array

# How many subclouds ahead of the next one may be taken early to fill a bucket.
_LOOKAHEAD = 48


def epoch_order(num_subclouds: int, draws: int, seed: int, epoch: int) -> Array:
    """Subclouds of an epoch in visiting order; each pass over all is a fresh permutation.

    An epoch takes the next `draws` (0: all) of an endless row of passes, so that every subcloud is
    drawn equally often whatever the length of an epoch.

    Returns:
      [draws] int64.
    """
    draws = draws or num_subclouds
    first, last = epoch * draws, (epoch + 1) * draws
    passes = range(first // num_subclouds, -(-last // num_subclouds))
    orders = [np.random.default_rng((seed, 0, p)).permutation(num_subclouds) for p in passes]
    start = first - passes.start * num_subclouds
    return np.concatenate(orders)[start : start + draws]


def fill_buckets(
    order: Sequence[int], num_points: Array, max_points: int, max_clouds: int
) -> list[list[int]]:
    """Packs subclouds into buckets, in order but for a short look ahead.

    A bucket starts with the next subcloud and takes whichever of the following ones still fits.

    Args:
      order: subclouds in visiting order.
      num_points: points of each subcloud, indexed by subcloud.

    Raises:
      ValueError: a subcloud fits no bucket.
    """
    waiting = list(order)
    largest = np.max(num_points[waiting], initial=0)
    if largest > max_points or max_clouds < 1:
        raise ValueError(
            f"A subcloud of {largest} points does not fit a bucket of {max_points} points and "
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
      num_points: [S] level-0 points of every subcloud.

    Returns:
      step -> device -> subclouds.
    """
    order = epoch_order(len(num_points), draws, seed, epoch)
    return _steps(fill_buckets(order, num_points, max_points, max_clouds), num_devices)


def sequential_plan(
    num_points: Array, max_points: int, max_clouds: int, num_devices: int
) -> list[list[list[int]]]:
    """Every subcloud once, in order but for the look ahead; as `epoch_plan` returns it."""
    order = range(len(num_points))
    return _steps(fill_buckets(order, num_points, max_points, max_clouds), num_devices)


def _steps(buckets: list[list[int]], num_devices: int) -> list[list[list[int]]]:
    buckets = buckets + [[] for _ in range(-len(buckets) % num_devices)]
    return [buckets[i : i + num_devices] for i in range(0, len(buckets), num_devices)]
