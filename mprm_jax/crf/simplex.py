"""Finds the lattice simplex around each point, in NumPy or in JAX.

Functions take the array module as `xp`, so that both builders of lattices share one formula.
"""

import math
import types
from typing import NamedTuple

from mprm_jax.types import Array


class Simplex(NamedTuple):
    """The simplex around each point, coordinate by coordinate.

    Vertex coordinates are (d+1) * cell + remainder. The vertex of remainder 0 has the cells given
    here; the vertex of remainder r is one cell lower on the r coordinates of highest rank.
    """

    cells: list[Array]  # d+1 x [N] int32
    ranks: list[Array]  # d+1 x [N] int8, a permutation of 0 ... d at each point
    weights: list[Array]  # d+1 x [N] float32, barycentric, by remainder


def enclosing_simplex(features: list[Array], xp: types.ModuleType) -> Simplex:
    """Finds the simplex of each point.

    Args:
      features: d x [N] float32 in kernel widths.
      xp: numpy or jax.numpy.

    Source: Adams, Baek, Davis 2010, section 3.1.
    """
    size = len(features) + 1
    elevated = elevate(features, xp)
    nearest = [xp.round(x) for x in elevated]
    rest = [x - cell for x, cell in zip(elevated, nearest, strict=True)]
    cells = [cell.astype(xp.int32) for cell in nearest]
    excess = sum(cells)  # 0 on the lattice: how many cells must be left
    # Most of the work is on ranks: on a CPU, bytes take a quarter of the time of words.
    ranks = [excess.astype(xp.int8) for _ in cells]
    for i in range(size):
        for j in range(i + 1, size):
            later = (rest[j] > rest[i]).astype(xp.int8)  # of equals, the lower coordinate first
            ranks[i] = ranks[i] + later
            ranks[j] = ranks[j] + (1 - later)
    # Coordinates ranked outside 0 ... d were rounded to the wrong side.
    moves = [(rank < 0).astype(xp.int8) - (rank >= size).astype(xp.int8) for rank in ranks]
    ranks = [rank + size * move for rank, move in zip(ranks, moves, strict=True)]
    cells = [cell + move for cell, move in zip(cells, moves, strict=True)]
    rest = [x - move.astype(xp.float32) for x, move in zip(rest, moves, strict=True)]
    falling = _sort_descending(rest, xp)
    first = 1 + falling[-1] - falling[0]
    steps = [falling[i] - falling[i + 1] for i in reversed(range(size - 1))]
    return Simplex(cells, ranks, [first, *steps])


def lattice_scales(num_dims: int) -> list[float]:
    """Lattice units per kernel width, such that blurring has the variance of the kernel."""
    return [math.sqrt(2 / 3) / math.sqrt((i + 1) * (i + 2)) for i in range(num_dims)]


def slice_scale(num_dims: int) -> float:
    """Scale of what points read: a blur sums to 2^(d+1), and the kernel's volume asks for this."""
    return 1.0 / (1.0 + 2.0**-num_dims)


def elevate(features: list[Array], xp: types.ModuleType) -> list[Array]:
    """Scales d coordinates to lattice cells, as d+1 coordinates that sum to 0."""
    # Sums instead of a matrix product, which accelerators round to bfloat16 by default.
    scales = lattice_scales(len(features))
    scaled = [xp.float32(s) * x for s, x in zip(scales, features, strict=True)]
    total = xp.zeros_like(scaled[0])
    elevated = []
    for i in reversed(range(len(scaled))):
        elevated.append(total - (i + 1) * scaled[i])
        total = total + scaled[i]
    return [total, *reversed(elevated)]


def _sort_descending(rows: list[Array], xp: types.ModuleType) -> list[Array]:
    """Sorts each column of a short list of rows."""
    rows = list(rows)
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            rows[i], rows[j] = xp.maximum(rows[i], rows[j]), xp.minimum(rows[i], rows[j])
    return rows
