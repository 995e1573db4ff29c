"""The permutohedral lattice of a point set as arrays of static shape, for JAX.

A lattice of d dimensions has d + 1 kinds of vertices, told apart by their remainder 0 ... d. Each
point lies in a simplex with one vertex of each kind. Letters: `N` rows of points, `M` vertices the
arrays can hold, `S` entries of a row, `T` further rows.

Two builders give the same lattice, rounding of coordinates aside: `build_lattice` in traced code,
for accelerators, where keys of vertices take two words of 32 bits and are as exact as those of the
host; and `build_lattice_on_host` from vertices that NumPy finds.

Source: Adams, Baek, Davis 2010, section 3.
"""

import functools
import logging
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mprm_jax.crf.lattice_host import Vertices, find_vertices, neighbor_pairs
from mprm_jax.crf.simplex import Simplex, enclosing_simplex
from mprm_jax.crf.threads import in_threads
from mprm_jax.types import Array

BUCKET_RATIO = 1.25  # between neighboring sizes of arrays
SMALLEST_BUCKET = 1024
KEYS_TOO_WIDE = -1  # `num_vertices` of a lattice whose vertices could not be told apart


NO_KEY = np.uint32(0xFFFFFFFF)  # in both words: padding, sorted behind all vertices
# First guess of a lattice built on a device, per point; dense scans have fewer vertices.
GUESSED_VERTICES = {1: 0.125, 2: 0.125, 3: 0.125, 4: 0.5, 5: 1.0}  # 2 with 6 dimensions or more


log = logging.getLogger(__name__)


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


def build_lattice(features: Array, valid: Array, *, capacity: Capacity) -> Lattice:
    """Builds the lattice of a point set.

    Check the result with `needed_capacity` on the host before use.

    Args:
      features: [N, d] in kernel widths, near the origin; a constant to differentiation.
      valid: [N] bool; the others are padding.
      capacity: static.
    """
    num_points, num_dims = features.shape
    features = jax.lax.stop_gradient(features)
    simplex = enclosing_simplex([features[:, i] for i in range(num_dims)], jnp)
    words, too_wide = _words(simplex, valid)
    entries = _sort_entries(simplex, words, valid, capacity.vertices)
    keys, remainders = _distinct(entries, num_points, capacity.vertices)
    by_remainder = jnp.zeros(num_points * (num_dims + 1), jnp.int32)
    vertices = by_remainder.at[entries.source].set(entries.owners, unique_indices=True)
    weights = jnp.where(valid[None], jnp.stack(simplex.weights), 0.0)
    rows = _rows(entries, weights, num_points, capacity)
    return Lattice(
        vertices=vertices.reshape(num_dims + 1, num_points),
        weights=weights,
        neighbors=_neighbors(keys, remainders, words),
        num_vertices=jnp.where(too_wide, KEYS_TOO_WIDE, entries.num_vertices),
        **rows._asdict(),
    )


_build_lattice = jax.jit(build_lattice, static_argnames="capacity")


def fitting_lattice(features: Array, valid: Array) -> Lattice:
    """Builds a lattice on the device of its points, again with the next bucket until it fits.

    Args:
      features, valid: see `build_lattice`.

    Raises:
      ValueError: the features span too many kernel widths.
    """
    num_rows, num_dims = features.shape
    vertices = GUESSED_VERTICES.get(num_dims, 2.0)
    capacity = bucket_capacity(Capacity(int(vertices * num_rows), num_rows), num_rows)
    while True:
        lattice = _build_lattice(features, valid, capacity=capacity)
        needed = needed_capacity(lattice)
        if needed.vertices <= capacity.vertices and needed.tails <= capacity.tails:
            return lattice
        log.info("lattice of %d rows needs %s, had %s", num_rows, needed, capacity)
        capacity = bucket_capacity(Capacity(*map(max, needed, capacity)), num_rows)


