"""Writes what a run measures: `metrics.jsonl`, TensorBoard, and a progress bar with ETA."""

import json
import logging
import math
import os
import pathlib
import threading
from collections.abc import Mapping

from tensorboardX import SummaryWriter
from tqdm.contrib.logging import logging_redirect_tqdm

from mprm_jax.progress import progress_bar
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


class _Board:
    """Scalars for TensorBoard in `directory`; what is there from `first_step` on is hidden.

    `SummaryWriter` writes in a thread of its own. On a full disk that thread ends, its traceback
    comes between our lines, and who fills its queue waits for ever. So the queue has no end here,
    and what ended the thread is raised by the next call. In names of scalars, TensorBoard shows
    blanks and the like as "_".
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


class NoRecorder:
    """The recorder of hosts other than the first: takes everything and writes nothing."""

    def __enter__(self) -> "NoRecorder":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self) -> None:
        """Does nothing."""

    def show(self, text: str) -> None:
        """Does nothing."""

    def write(self, step: int, values: Mapping[str, float | int | Array]) -> None:
        """Does nothing."""


def _truncate(path: pathlib.Path, step: int) -> None:
    """Keeps the whole lines of earlier steps."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            logging.getLogger(__name__).warning("%s: dropped a line cut short by a stop.", path)
    write_whole(path, "".join(kept))
