"""What a run tells while it trains: `metrics.jsonl`, TensorBoard, a progress bar with ETA."""

import json
import logging
import math
import os
import pathlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tensorboardX import SummaryWriter
from tqdm.contrib.logging import logging_redirect_tqdm

from mprm_jax.batches.loader import LoadedBatch
from mprm_jax.errors import UserError
from mprm_jax.progress import progress_bar
from mprm_jax.reading import parse_json
from mprm_jax.training.forecast import Forecast
from mprm_jax.training.inputs import check_overflow
from mprm_jax.types import Array
from mprm_jax.writing import explain_failed_write, write_whole

_FLUSH_SECONDS = 10  # between visits of TensorBoard's file to the disk


class Recorder:
    """The log of one work directory, continued at `step`; a context manager.

    Lines of `metrics.jsonl` after `step` are dropped first: they belong to steps that a resumed
    run takes again.
    """

    def __init__(self, workdir: pathlib.Path, step: int, num_steps: int):
        self._path = workdir / "metrics.jsonl"
        _truncate(self._path, step)
        with explain_failed_write(self._path):
            self._file = self._path.open("a", encoding="utf-8")
            self._board = _Board(workdir / "tensorboard", step + 1)
        self._bar = progress_bar(num_steps, "steps", "training", done=step)
        self._redirect = logging_redirect_tqdm()

    def __enter__(self) -> "Recorder":
        self._redirect.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._redirect.__exit__(*error)
        self._bar.close()
        with explain_failed_write(self._path):
            try:
                self._board.close()
            finally:
                self._file.close()

    def advance(self) -> None:
        """Moves the progress bar by one step."""
        self._bar.update()

    def show(self, text: str) -> None:
        """Puts a short status behind the progress bar."""
        self._bar.set_postfix_str(text, refresh=False)

    def write(self, step: int, values: Mapping[str, float | int | Array]) -> None:
        """Records scalars of one step; NaN means "not defined" and is written as null.

        Raises:
          OSError: the disk is full.
        """
        numbers = {name: float(value) for name, value in values.items()}
        defined = {name: value for name, value in numbers.items() if math.isfinite(value)}
        line = {"step": step} | {name: defined.get(name) for name in numbers}
        with explain_failed_write(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            self._board.write(step, defined)


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


class Journal:
    """What one host tells of a run: the first writes and shows, all check that losses are finite.

    Args:
      recorder: of the first host; None on the others.
      forecast: of the steps that are left.
      schedule: step -> learning rate.
      name: ball -> text for messages.
    """

    def __init__(
        self,
        recorder: Recorder | None,
        window: Window,
        forecast: Forecast,
        schedule: Callable[[int], Array],
        name: Callable[[int], str],
        compiles: Sequence[float],
    ):
        self._recorder, self._window, self._forecast = recorder, window, forecast
        self._schedule, self._name, self._compiles = schedule, name, compiles

    def after_step(self, step: int, metrics: dict[str, Array], loaded: LoadedBatch) -> None:
        """Notes a step that was dispatched."""
        self._forecast.after_step(metrics)
        self._window.add(step, metrics, loaded)
        if self._recorder is not None:
            self._recorder.advance()

    @property
    def num_steps(self) -> int:
        """Steps since the last `log`."""
        return len(self._window)

    def log(self, step: int, epoch: int) -> None:
        """Writes the means since the last time, if there was a step.

        Raises:
          ValueError: see `Window.flush`.
        """
        num_steps = len(self._window)
        if not num_steps:
            return
        values = self._window.flush(self._name)
        self._forecast.after_steps(num_steps, values["speed/seconds_per_step"])
        values["learning_rate"] = float(self._schedule(step - 1))
        values["epoch"] = epoch
        values["compiles"] = len(self._compiles)
        self.write(step, values)
        if self._recorder is not None:
            self._recorder.show(
                f"loss {values['loss']:.3f}  "
                f"{values['speed/points_per_second'] / 1000:.1f}k points/s  "
                f"waiting {100 * values['speed/waiting_share']:.0f} %"
            )

    def write(self, step: int, values: Mapping[str, float | int | Array]) -> None:
        """Records scalars of one step."""
        if self._recorder is not None:
            self._recorder.write(step, values)

    def restart(self) -> None:
        """Leaves the time since the last `log`, spent on something else, out of the speed."""
        self._window.restart()

    def end(self) -> None:
        """Says what became of the forecast."""
        self._forecast.at_end()


class _Board:
    """Scalars for TensorBoard in `directory`; what is there from `first_step` on is hidden.

    `SummaryWriter` writes in a thread of its own. On a full disk that thread ends, its traceback
    comes between our lines, and who fills its queue waits for ever: so does the end of Python, if
    more than a pipe holds is in the queue then. So the queue has no end here, what ended the thread
    is raised by the next call, and every call ends on the disk. In names of scalars, TensorBoard
    shows blanks and the like as "_".
    """

    def __init__(self, directory: pathlib.Path, first_step: int):
        logging.getLogger("tensorboardX").setLevel(logging.WARNING)  # of each such name
        self._directory = directory
        self._error: BaseException | None = None
        self._outer_hook = threading.excepthook
        threading.excepthook = self._note
        try:
            self._writer = SummaryWriter(
                str(directory),
                purge_step=first_step,
                max_queue=0,
                flush_secs=_FLUSH_SECONDS,
                filename_suffix=f".{os.getpid()}",
            )
        except BaseException:
            threading.excepthook = self._outer_hook
            raise

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Records scalars of one step."""
        with explain_failed_write(self._directory):
            self._require_thread()
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def close(self) -> None:
        """Writes what is left."""
        with explain_failed_write(self._directory):
            self._require_thread()
            self._writer.close()
            self._require_thread()
        threading.excepthook = self._outer_hook  # after an error, the thread may be yet to end

    def _note(self, end: threading.ExceptHookArgs) -> None:
        if type(end.thread).__module__.partition(".")[0] == "tensorboardX":
            self._error = end.exc_value
        else:
            self._outer_hook(end)

    def _require_thread(self) -> None:
        if self._error is not None:
            raise self._error


def _truncate(path: pathlib.Path, step: int) -> None:
    """Keeps the whole lines of earlier steps."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if parse_json(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            logging.getLogger(__name__).warning("%s: dropped a line cut short by a stop.", path)
    write_whole(path, "".join(kept))


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
