"""Chooses the size of a bucket such that a training step fits a given memory."""

import dataclasses
import logging
from collections.abc import Callable

from mprm_jax.config import Config
from mprm_jax.errors import UserError

logger = logging.getLogger(__name__)

_MULTIPLE = 1024  # rows
_SMALLEST = 2048  # rows; below, fixed costs hide those of a row
_TRIES = 4
_SAFETY = 0.98
_NO_LIMIT = 2**31 - 1  # rows


def whole_balls(config: Config) -> Config:
    """The config to cut out training balls with: whole ones, if the bucket is to hold them."""
    return with_rows(config, _NO_LIMIT) if config.pyramid.memory_gb else config


def with_rows(config: Config, rows: int) -> Config:
    """The config with other `pyramid.bucket_points`."""
    pyramid = dataclasses.replace(config.pyramid, bucket_points=rows)
    return dataclasses.replace(config, pyramid=pyramid)


def fit_memory(
    config: Config, largest: int, most: int, peak_bytes: Callable[[Config], int]
) -> Config:
    """The config with the largest `pyramid.bucket_points` that fits `pyramid.memory_gb`.

    Memory grows with the rows of a bucket nearly in proportion: two small buckets tell how, and
    the one chosen is checked. Every look compiles a step.

    Args:
      config: as it is if its `memory_gb` is 0.
      largest: points of the largest ball, which a bucket should hold.
      most: points of an epoch in each bucket of one step; a larger one would hold padding.
      peak_bytes: of a training step of a config, on one device.

    Raises:
      ValueError: not even that ball fits.
    """
    budget = config.pyramid.memory_gb * 1e9
    if not budget:
        return config
    small = max(_round_up(largest), _SMALLEST)
    first, second = (peak_bytes(with_rows(config, rows)) for rows in (small, 2 * small))
    if first > budget:
        raise UserError(
            f"pyramid.memory_gb is {config.pyramid.memory_gb:g}, but the largest ball needs a "
            f"bucket of {small} points and {first / 1e9:.3g} GB; give more, lower "
            "model.first_features, or use smaller balls or larger voxels."
        )
    fits, bytes_of_fit = (2 * small, second) if second <= budget else (small, first)
    rows = _round_down(small + (budget - first) * small / max(second - first, 1))
    rows = min(rows, _round_up(most))
    for _ in range(_TRIES):
        if rows <= fits:
            break
        found = peak_bytes(with_rows(config, rows))
        if found <= budget:
            fits, bytes_of_fit = rows, found
            break
        share = (budget - bytes_of_fit) / (found - bytes_of_fit)
        rows = _round_down(fits + _SAFETY * share * (rows - fits))
    logger.info(
        "buckets of %d points fit %g GB: a step takes %.3g GB of a device",
        *(fits, config.pyramid.memory_gb, bytes_of_fit / 1e9),
    )
    return with_rows(config, fits)


def _round_up(rows: float) -> int:
    return int(-(-rows // _MULTIPLE) * _MULTIPLE)


def _round_down(rows: float) -> int:
    return int(rows // _MULTIPLE * _MULTIPLE)
