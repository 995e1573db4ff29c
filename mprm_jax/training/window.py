"""Collects what the steps since the last log line measured, without waiting for the device."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from mprm_jax.batches.loader import LoadedBatch
from mprm_jax.errors import UserError
from mprm_jax.training.inputs import check_overflow
from mprm_jax.types import Array


class _Pending(NamedTuple):
    step: int
    metrics: dict[str, Array]  # on the device, perhaps still being computed
    members: list[list[int]]


class Window:
    """Metrics of a stretch of steps; values leave the devices only in `flush`.

    Losses are those of all hosts. What is counted is this host's; speeds take the others' as equal.

    Args:
      rows_per_step: level-0 rows of this host's buckets.
    """

    def __init__(self, rows_per_step: int, num_hosts: int = 1):
        self._rows_per_step, self._num_hosts = rows_per_step, num_hosts
        self._reset()

    def _reset(self) -> None:
        self._pending: list[_Pending] = []
        self._points, self._clouds, self._waited = 0, 0, 0.0
        self._cut_rows = np.zeros(0)
        self._start = time.perf_counter()

    def restart(self) -> None:
        """Leaves the time since the last flush, spent on something else, out of the speed."""
        self._start = time.perf_counter()

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, step: int, metrics: dict[str, Array], loaded: LoadedBatch) -> None:
        """Notes a step that was dispatched."""
        self._pending.append(_Pending(step, metrics, loaded.members))
        self._points += loaded.points
        self._clouds += sum(len(bucket) for bucket in loaded.members)
        self._waited += loaded.waited
        if loaded.cut_rows is not None:
            cut_rows = loaded.cut_rows.sum(axis=0)
            self._cut_rows = cut_rows + (self._cut_rows if len(self._cut_rows) else 0)

    def flush(self, name: Callable[[int], str]) -> dict[str, float]:
        """Means over the stretch, and its speed; starts the next stretch.

        Args:
          name: ball -> text for messages.

        Raises:
          ValueError: a loss, or the parameters after a step, are not finite; names the first such
            step and its balls.
        """
        pending = jax.device_get([entry.metrics for entry in self._pending])
        for entry, metrics in zip(self._pending, pending, strict=True):
            _check_finite(entry, metrics, name)
        seconds = time.perf_counter() - self._start
        steps = len(pending)
        values = {key: float(_over_steps(key)([m[key] for m in pending])) for key in pending[0]}
        values |= {
            "speed/points_per_second": self._num_hosts * self._points / seconds,
            "speed/clouds_per_second": self._num_hosts * self._clouds / seconds,
            "speed/seconds_per_step": seconds / steps,
            "speed/waiting_share": self._waited / seconds,
            "bucket/fill": self._points / (steps * self._rows_per_step),
            **{f"cut/rows_level{i}": float(cut) for i, cut in enumerate(self._cut_rows)},
        }
        check_overflow(values)
        self._reset()
        return values


def _over_steps(name: str) -> Callable[[list[Any]], Any]:
    """Counts of what was cut add up, everything else is a mean."""
    return np.sum if name.startswith("cut/") else np.mean


def _check_finite(entry: _Pending, metrics: dict[str, Any], name: Callable[[int], str]) -> None:
    # Parameters can overflow before a loss shows it; they must not reach a checkpoint.
    bad = [key for key in ("loss", "norm/parameters") if not np.isfinite(metrics.get(key, 0.0))]
    if not bad:
        return
    clouds = "; ".join(name(index) for bucket in entry.members for index in bucket)
    raise UserError(
        f"step {entry.step}: {bad[0]} is {metrics[bad[0]]}. Lower optim.learning_rate in a new "
        f"--workdir, or look at the balls of this step: {clouds}."
    )
