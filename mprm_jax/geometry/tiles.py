"""Cuts a large cloud into tiles in x and y, each with a margin of what lies around it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from mprm_jax.types import Array


class Tile(NamedTuple):
    """A part of a cloud that can be worked on alone."""

    rows: Int64[Array, " M"]  # ascending, points of the tile and of its margin
    core: Bool[Array, " M"]  # whether the point is the tile's own; each point is of one tile


def tiles(coords: Float[Array, "N 3"], max_points: int, margin: float) -> Iterator[Tile]:
    """Yields tiles of at most `max_points` own points each, halves of halves of the cloud.

    Points that share x and y stay together, however many they are.

    Args:
      coords: meters, N >= 1.
      margin: meters; every point that is closer than this to an own one is in the tile.
    """
    for own in _halves(coords, np.arange(len(coords)), max_points):
        is_own = np.zeros(len(coords), bool)
        is_own[own] = True
        near = np.ones(len(coords), bool)
        for axis in (0, 1):
            values = coords[own, axis]
            # Wider than the margin by more than float32 rounding at a kilometer from the origin.
            reach = margin * 1.001 + 1e-3
            near &= coords[:, axis] >= float(values.min()) - reach
            near &= coords[:, axis] <= float(values.max()) + reach
        rows = np.flatnonzero(near)
        yield Tile(rows, is_own[rows])


def _halves(
    coords: Float[Array, "N 3"], rows: Int64[Array, " M"], max_points: int
) -> Iterator[Int64[Array, " _"]]:
    """Halves the longer side at its median until parts are small enough."""
    sides = [np.ptp(coords[rows, axis]) for axis in (0, 1)]
    if len(rows) <= max_points or max(sides) == 0:
        yield rows
        return
    values = coords[rows, int(np.argmax(sides))]
    middle = np.median(values)
    left = values < middle
    if not left.any():  # more than half of the points share the smallest value
        left = values <= middle
    yield from _halves(coords, rows[left], max_points)
    yield from _halves(coords, rows[~left], max_points)
