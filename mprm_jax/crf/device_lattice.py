"""Builds a lattice in traced code, with static shapes, for accelerators.

The result equals that of `host_lattice`, rounding of coordinates aside. Keys of vertices take two
words of 32 bits, and are exact like those of the host.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mprm_jax.crf.lattice import KEYS_TOO_WIDE, Capacity, Lattice, row_size
from mprm_jax.crf.simplex import Simplex, enclosing_simplex
from mprm_jax.types import Array

NO_KEY = np.uint32(0xFFFFFFFF)  # in both words: padding, sorted behind all vertices


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
    """Neighbors of all vertices on all axes; see `host_lattice`.

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
