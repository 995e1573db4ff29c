"""Decides which balls share a bucket, or a cloud: a pure function of seed and epoch."""

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
    order: Sequence[int], sizes: Array, rows: int | Sequence[int], max_clouds: int
) -> list[list[int]]:
    """Packs balls into buckets, in order but for a short look ahead.

    A bucket starts with the next ball and takes whichever of the following ones still fits.

    Args:
      order: balls in visiting order.
      sizes: points of each ball, indexed by ball: [S] of level 0, or [S, L] of all levels.
      rows: of a bucket, of level 0 or of all levels.

    Raises:
      ValueError: a ball fits no bucket.
    """
    waiting, rows = [*map(int, order)], np.atleast_1d(rows)
    sizes = sizes[:, None] if sizes.ndim == 1 else sizes
    largest = np.max(sizes[waiting], axis=0, initial=0)
    if (largest > rows).any() or max_clouds < 1:
        raise UserError(
            f"A ball of {_listed(largest)} points does not fit a bucket of {_listed(rows)} points "
            f"and {max_clouds} clouds; calibrate the config for this data."
        )
    buckets = []
    while waiting:
        bucket, free, place = [], rows, 0
        while len(bucket) < max_clouds:
            fits = (sizes[waiting[place:_LOOKAHEAD]] <= free[None]).all(axis=1)
            if not fits.any():
                break
            place += int(fits.argmax())
            free = free - sizes[waiting[place]]
            bucket.append(waiting.pop(place))
        buckets.append(bucket)
    return buckets


def _listed(sizes: Array) -> str:
    return ", ".join(map(str, sizes))


def epoch_plan(
    passes: Sequence[Array],
    num_points: Array,
    *,
    draws: int,
    max_points: int,
    max_clouds: int,
    buckets_per_step: int,
    seed: int,
    epoch: int,
) -> list[list[list[int]]]:
    """The steps of an epoch, each of equally many buckets; in the last step some may be empty.

    Args:
      passes: as of `epoch_order`.
      num_points: [S] level-0 points of every ball.

    Returns:
      step -> bucket -> balls.
    """
    order = epoch_order(passes, draws, seed, epoch)
    return _steps(fill_buckets(order, num_points, max_points, max_clouds), buckets_per_step)


def group_plan(
    groups: Sequence[Array],
    sizes: Sequence[Array],
    rows: Sequence[int],
    max_clouds: int,
    buckets_per_step: int,
) -> list[list[list[int]]]:
    """Every ball of some groups once, group by group; as `epoch_plan` returns it.

    No bucket holds balls of two groups, so that what is computed for a group does not depend on
    the others or on the number of devices, to the last bit.

    Args:
      groups: balls of each group, e.g. those of a scene.
      sizes: [balls of the group, L] points of each at every level.
      rows: of a bucket at every level.
    """
    buckets = []
    for balls, of_group in zip(groups, sizes, strict=True):
        filled = fill_buckets(range(len(balls)), of_group, rows, max_clouds)
        buckets += [[int(balls[i]) for i in bucket] for bucket in filled]
    return _steps(buckets, buckets_per_step)


def mixed(bucket: Sequence[int], share: float, seed: int, epoch: int | None) -> list[list[int]]:
    """The balls of each cloud of a bucket: one, or two that are laid over one another.

    Balls are taken in pairs in their order, and a pair becomes one cloud with probability `share`.

    Args:
      epoch: of training; None mixes nothing.

    Source: Nekrasov et al. 2021, Mix3D.
    """
    if epoch is None or share == 0:
        return [[ball] for ball in bucket]
    clouds = []
    for start in range(0, len(bucket), 2):
        pair = [*bucket[start : start + 2]]
        drawn = np.random.default_rng((seed, 7, epoch, *map(int, pair))).uniform()
        clouds += [pair] if drawn < share else [[ball] for ball in pair]
    return clouds


def _steps(buckets: list[list[int]], buckets_per_step: int) -> list[list[list[int]]]:
    buckets = buckets + [[] for _ in range(-len(buckets) % buckets_per_step)]
    return [buckets[i : i + buckets_per_step] for i in range(0, len(buckets), buckets_per_step)]