def build_lattice_on_host(
    features: Array, *, num_rows: int | None = None, capacity: Capacity | None = None
) -> Lattice:
    """Builds the lattice of a point set with NumPy, on all cores.

    Args:
      features: see `find_vertices`.
      num_rows: rows of the points' arrays, at least N and by default N; those past N are padding.
      capacity: by default the smallest bucket that holds the lattice.

    Returns:
      NumPy arrays.

    Raises:
      ValueError: the lattice exceeds `capacity`, or the features span too many kernel widths.
    """
    num_points, num_dims = features.shape
    num_rows = num_points if num_rows is None else num_rows
    if num_rows < num_points or num_dims < 1:
        raise ValueError(f"{features.shape} features for {num_rows} rows; no row may be missing.")
    vertices = find_vertices(features)
    counts = zip(vertices.corners, np.diff(vertices.firsts), strict=True)
    tails = [_num_tails(corners, count, num_dims) for corners, count in counts]
    needed = Capacity(vertices.firsts[-1], sum(int(each.sum()) for each in tails))
    lattice = _empty(num_dims, num_rows, needed, capacity)
    if num_points:
        fill = functools.partial(_fill_points, lattice, vertices, tails)
        in_threads(fill, range(num_dims + 1))
        in_threads(functools.partial(_fill_neighbors, lattice, vertices), range(num_dims + 1))
    return lattice


class _Words(NamedTuple):
    """How d cells and a remainder make a key of two words: sums of value x factor."""

    lows: Array  # [d] int32, cell that counts as 0
    high: Array  # [d+1] uint32, factors in the first word; the remainder's is the last
    low: Array  # [d+1] uint32, factors in the second word


class _Entries(NamedTuple):
    """All pairs of a point and one of its vertices, sorted by vertex, then by point."""

    keys: tuple[Array, Array]  # words, [(d+1) N] uint32 each
    source: Array  # [(d+1) N] int32, remainder * N + point
    real: Array  # [(d+1) N] bool, False on padding
    owners: Array  # [(d+1) N] int32, vertex; M on padding and where the vertex does not fit
    slots: Array  # [(d+1) N] int32, place of a point among those of its vertex
    num_vertices: Array  # [] int32, also of those that do not fit


class _Rows(NamedTuple):
    """The points of each vertex; see `Lattice`."""

    head_points: Array
    head_weights: Array
    tail_points: Array
    tail_weights: Array
    tail_vertices: Array
    num_tails: Array


def _words(simplex: Simplex, valid: Array) -> tuple[_Words, Array]:
    """Factors of the keys, with room for the cells of neighbors; and whether keys overflow."""
    num_dims = len(simplex.cells) - 1
    cells = jnp.stack(simplex.cells[:num_dims])
    far = jnp.iinfo(jnp.int32).max // 4
    lows = jnp.min(jnp.where(valid[None], cells, far), axis=1) - 3
    highs = jnp.max(jnp.where(valid[None], cells, -far), axis=1) + 3
    spans = [*jnp.where(jnp.any(valid), highs - lows, 1)]
    cut = num_dims // 2  # cells before it go into the first word, below the remainder
    high, high_size = _factors([jnp.int32(num_dims + 1), *spans[:cut]])
    low, low_size = _factors(spans[cut:])
    none = jnp.zeros((), jnp.uint32)
    words = _Words(
        lows,
        high=jnp.stack([*high[1:], *[none] * (num_dims - cut), high[0]]),
        low=jnp.stack([*[none] * cut, *low, none]),
    )
    limit = float(2**32 - 2**16)  # below NO_KEY by more than the rounding of the sizes
    return words, jnp.maximum(high_size, low_size) > limit


def _factors(spans: list[Array]) -> tuple[list[Array], Array]:
    """Factors that make one number of several, and about how many such numbers there are."""
    factors = [jnp.ones((), jnp.uint32)]
    size = jnp.ones((), jnp.float32)
    for span in reversed(spans):
        factors.insert(0, factors[0] * span.astype(jnp.uint32))
        size = size * span.astype(jnp.float32)
    return factors[1:], size


