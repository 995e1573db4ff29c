"""Writes what a run measures: `metrics.jsonl`, TensorBoard, and a progress bar with ETA."""

import json
import logging
import math
import pathlib
from collections.abc import Mapping

import tensorboardX
from tqdm.contrib.logging import logging_redirect_tqdm

from mprm_jax.progress import progress_bar
from mprm_jax.types import Array


class Recorder:
    """The log of one work directory, continued at `step`; a context manager.

    Lines of `metrics.jsonl` after `step` are dropped first: they belong to steps that a resumed
    run takes again.
    """

    def __init__(self, workdir: pathlib.Path, step: int, num_steps: int):
        self._path = workdir / "metrics.jsonl"
        _truncate(self._path, step)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=step + 1, write_to_disk=True
        )
        self._bar = progress_bar(num_steps, "steps", "training", done=step)
        self._redirect = logging_redirect_tqdm()

    def __enter__(self) -> "Recorder":
        self._redirect.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._redirect.__exit__(*error)
        self._bar.close()
        self._board.close()
        self._file.close()

    def advance(self) -> None:
        """Moves the progress bar by one step."""
        self._bar.update()

    def show(self, text: str) -> None:
        """Puts a short status behind the progress bar."""
        self._bar.set_postfix_str(text, refresh=False)

    def write(self, step: int, values: Mapping[str, float | int | Array]) -> None:
        """Records scalars of one step; NaN means "not defined" and is written as null."""
        numbers = {name: float(value) for name, value in values.items()}
        line = {"step": step} | {
            name: value if math.isfinite(value) else None for name, value in numbers.items()
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            if math.isfinite(value):
                self._board.add_scalar(name, value, step)


def _truncate(path: pathlib.Path, step: int) -> None:
    """Keeps the whole lines of earlier steps."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except json.JSONDecodeError:
            logging.getLogger(__name__).warning("%s: dropped a line cut short by a stop.", path)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    temporary.replace(path)
