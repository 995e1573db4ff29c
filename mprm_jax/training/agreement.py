"""Lets all hosts decide the same at the same step: to save, or to stop for a signal of one host.

Hosts dispatch steps ahead of their devices and not at the same time, so "now" is no common step.
Here each host hands in a wish with every step; the largest wish of all hosts comes back two steps
later, when it is known without waiting for the step under way.
"""

import collections
import time

import jax
import jax.numpy as jnp
import numpy as np

from mprm_jax.training.hosts import is_first_host
from mprm_jax.training.parallel import shard_rows
from mprm_jax.training.signals import StopRequest
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


class Decisions:
    """What all hosts do after a step; a decision stays until it is carried out.

    Args:
      stop: of this host; a signal of one host stops all.
      save_minutes: between two checkpoints.
    """

    def __init__(self, mesh: jax.sharding.Mesh, stop: StopRequest, save_minutes: float):
        self._agreement, self._stop = Agreement(mesh), stop
        self._save_seconds = 60 * save_minutes
        self._saved_at, self._has_wished = time.monotonic(), False
        self.now = NOTHING  # or SAVE, INTERRUPT, TERMINATE

    def after_step(self) -> int:
        """Asks all hosts, and returns what is decided; to be called by all of them."""
        wish = SIGNALS.get(self._stop.signal, NOTHING)
        late = time.monotonic() - self._saved_at > self._save_seconds
        if wish == NOTHING and late and not self._has_wished and is_first_host():
            wish, self._has_wished = SAVE, True
        self.now = max(self.now, self._agreement.decide(wish))
        return self.now

    def has_saved(self) -> None:
        """A checkpoint was written."""
        self._saved_at, self._has_wished = time.monotonic(), False
        if self.now == SAVE:
            self.now = NOTHING

    @property
    def signal(self) -> str:
        """Name of the signal that stops the run."""
        return next(name for name, code in SIGNALS.items() if code == self.now)
