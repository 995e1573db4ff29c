"""Lets all hosts decide the same at the same step: to save, or to stop for a signal of one host.

Hosts dispatch steps ahead of their devices and not at the same time, so "now" is no common step.
Here each host hands in a wish with every step; the largest wish of all hosts comes back two steps
later, when it is known without waiting for the step under way.
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np

from mprm_jax.training.parallel import shard_rows
from mprm_jax.types import Array

NOTHING, SAVE, INTERRUPT, TERMINATE = range(4)  # the larger comes first
SIGNALS = {"SIGINT": INTERRUPT, "SIGTERM": TERMINATE}
_STEPS = 2  # between a wish and its answer


class Agreement:
    """The common decision of the hosts of a mesh; a single host's wish is granted at once."""

    def __init__(self, mesh: jax.sharding.Mesh):
        self._alone = jax.process_count() == 1
        self._mesh = mesh
        self._num_local = len(mesh.local_devices)
        self._largest = jax.jit(jnp.max, out_shardings=jax.NamedSharding(mesh, jax.P()))
        self._asked: collections.deque[Array] = collections.deque()

    def decide(self, wish: int) -> int:
        """What all hosts do after this step; to be called by all of them at every step.

        Args:
          wish: NOTHING, SAVE, INTERRUPT or TERMINATE.
        """
        if self._alone:
            return wish
        wishes = np.full(self._num_local, wish, np.int32)
        self._asked.append(self._largest(shard_rows(wishes, self._mesh)))
        if len(self._asked) <= _STEPS:
            return NOTHING
        return int(jax.device_get(self._asked.popleft()))
