"""The permutohedral lattice of a point set, as arrays of static shape.

A lattice of d dimensions has d + 1 kinds of vertices, told apart by their remainder 0 ... d. Each
point lies in a simplex with one vertex of each kind. Letters: `N` rows of points, `M` vertices the
arrays can hold, `S` entries of a row, `T` further rows.

Source: Adams, Baek, Davis 2010, section 3.
"""

import math
from typing import NamedTuple

from mprm_jax.types import Array

BUCKET_RATIO = 1.25  # between neighboring sizes of arrays
SMALLEST_BUCKET = 1024
KEYS_TOO_WIDE = -1  # `num_vertices` of a lattice whose vertices could not be told apart


class Lattice(NamedTuple):
    """Where points meet vertices, and which vertices are neighbors; vertex M stands for none.

    The points around a vertex are listed in rows of S, for sums without scattered writes: the first
    row of vertex m is column m of the heads, its further rows are tails.
    """

    vertices: Array  # [d+1, N] int32, corners of the simplex of a point; M on padding
    weights: Array  # [d+1, N] barycentric coordinates, sum to 1; 0 on padding
    neighbors: Array  # [d+1, 2, M+1] int32, before and after a vertex on each axis; M for none
    head_points: Array  # [S, M+1] int32; 0 in empty entries
    head_weights: Array  # [S, M+1]; 0 in empty entries
    tail_points: Array  # [S, T] int32; 0 in empty entries
    tail_weights: Array  # [S, T]; 0 in empty entries
    tail_vertices: Array  # [T] int32 ascending; M on padding
    num_vertices: Array  # [] int32 needed; above M the lattice is incomplete; or KEYS_TOO_WIDE
    num_tails: Array  # [] int32 needed; above T the lattice is incomplete


class Capacity(NamedTuple):
    """Sizes that depend on where the points lie."""

    vertices: int  # M
    tails: int  # T


def slice_scale(num_dims: int) -> float:
    """Scale of what points read: a blur sums to 2^(d+1), and the kernel's volume asks for this."""
    return 1.0 / (1.0 + 2.0**-num_dims)


def row_size(num_dims: int) -> int:
    """S: in few dimensions many points share a vertex, so rows are longer."""
    return 16 if num_dims <= 3 else 4  # fastest of 2 to 32 at 100 k points of a room on a CPU


def bucket(size: int) -> int:
    """The smallest bucket that holds `size`; buckets grow by at most `BUCKET_RATIO`."""
    bound = SMALLEST_BUCKET
    while bound < size:
        bound = math.floor(bound * BUCKET_RATIO / 128) * 128  # lanes of a TPU
    return bound


def bucket_capacity(needed: Capacity, num_rows: int) -> Capacity:
    """The smallest bucket of capacities that holds a lattice.

    A sixteenth of the rows is the least, so that sparse lattices over equally many rows share one
    shape; filtering that few vertices costs next to nothing.
    """
    least = num_rows // 16
    return Capacity(*(bucket(max(count, least)) for count in needed))


def needed_capacity(lattice: Lattice) -> Capacity:
    """What the points of a lattice need; waits for the device.

    Raises:
      ValueError: the vertices could not be told apart.
    """
    if int(lattice.num_vertices) == KEYS_TOO_WIDE:
        raise ValueError(
            "The features span too many kernel widths for a lattice built on a device; "
            "build it on the host, widen the kernel, or split the cloud."
        )
    return Capacity(int(lattice.num_vertices), int(lattice.num_tails))
