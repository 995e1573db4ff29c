"""Says at the start what a run will need, memory and time, and afterwards how it came."""

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from mprm_jax.batches.packing import BucketShape

logger = logging.getLogger(__name__)

# Steps that are timed one by one for the first forecast; the one before them waits for input.
_TIMED = 5
# Stretches of steps: the first waits for input, the second for what the first log line compiles.
_WARM_AFTER = 2
_COMPILED = "/jax/core/compile/backend_compile_duration"  # JAX's event of every program


class StepCost(NamedTuple):
    """What the compiler says of one step on one device."""

    peak_bytes: int  # arguments, results and temporaries at the same time
    compile_seconds: float


def step_cost(step_fn: Callable[..., Any], *arguments: Any) -> StepCost:
    """Compiles a jitted step, which its first call then need not do.

    Args:
      arguments: of the step, or their shapes with the shardings of the mesh.
    """
    start = time.perf_counter()
    compiled = step_fn.lower(*arguments).compile()
    return StepCost(peak_bytes(compiled), time.perf_counter() - start)


def peak_bytes(compiled: jax.stages.Compiled) -> int:
    """What a program holds of a device at most, as the compiler lays it out."""
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return held - memory.alias_size_in_bytes + memory.temp_size_in_bytes


@contextlib.contextmanager
def counted_compiles(name: str) -> Iterator[list[float]]:
    """A list that grows with every program made of jitted functions of a name: its seconds.

    A program found in the compilation cache counts, too.
    """
    found: list[float] = []

    def note(event: str, seconds: float, *, fun_name: str = "", **_: Any) -> None:
        if event == _COMPILED and name in fun_name:
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def log_plan(shape: BucketShape, plan: list[list[list[int]]]) -> None:
    """Logs the capacities of a bucket and how an epoch fills them.

    Args:
      plan: of an epoch, as of `epoch_plan`.
    """
    num_clouds = sum(len(bucket) for step in plan for bucket in step)
    logger.info(
        "a bucket has %s rows by level and room for %d clouds, lists are %s and %s wide; "
        "an epoch has %d steps of %d buckets and about %.3g clouds",
        shape.rows,
        shape.clouds,
        shape.conv_neighbors,
        shape.pool_neighbors,
        len(plan),
        len(plan[0]),
        num_clouds / len(plan),
    )


class Forecast:
    """What is expected of the steps that are left, and what happens."""

    def __init__(self, cost: StepCost, num_steps: int, device: jax.Device):
        """Logs what is known before the first step.

        Args:
          num_steps: that are left.
          device: one of those that train.
        """
        self._cost, self._num_steps, self._device = cost, num_steps, device
        self._stretches, self._steps, self._seconds = 0, 0, 0.0
        self._ends: list[float] = []  # of the first steps, seconds by the monotonic clock
        self._expected_seconds: float | None = None
        limit = _memory(device, "bytes_limit")
        logger.info(
            "compiled in %.1f s; a step needs %s of a device%s; %d steps are left",
            cost.compile_seconds,
            _gigabytes(cost.peak_bytes),
            "" if limit is None else f", which has {_gigabytes(limit)}",
            num_steps,
        )

    def after_step(self, metrics: Any) -> None:
        """Waits for each of the first steps, and after the last of them says how long all take.

        Args:
          metrics: arrays that the step computes.
        """
        if len(self._ends) > _TIMED:
            return
        jax.block_until_ready(metrics)
        self._ends.append(time.monotonic())
        left = self._num_steps - len(self._ends)
        if len(self._ends) > _TIMED and left > 0:
            taken = [after - before for before, after in itertools.pairwise(self._ends)]
            logger.info(
                "training: %d steps, about %s here, if all are as fast as steps 2 to %d were; "
                "validation and what follows training come on top",
                self._num_steps,
                _span(left * min(taken), left * max(taken)),
                len(self._ends),
            )

    def after_steps(self, num_steps: int, seconds_per_step: float) -> None:
        """Counts a stretch of steps; once they are warm, logs how long the others will take."""
        self._stretches += 1
        self._steps += num_steps
        self._seconds += num_steps * seconds_per_step
        warm = self._stretches > _WARM_AFTER and self._steps < self._num_steps
        if warm and self._expected_seconds is None:
            left = seconds_per_step * (self._num_steps - self._steps)
            self._expected_seconds = self._seconds + left
            logger.info(
                "a step takes %.3g s, the steps that are left about %.3g minutes",
                seconds_per_step,
                left / 60,
            )

    def at_end(self) -> None:
        """Logs what became of the forecast."""
        expected, peak = self._expected_seconds, _memory(self._device, "peak_bytes_in_use")
        logger.info(
            "%d steps took %.3g minutes%s%s",
            self._steps,
            self._seconds / 60,
            "" if expected is None else f", expected were {expected / 60:.3g}",
            ""
            if peak is None
            else f"; a device held {_gigabytes(peak)} at most, {_gigabytes(self._cost.peak_bytes)} "
            "were expected of a step",
        )


def _memory(device: jax.Device, name: str) -> int | None:
    """A statistic of a device's memory; None where the backend keeps none, as on a CPU."""
    return (device.memory_stats() or {}).get(name)


def _span(low: float, high: float) -> str:
    """A range of seconds, in words."""
    units = (("hours", 3600), ("minutes", 60), ("seconds", 1))
    unit, seconds = next((x for x in units if high >= 1.5 * x[1]), units[-1])
    bounds = dict.fromkeys(f"{bound / seconds:.2g}" for bound in (low, high))
    return f"{' to '.join(bounds)} {unit}"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