def _sort_entries(simplex: Simplex, words: _Words, valid: Array, none: int) -> _Entries:
    num_dims, num_points = len(simplex.cells) - 1, len(valid)
    keys = []
    for factors in (words.high, words.low):
        for remainder in range(num_dims + 1):
            key = jnp.full((num_points,), remainder, jnp.uint32) * factors[num_dims]
            for i in range(num_dims):
                cells = simplex.cells[i] - words.lows[i]
                cells = cells - (simplex.ranks[i] > num_dims - remainder)
                key = key + cells.astype(jnp.uint32) * factors[i]
            keys.append(jnp.where(valid, key, NO_KEY))
    high = jnp.concatenate(keys[: num_dims + 1])
    low = jnp.concatenate(keys[num_dims + 1 :])
    places = jnp.arange(len(high), dtype=jnp.int32)
    high, low, source = jax.lax.sort((high, low, places), num_keys=2, is_stable=True)
    changes = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    new = jnp.concatenate([jnp.ones((1,), bool), changes])
    real = (high != NO_KEY) | (low != NO_KEY)
    count = jnp.cumsum((new & real).astype(jnp.int32))
    owners = jnp.where(real, jnp.minimum(count - 1, none), none)
    slots = places - jax.lax.cummax(jnp.where(new, places, 0))
    return _Entries((high, low), source, real, owners, slots, count[-1])


