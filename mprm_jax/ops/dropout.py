"""Dropout whose mask belongs to the points of each cloud, not to the rows they are packed into."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int32, Key

from mprm_jax.types import Array


def kept_features(
    key: Key[Array, ""],
    clouds: Int32[Array, " T"],
    num_clouds: int,
    num_features: int,
    *,
    keep: float,
    first_cloud: Int32[Array, ""] | int,
) -> Bool[Array, "T {num_features}"]:
    """Which features of which rows dropout keeps.

    The draw of a row is a function of the key, of its cloud and of its place in the cloud: the
    same wherever in a bucket, and on whichever device, the cloud lies.

    Args:
      key: equal on all devices.
      clouds: clouds end to end; `num_clouds` on padding.
      keep: share that is kept.
      first_cloud: number of this device's cloud 0 among those of all devices.
    """
    rows = jnp.arange(len(clouds))
    starts = jax.ops.segment_min(rows, clouds, num_segments=num_clouds + 1)
    cloud_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first_cloud + clouds)
    row_keys = jax.vmap(jax.random.fold_in)(cloud_keys, rows - starts[clouds])
    return jax.vmap(lambda row_key: jax.random.bernoulli(row_key, keep, (num_features,)))(row_keys)
