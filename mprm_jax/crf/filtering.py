"""Gaussian filtering of values at points, through a lattice or over all pairs.

A filter is a linear operator on [N, C] values. Both kinds, `Lattice` and `Pairs`, hold what the
features determine, so one filter serves every class and every iteration. Features are constants to
differentiation; values are not.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32

from mprm_jax.crf.lattice_device import Lattice
from mprm_jax.crf.simplex import slice_scale
from mprm_jax.types import Array

BLOCK_ROWS = 256  # rows of the exact filter computed at a time: [BLOCK_ROWS, N] in memory


class Pairs(NamedTuple):
    """The exact filter over all pairs of points, in time O(N²)."""

    features: Float[Array, "N d"]  # in kernel widths, near the origin
    valid: Bool[Array, " N"]  # the others are padding


Filter = Lattice | Pairs


def gaussian_filter(
    operator: Filter, values: Float[Array, "N C"], *, transpose: bool = False
) -> Float[Array, "N C"]:
    """Sums values over all points, weighed by exp(-|f - f'|² / 2); a point's own counts too.

    The lattice approximates the sum from below, as far as a constant: it loses what passes through
    vertices that no point touches. Normalization makes up for most of it. It is not symmetric
    either, since its axes are blurred one after another.

    Args:
      values: finite in every row.
      transpose: applies the transposed operator.

    Returns:
      Zero on padding.

    Source: Adams, Baek, Davis 2010, section 3; Krähenbühl, Koltun 2011, section 3.2.
    """
    if isinstance(operator, Pairs):
        return _filter_pairs(operator, values)
    return _filter_lattice(operator, values, transpose)


def _filter_lattice(
    lattice: Lattice, values: Float[Array, "N C"], transpose: bool
) -> Float[Array, "N C"]:
    # JAX would transpose each read into a scattered write, the slowest there is.
    def run(lattice: Lattice, values: Array) -> Array:
        return _slice(lattice, _blur(lattice, _splat(lattice, values), transpose))

    def run_transposed(lattice: Lattice, values: Array) -> Array:
        return _slice(lattice, _blur(lattice, _splat(lattice, values), not transpose))

    return jax.custom_derivatives.linear_call(run, run_transposed, lattice, values)


def _splat(lattice: Lattice, values: Float[Array, "N C"]) -> Float[Array, "vertices C"]:
    """Sums point values to their vertices, the last row zero."""
    heads = _sum_rows(values, lattice.head_points, lattice.head_weights)
    tails = _sum_rows(values, lattice.tail_points, lattice.tail_weights)
    return heads.at[lattice.tail_vertices].add(
        tails, indices_are_sorted=True, mode="promise_in_bounds"
    )


def _blur(
    lattice: Lattice, values: Float[Array, "vertices C"], reverse: bool
) -> Float[Array, "vertices C"]:
    """Adds half of both neighbors, axis by axis."""

    def along(values: Array, neighbors: Array) -> tuple[Array, None]:
        before, after = neighbors
        return values + 0.5 * (_read(values, before) + _read(values, after)), None

    return jax.lax.scan(along, values, lattice.neighbors, reverse=reverse)[0]


def _slice(lattice: Lattice, values: Float[Array, "vertices C"]) -> Float[Array, "N C"]:
    """Interpolates vertex values at the points."""
    num_dims = lattice.vertices.shape[0] - 1
    return slice_scale(num_dims) * _sum_rows(values, lattice.vertices, lattice.weights)


def _sum_rows(
    values: Float[Array, "K C"], index: Int32[Array, "S R"], weights: Float[Array, "S R"]
) -> Float[Array, "R C"]:
    """Weighted sums of rows."""
    total = jnp.zeros((index.shape[1], values.shape[1]), values.dtype)
    for entry in range(index.shape[0]):
        total = total + weights[entry][:, None] * _read(values, index[entry])
    return total


def _read(values: Array, index: Array) -> Array:
    # The builders keep every index in bounds; a check would cost a third of the filter.
    return values.at[index].get(mode="promise_in_bounds")


def _filter_pairs(pairs: Pairs, values: Float[Array, "N C"]) -> Float[Array, "N C"]:
    num_points, num_dims = pairs.features.shape
    padding = -num_points % BLOCK_ROWS
    rows = jnp.pad(pairs.features, ((0, padding), (0, 0)))
    sources = values * pairs.valid[:, None]

    def block(rows: Array) -> Array:
        # One coordinate at a time, which holds [BLOCK_ROWS, N] rather than d times as much.
        deltas = [rows[:, None, i] - pairs.features[None, :, i] for i in range(num_dims)]
        kernel = jnp.exp(-0.5 * sum(jnp.square(delta) for delta in deltas))
        return jnp.dot(kernel, sources, precision=jax.lax.Precision.HIGHEST)

    sums = jax.lax.map(block, rows.reshape(-1, BLOCK_ROWS, num_dims))
    return sums.reshape(-1, values.shape[1])[:num_points] * pairs.valid[:, None]