def _distinct(entries: _Entries, num_points: int, none: int) -> tuple[tuple[Array, Array], Array]:
    """Keys and remainders of the vertices, [M+1] each; NO_KEY in unused rows."""
    first = jnp.where(entries.slots == 0, entries.owners, none)
    high, low = (
        jnp.full((none + 1,), NO_KEY, jnp.uint32).at[first].set(word).at[none].set(NO_KEY)
        for word in entries.keys
    )
    remainders = jnp.zeros((none + 1,), jnp.int32).at[first].set(entries.source // num_points)
    return (high, low), remainders


def _rows(entries: _Entries, weights: Array, num_points: int, capacity: Capacity) -> _Rows:
    """Lists the points of each vertex in rows."""
    size = row_size(len(entries.source) // num_points - 1)
    points, weights = entries.source % num_points, weights.ravel()[entries.source]
    in_head = entries.slots < size
    fits = entries.owners < capacity.vertices
    column = entries.slots % size
    tails = jnp.cumsum((entries.real & ~in_head & (column == 0)).astype(jnp.int32))
    head = jnp.where(in_head & fits, entries.owners, capacity.vertices + 1)
    tail = jnp.where(~in_head & fits, tails - 1, capacity.tails)

    def fill(row: Array, num_rows: int, values: Array) -> Array:
        empty = jnp.zeros((size, num_rows), values.dtype)
        return empty.at[column, row].set(values, mode="drop")

    none = jnp.full((capacity.tails,), capacity.vertices, jnp.int32)
    return _Rows(
        head_points=fill(head, capacity.vertices + 1, points),
        head_weights=fill(head, capacity.vertices + 1, weights),
        tail_points=fill(tail, capacity.tails, points),
        tail_weights=fill(tail, capacity.tails, weights),
        tail_vertices=none.at[tail].set(entries.owners, mode="drop"),
        num_tails=tails[-1],
    )


def _neighbors(keys: tuple[Array, Array], remainders: Array, words: _Words) -> Array:
    """Neighbors of all vertices on all axes; see `lattice_host.neighbor_pairs`.

    Args:
      keys: words of the vertices, [M+1] uint32 ascending; NO_KEY in unused rows.
      remainders: [M+1] int32.
    """
    num_dims, none = len(words.lows), len(remainders) - 1
    wraps = remainders == 0

    def lowered(key: Array, factors: Array) -> Array:
        """The key of a vertex one lower on every coordinate."""
        around = key - jnp.sum(factors[:num_dims]) + jnp.uint32(num_dims) * factors[num_dims]
        return jnp.where(wraps, around, key - factors[num_dims])

    high, low = lowered(keys[0], words.high), lowered(keys[1], words.low)
    used = keys[0] != NO_KEY

    def along_axis(steps: tuple[Array, Array]) -> Array:
        before = _find(keys, (high + steps[0], low + steps[1]))
        before = jnp.where(used, before, none)
        vertices = jnp.arange(none + 1, dtype=jnp.int32)
        after = jnp.full((none + 1,), none, jnp.int32).at[before].set(vertices)
        return jnp.stack([before, after.at[none].set(none)])

    # The last coordinate follows from the others and has no part in the key.
    steps = [words.high.at[num_dims].set(0), words.low.at[num_dims].set(0)]
    return jax.lax.map(along_axis, tuple(steps))


def _find(keys: tuple[Array, Array], wanted: tuple[Array, Array]) -> Array:
    """Bisects for two-word keys among ascending ones; the last row, NO_KEY, where absent."""
    none = len(keys[0]) - 1

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) // 2
        first, second = keys[0][middle], keys[1][middle]
        less = (first < wanted[0]) | ((first == wanted[0]) & (second < wanted[1]))
        return jnp.where(less, middle + 1, low), jnp.where(less, high, middle)

    bounds = jnp.zeros_like(wanted[0], jnp.int32), jnp.full_like(wanted[0], none, jnp.int32)
    place, _ = jax.lax.fori_loop(0, none.bit_length() + 1, halve, bounds)
    found = (keys[0][place] == wanted[0]) & (keys[1][place] == wanted[1])
    return jnp.where(found, place, none)


def _num_tails(corners: Array, num_vertices: int, num_dims: int) -> Array:
    """Rows of each vertex beyond the first, [m] int32."""
    counts = np.bincount(corners, minlength=num_vertices)
    return ((counts - 1) // row_size(num_dims)).astype(np.int32)


def _empty(num_dims: int, num_rows: int, needed: Capacity, capacity: Capacity | None) -> Lattice:
    """A lattice of the right size, without points."""
    capacity = bucket_capacity(needed, num_rows) if capacity is None else capacity
    if needed.vertices > capacity.vertices or needed.tails > capacity.tails:
        raise ValueError(f"The lattice needs {needed}, but was given {capacity}.")
    none, row = capacity.vertices, row_size(num_dims)
    return Lattice(
        vertices=np.full((num_dims + 1, num_rows), none, np.int32),
        weights=np.zeros((num_dims + 1, num_rows), np.float32),
        neighbors=np.full((num_dims + 1, 2, none + 1), none, np.int32),
        head_points=np.zeros((row, none + 1), np.int32),
        head_weights=np.zeros((row, none + 1), np.float32),
        tail_points=np.zeros((row, capacity.tails), np.int32),
        tail_weights=np.zeros((row, capacity.tails), np.float32),
        tail_vertices=np.full(capacity.tails, none, np.int32),
        num_vertices=np.int32(needed.vertices),
        num_tails=np.int32(needed.tails),
    )


def _fill_points(lattice: Lattice, vertices: Vertices, tails: list[Array], remainder: int) -> None:
    """Writes which points are around the vertices of one remainder."""
    corners, num_tails = vertices.corners[remainder], tails[remainder]
    first_vertex = np.int32(vertices.firsts[remainder])
    first_tail = sum(int(each.sum()) for each in tails[:remainder])
    lattice.vertices[remainder, : len(corners)] = corners + first_vertex
    lattice.weights[remainder, : len(corners)] = vertices.weights[remainder]
    points = np.argsort(corners, kind="stable").astype(np.int32)
    corners, weights = corners[points], vertices.weights[remainder][points]
    tail_starts = np.cumsum(num_tails, dtype=np.int32) - num_tails + np.int32(first_tail)
    of_tail = np.repeat(np.arange(len(num_tails), dtype=np.int32), num_tails)
    lattice.tail_vertices[first_tail : first_tail + len(of_tail)] = of_tail + first_vertex
    size = len(lattice.head_points)
    slots = np.arange(len(points), dtype=np.int32) - np.searchsorted(corners, corners)
    head = slots < size
    column, row = slots[head], corners[head] + first_vertex
    lattice.head_points[column, row] = points[head]
    lattice.head_weights[column, row] = weights[head]
    tail = ~head
    row, column = np.divmod(slots[tail], size)
    row += tail_starts[corners[tail]] - 1
    lattice.tail_points[column, row] = points[tail]
    lattice.tail_weights[column, row] = weights[tail]


def _fill_neighbors(lattice: Lattice, vertices: Vertices, axis: int) -> None:
    """Writes the neighbors along one axis."""
    before, after = lattice.neighbors[axis]
    sources, targets = neighbor_pairs(vertices, axis)
    before[sources] = targets
    after[targets] = sources
