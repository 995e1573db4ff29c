"""Saves and restores the state of a run: asynchronous, atomic, the last ones and the best kept."""

import contextlib
import itertools
import json
import logging
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from mprm_jax.training.hosts import is_first_host, wait_for_all_hosts

logger = logging.getLogger(__name__)

# What Orbax, TensorStore and JSON raise on files that are cut short, garbled or gone.
_DAMAGE = (ValueError, OSError, KeyError, TypeError, RuntimeError, json.JSONDecodeError)
_REMOVALS, _REMOVAL_SECONDS = 20, 0.1  # of what a failed save left, while its threads still write


class Restored(NamedTuple):
    """A checkpoint: the arrays, and what was written beside them."""

    state: Any
    notes: dict[str, Any]


class Checkpoints:
    """The checkpoints of one work directory; a context manager that waits for the last save."""

    def __init__(self, directory: pathlib.Path, keep_last: int = 2, *, read_only: bool = False):
        self.directory, self._read_only = directory.absolute(), read_only
        keep = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(keep_last),
                preservation_policy.BestN(
                    get_metric_fn=lambda metrics: metrics["score"],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep, cleanup_tmp_directories=not read_only, read_only=read_only
        )
        with self._explained():
            self._manager = ocp.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._explained():
            try:
                self._manager.wait_until_finished()
            finally:
                self._manager.close()
        if kind is not None and issubclass(kind, OSError):
            self._remove_begun()

    def save(self, step: int, state: Any, notes: dict[str, Any], score: float | None) -> None:
        """Starts writing a checkpoint; the arrays may be overwritten at once.

        Args:
          notes: JSON values restored with the state.
          score: the higher, the better; None if this step was not evaluated.

        Raises:
          OSError: the disk is full, now or when the save before this one was being written.
        """
        if step in self._manager.all_steps():
            return
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(notes)
        )
        metrics = None if score is None else {"score": score}
        with self._explained():
            self._manager.save(step, args=args, metrics=metrics)

    def restore_latest(
        self, target: Any, check: Callable[[dict[str, Any]], None] = lambda notes: None
    ) -> Restored | None:
        """The newest readable checkpoint, or None if there is none at all.

        A damaged checkpoint is reported and set aside in the folder `damaged`, and the one before
        it is taken.

        Args:
          target: arrays or shapes with shardings, in the structure of the state.
          check: given the notes before the arrays are read; raises if they do not belong here.

        Raises:
          ValueError: checkpoints exist, but none of them can be read; or by `check`.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for number, step in enumerate(steps):
            notes = self._notes(step)
            if notes is not None:
                check(notes)
            state = None if notes is None else self._read(step, "state", _arrays(target))
            if state is not None:
                self._set_aside(steps[:number])
                return Restored(state, notes)
            logger.warning("falling back to the checkpoint before step %d", step)
        if steps:
            raise ValueError(
                f"{self.directory}: none of the {len(steps)} checkpoints can be read; "
                "start anew in another --workdir."
            )
        return None

    def restore(self, target: Any, choice: str) -> Restored:
        """The checkpoint "last", "best" (by score; else the last), or of a step.

        Args:
          target: as of `restore_latest`.

        Raises:
          FileNotFoundError: there is no such checkpoint.
          ValueError: it cannot be read.
        """
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise FileNotFoundError(f"{self.directory}: no checkpoint; train first with train.py.")
        if choice == "best":
            scores = {step: (self._notes(step) or {}).get("score") for step in steps}
            step = max(steps, key=lambda step: (scores[step] is not None, scores[step], step))
        else:
            step = steps[-1] if choice == "last" else int(choice) if choice.isdigit() else -1
        if step not in steps:
            raise FileNotFoundError(
                f"{self.directory}: no checkpoint {choice!r}; there are last, best, "
                f"{', '.join(map(str, steps))}."
            )
        notes, state = self._notes(step), self._read(step, "state", _arrays(target))
        if notes is None or state is None:
            raise ValueError(
                f"{self.directory / str(step)}: damaged; choose another of "
                f"{', '.join(map(str, steps))}."
            )
        return Restored(state, notes)

    def _notes(self, step: int) -> dict[str, Any] | None:
        return self._read(step, "notes", ocp.args.JsonRestore())

    def _read(self, step: int, item: str, args: ocp.args.CheckpointArgs) -> Any | None:
        """One item of a checkpoint; None, and a warning, if it is damaged."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{item: args}))[item]
        except _DAMAGE as error:
            logger.warning(
                "%s is damaged (%s).",
                self.directory / str(step),
                " ".join(str(error).split())[:120],
            )
            return None

    def _set_aside(self, steps: list[int]) -> None:
        """Moves damaged steps away, so that they can be written again."""
        if not steps:
            return
        aside = self.directory.with_name("damaged")
        if is_first_host():
            aside.mkdir(exist_ok=True)
            for step in steps:
                (self.directory / str(step)).rename(_free_name(aside / str(step)))
        wait_for_all_hosts("damaged checkpoints set aside")
        self._manager.reload()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what Orbax raises on a full disk into one line, and removes what it began."""
        try:
            yield
        except (OSError, ValueError) as error:
            self._remove_begun()
            raise OSError(
                f"{self.directory}: a checkpoint cannot be written ({_reason(error)}); free disk "
                "space, then run the same command again: it continues from the one before."
            ) from error

    def _remove_begun(self) -> None:
        """Removes what a failed save left; a reader leaves alone what another run is writing."""
        if self._read_only:
            return
        for begun in self.directory.glob("*.orbax-checkpoint-tmp"):
            for _ in range(_REMOVALS):
                shutil.rmtree(begun, ignore_errors=True)
                if not begun.exists():
                    break
                time.sleep(_REMOVAL_SECONDS)


def _arrays(target: Any) -> ocp.args.CheckpointArgs:
    return ocp.args.StandardRestore(target)


def _reason(error: Exception) -> str:
    """ "No space left on device" of "RESOURCE_EXHAUSTED: Error writing ...: No space left ..."."""
    return " ".join(str(error).split()).rpartition(": ")[2]


def _free_name(path: pathlib.Path) -> pathlib.Path:
    """The path, or the first of path.1, path.2, ... that does not exist."""
    names = itertools.chain(
        [path], (path.with_name(f"{path.name}.{i}") for i in itertools.count(1))
    )
    return next(name for name in names if not name.exists())
