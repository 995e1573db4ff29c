"""Reads what the jobs have left so far, and sums it up over seeds."""

import json
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mprm_jax.errors import UserError


class Results(NamedTuple):
    """The results in a work directory."""

    root: pathlib.Path
    seeds: Sequence[int]

    def load(self, file: str) -> Any | None:
        """The JSON of a job; None if it is not done."""
        path = self.root / file
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        except ValueError as error:
            raise UserError(
                f"{path}: damaged ({error}); delete it to do this job again."
            ) from error

    def numbers(self, file: str, pick: Callable[[Any], float | None]) -> list[float]:
        """One number of every seed that is done.

        Args:
          file: of a job, with `{seed}` in its name.
          pick: the number in its JSON; None if it is not there.
        """
        found = [self.load(file.format(seed=seed)) for seed in self.seeds]
        numbers = [pick(values) for values in found if values is not None]
        return [number for number in numbers if number is not None]


def coverage(*counts: Sequence[float], of: int) -> str:
    """Says over how many of the classes means were taken, e.g. "16 of 20"; empty if none was.

    Args:
      counts: classes that each mean covers, of every seed.
    """
    found = {int(number) for numbers in counts for number in numbers}
    if not found:
        return ""
    few, many = min(found), max(found)
    return f"{few} of {of}" if few == many else f"{few} to {many} of {of}"


def spread(numbers: Sequence[float]) -> str:
    """Mean and sample deviation; empty if there is no number."""
    if not numbers:
        return ""
    if len(numbers) == 1:
        return f"{numbers[0]:.1f} (1 seed)"
    return f"{statistics.mean(numbers):.1f} ± {statistics.stdev(numbers):.1f}"


def mean(numbers: Sequence[float]) -> float | None:
    """The mean; None if there is no number."""
    return statistics.mean(numbers) if numbers else None
