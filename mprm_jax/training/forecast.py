"""Says before the first step what a run will need, and afterwards how it came."""

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

logger = logging.getLogger(__name__)


class StepCost(NamedTuple):
    """What the compiler says of one step on one device."""

    peak_bytes: int  # arguments, results and temporaries at the same time
    compile_seconds: float


def step_cost(step_fn: Callable[..., Any], *arguments: Any) -> StepCost:
    """Compiles a jitted step, which its first call then need not do.

    Args:
      arguments: of the step, or their shapes.
    """
    start = time.perf_counter()
    memory = step_fn.lower(*arguments).compile().memory_analysis()
    seconds = time.perf_counter() - start
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    peak = held - memory.alias_size_in_bytes + memory.temp_size_in_bytes
    return StepCost(peak, seconds)


class Forecast:
    """What is expected of a run, and what happens."""

    def __init__(self, cost: StepCost, num_steps: int, bucket: str, device: jax.Device):
        """Logs what is known before the first step.

        Args:
          num_steps: that are left.
          bucket: the static sizes, in words.
          device: one of those that train.
        """
        self._cost, self._num_steps, self._device = cost, num_steps, device
        self._windows, self._expected_seconds = 0, 0.0
        limit = _memory(device, "bytes_limit")
        logger.info(
            "compiled in %.0f s; %d steps of %s; a device needs %s%s",
            cost.compile_seconds,
            num_steps,
            bucket,
            _gigabytes(cost.peak_bytes),
            "" if limit is None else f" of its {_gigabytes(limit)}",
        )

    def after_window(self, seconds_per_step: float, steps_left: int) -> None:
        """Logs how long the run will take, once its first steps have warmed it up."""
        self._windows += 1
        if self._windows == 2:
            self._expected_seconds = seconds_per_step * self._num_steps
            logger.info(
                "a step takes %.3g s, what is left of the training about %.3g minutes",
                seconds_per_step,
                seconds_per_step * steps_left / 60,
            )

    def at_end(self, seconds: float) -> None:
        """Logs what became of the forecast.

        Args:
          seconds: that the steps took.
        """
        peak = _memory(self._device, "peak_bytes_in_use")
        if self._expected_seconds:
            logger.info(
                "the steps took %.3g minutes, %.3g were expected%s",
                seconds / 60,
                self._expected_seconds / 60,
                ""
                if peak is None
                else f"; a device held {_gigabytes(peak)} at most, "
                f"{_gigabytes(self._cost.peak_bytes)} were expected",
            )


def _memory(device: jax.Device, name: str) -> int | None:
    """A statistic of a device's memory; None where the backend keeps none, as on a CPU."""
    return (device.memory_stats() or {}).get(name)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
