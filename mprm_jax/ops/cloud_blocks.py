"""Rows of a bucket in blocks of one cloud each, so that work inside clouds has static shapes.

Clouds of a bucket have any sizes. Blocks of S rows that no two clouds share number at most
T / S + B: what a cloud computes with itself goes over its own blocks, however large it is, and
padding is at most a block per cloud.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Int32, Shaped

from mprm_jax.ops.rows import gather_rows
from mprm_jax.types import Array


class CloudBlocks(NamedTuple):
    """Where the rows of each cloud are; the blocks of a cloud follow each other."""

    rows: Int32[Array, "G S"]  # row in each place; T where there is none
    places: Int32[Array, " T"]  # place of each row, counted over all blocks; G * S on padding
    clouds: Int32[Array, " G"]  # cloud of each block; B where it is of none
    first: Int32[Array, " G"]  # first block of the same cloud
    counts: Int32[Array, " G"]  # blocks of the same cloud

    @property
    def filled(self) -> Bool[Array, "G S"]:
        """Places that hold a row."""
        return self.rows < len(self.places)

    def spread(self, values: Shaped[Array, "T ..."]) -> Shaped[Array, "G S ..."]:
        """Values of rows, by block; zero in empty places."""
        return gather_rows(values, self.rows)

    def collect(self, values: Shaped[Array, "G S ..."]) -> Shaped[Array, "T ..."]:
        """Values in places, by row; zero on padding."""
        return gather_rows(values.reshape(-1, *values.shape[2:]), self.places)


def cloud_blocks(clouds: Int32[Array, " T"], num_clouds: int, size: int) -> CloudBlocks:
    """Arranges rows in blocks of one cloud each, in order.

    Args:
      clouds: cloud of the row, in any order; `num_clouds` on padding.
      size: S, rows of a block.
    """
    clouds = jnp.asarray(clouds)  # NumPy's cannot be read at traced places
    num_rows = len(clouds)
    num_blocks = num_rows // size + num_clouds
    order = jnp.argsort(clouds).astype(jnp.int32)
    in_order = clouds[order]
    # Clouds begin at these places of the order; padding is the last of them.
    begins = jnp.searchsorted(in_order, jnp.arange(num_clouds + 1, dtype=jnp.int32))
    begins = begins.astype(jnp.int32)
    counts = -(-jnp.diff(begins) // size)
    ends = jnp.cumsum(counts)
    of_block = jnp.searchsorted(ends, jnp.arange(num_blocks, dtype=jnp.int32), side="right")
    of_block = of_block.astype(jnp.int32)
    place = gather_rows((ends - counts) * size - begins[:-1], in_order)
    place += jnp.arange(num_rows, dtype=jnp.int32)
    place = jnp.where(in_order < num_clouds, place, num_blocks * size)
    rows = jnp.full(num_blocks * size, num_rows, jnp.int32).at[place].set(order, mode="drop")
    return CloudBlocks(
        rows=rows.reshape(num_blocks, size),
        places=jnp.zeros(num_rows, jnp.int32).at[order].set(place),
        clouds=of_block,
        first=gather_rows(ends - counts, of_block),
        counts=gather_rows(counts, of_block),
    )
