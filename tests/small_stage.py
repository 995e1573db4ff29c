"""A stage whose step compiles at once."""

import flax.linen as nn
import jax.numpy as jnp

from mprm_jax.training.stages import Stage
from mprm_jax.types import Ratio


class Small(nn.Module):
    """One linear layer on the features of the points."""

    @nn.compact
    def __call__(self, pyramid, features, *, train=False):
        return nn.Dense(2)(features)


SMALL_STAGE = Stage(
    model=Small(),
    losses=lambda output, batch: {"square": Ratio(jnp.sum(output**2), jnp.float32(output.size))},
    metrics=lambda output, batch: {},
    scores=lambda variables, batch: batch.features,
)
