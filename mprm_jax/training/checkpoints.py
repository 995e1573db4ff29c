"""Saves and restores the state of a run: asynchronous, atomic, the last ones and the best kept."""

import itertools
import json
import logging
import pathlib
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

logger = logging.getLogger(__name__)

# What Orbax, TensorStore and JSON raise on files that are cut short, garbled or gone.
_DAMAGE = (ValueError, OSError, KeyError, TypeError, RuntimeError, json.JSONDecodeError)


class Restored(NamedTuple):
    """A checkpoint: the arrays, and what was written beside them."""

    state: Any
    notes: dict[str, Any]


class Checkpoints:
    """The checkpoints of one work directory; a context manager that waits for the last save."""

    def __init__(self, directory: pathlib.Path, keep_last: int = 2):
        self._directory = directory.absolute()
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
            preservation_policy=keep, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def save(self, step: int, state: Any, notes: dict[str, Any], score: float | None) -> None:
        """Starts writing a checkpoint; the arrays may be overwritten at once.

        Args:
          notes: JSON values restored with the state.
          score: the higher, the better; None if this step was not evaluated.
        """
        if step in self._manager.all_steps():
            return
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(notes)
        )
        self._manager.save(step, args=args, metrics=None if score is None else {"score": score})

    def restore_latest(self, target: Any) -> Restored | None:
        """The newest readable checkpoint, or None if there is none at all.

        A damaged checkpoint is reported and set aside in the folder `damaged`, and the one before
        it is taken.

        Args:
          target: arrays or shapes with shardings, in the structure of the state.

        Raises:
          ValueError: checkpoints exist, but none of them can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for number, step in enumerate(steps):
            try:
                restored = self._restore(step, target)
            except _DAMAGE as error:
                logger.warning(
                    "%s is damaged (%s); falling back to the checkpoint before it.",
                    self._directory / str(step),
                    " ".join(str(error).split())[:120],
                )
            else:
                self._set_aside(steps[:number])
                return restored
        if steps:
            raise ValueError(
                f"{self._directory}: none of the {len(steps)} checkpoints can be read; "
                "start anew in another --workdir."
            )
        return None

    def _restore(self, step: int, target: Any) -> Restored:
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(target), notes=ocp.args.JsonRestore()
        )
        found = self._manager.restore(step, args=args)
        return Restored(found.state, found.notes)

    def _set_aside(self, steps: list[int]) -> None:
        """Moves damaged steps away, so that they can be written again."""
        if not steps:
            return
        aside = self._directory.with_name("damaged")
        if jax.process_index() == 0:
            aside.mkdir(exist_ok=True)
            for step in steps:
                (self._directory / str(step)).rename(_free_name(aside / str(step)))
        self._manager.reload()


def _free_name(path: pathlib.Path) -> pathlib.Path:
    """The path, or the first of path.1, path.2, ... that does not exist."""
    names = itertools.chain(
        [path], (path.with_name(f"{path.name}.{i}") for i in itertools.count(1))
    )
    return next(name for name in names if not name.exists())
