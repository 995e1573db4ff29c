"""Says when a bucket whose geometry was computed on the device did not fit its static sizes."""

import functools
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from mprm_jax.errors import UserError

logger = logging.getLogger(__name__)

_MESSAGES = {
    "rows": "points of level %s exceed pyramid.coarse_points and are left out",
    "candidates": "lists into level %s leave out some points near a query, which exceed "
    "pyramid.candidates or pyramid.upsample_candidates",
}


def check_overflow(values: Mapping[str, Any]) -> None:
    """Warns, once for each kind and level, of what `cut/...` counts.

    Raises:
      ValueError: the balls are too wide to tell their cells apart.
    """
    require_narrow(values)
    for name, count in values.items():
        kind, _, level = name.removeprefix("cut/").partition("_level")
        if name.startswith("cut/") and kind in _MESSAGES and count > 0:
            _warn_once(kind, level)


def require_narrow(values: Mapping[str, Any]) -> None:
    """Raises `ValueError` if the balls are too wide to tell their cells apart."""
    if np.any(values.get("cut/too_wide", 0)):
        raise UserError(
            "the balls span too many cells to compute neighbors on the device; set "
            "pyramid.builder=host, or use smaller balls or larger voxels."
        )


@functools.cache
def _warn_once(kind: str, level: str) -> None:
    message = _MESSAGES[kind] + "; if cut/%s_level%s grows, give larger ones in a new --workdir"
    logger.warning(message, level, kind, level)
