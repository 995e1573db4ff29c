"""Saves and restores the state of a run: asynchronous, atomic, the last ones and the best kept."""

import contextlib
import errno
import json
import logging
import math
import os
import pathlib
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import PolicyCheckpointInfo, PreservationContext

from mprm_jax.errors import MissingError, UserError
from mprm_jax.reading import read_json
from mprm_jax.training.hosts import is_first_host, wait_for_all_hosts
from mprm_jax.types import Array
from mprm_jax.writing import FailedWriteError, free_name, write_whole

logger = logging.getLogger(__name__)

_SCORE, _CRC = "score", "crc32"  # kept with the notes, and not of them
_SCORE_FILE = "score.json"  # of a step that was evaluated after it had been saved
# What TensorStore says, as the first word of a ValueError, of files cut short, garbled or gone.
_DAMAGE = ("DATA_LOSS", "FAILED_PRECONDITION", "NOT_FOUND", "OUT_OF_RANGE")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EIO)
_REMOVALS, _REMOVAL_SECONDS = 20, 0.1  # of what a failed save left, while its threads still write
_MAX_LISTED, _MAX_REASON = 3, 160
_BAD_JSON = (json.JSONDecodeError, RecursionError)  # the second of nesting beyond all reason


class _DamagedError(Exception):
    """Files of a checkpoint are cut short, garbled or gone; the text says which and how."""


class Restored(NamedTuple):
    """A checkpoint: the arrays, and what was written beside them."""

    state: Any
    notes: dict[str, Any]


class Checkpoints:
    """The checkpoints of one work directory; a context manager that waits for the last save."""

    def __init__(self, directory: pathlib.Path, keep_last: int = 2, *, read_only: bool = False):
        self.directory, self._read_only = directory.absolute(), read_only
        self._scores: dict[int, float | None] = {}
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_LastAndBest(keep_last, self._score),
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        try:
            with self._explained():
                self._manager = ocp.CheckpointManager(self.directory, options=options)
        except RecursionError:  # other damage is told step by step
            raise UserError(
                f"{self.directory}: a file of it is nested beyond all reason; it is none that was "
                "written here, choose another --workdir."
            ) from None

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

        A step that is there already stays as it is, and gets the score if there is one.

        Args:
          notes: JSON values restored with the state.
          score: the higher, the better; None if this step was not evaluated.

        Raises:
          OSError: the disk is full or not writable, now or when the save before this one was
            being written.
        """
        if step in self._manager.all_steps():
            if score is not None:
                self._add_score(step, score)
            return
        notes = notes | {_SCORE: score, _CRC: _checksums(jax.device_get(state))}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(notes)
        )
        for earlier in self._manager.all_steps():
            self._score(earlier)  # read now: what is kept is decided while files are being written
        self._scores[step] = score
        with self._explained():
            self._manager.save(step, args=args)

    def has_any(self) -> bool:
        """Whether something was saved."""
        return bool(self._manager.all_steps())

    def restore_latest(
        self, target: Any, check: Callable[[dict[str, Any]], None] = lambda notes: None
    ) -> Restored | None:
        """The newest readable checkpoint, or None if there is none at all.

        A damaged checkpoint is reported and set aside in the folder `damaged`, and the one before
        it is taken. One of another network is an error, and stays where it is.

        Args:
          target: arrays or shapes with shardings, in the structure of the state.
          check: given the notes before the arrays are read; raises if they do not belong here.

        Raises:
          ValueError: checkpoints exist, but none of them can be read, or the newest is of another
            network; or by `check`.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for number, step in enumerate(steps):
            try:
                notes = self._notes(step)
                check(_without_own(notes))
                state = self._state(step, target, notes, whole=True)
            except _DamagedError as error:
                logger.warning("%s; falling back to the checkpoint before it", error)
                continue
            self._set_aside(steps[:number])
            return Restored(state, _without_own(notes))
        if steps:
            raise UserError(
                f"{self.directory}: none of the {len(steps)} checkpoints can be read; "
                "start anew in another --workdir."
            )
        return None

    def restore(self, target: Any, choice: str) -> Restored:
        """The checkpoint "last", "best" (by score; else the last), or of a step.

        Args:
          target: as of `restore_latest`; its fields without arrays are not read.

        Raises:
          FileNotFoundError: there is no such checkpoint.
          ValueError: it is damaged or of another network.
        """
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise MissingError(f"{self.directory}: no checkpoint; train first with mprm train.")
        if choice == "best":
            best = _best(steps, self._score)
            step = steps[-1] if best is None else best
        else:
            step = steps[-1] if choice == "last" else int(choice) if choice.isdigit() else -1
        if step not in steps:
            raise MissingError(
                f"{self.directory}: no checkpoint {choice!r}; there are last, best, "
                f"{', '.join(map(str, steps))}."
            )
        try:
            notes = self._notes(step)
            state = self._state(step, target, notes, whole=False)
            return Restored(state, _without_own(notes))
        except _DamagedError as error:
            others = ", ".join(str(other) for other in steps if other != step)
            remedy = f"choose another --checkpoint of {others}" if others else "train again"
            raise UserError(f"{error}; {remedy}.") from None

    def _score(self, step: int) -> float | None:
        """By which a step is the best; None if it was not evaluated or cannot be read."""
        if step not in self._scores:
            late = self.directory / str(step) / _SCORE_FILE
            try:
                notes = read_json(late) if late.is_file() else self._notes(step)
                self._scores[step] = notes.get(_SCORE)
            except (_DamagedError, ValueError):
                self._scores[step] = None
        return self._scores[step]

    def _add_score(self, step: int, score: float) -> None:
        with self._explained():
            self._manager.wait_until_finished()
        self._scores[step] = score
        if is_first_host():
            write_whole(self.directory / str(step) / _SCORE_FILE, json.dumps({_SCORE: score}))

    def _notes(self, step: int) -> dict[str, Any]:
        args = ocp.args.Composite(notes=ocp.args.JsonRestore())
        try:
            return self._manager.restore(step, args=args)["notes"]
        except (*_BAD_JSON, UnicodeDecodeError, FileNotFoundError, KeyError) as error:
            raise self._damaged(step, f"notes: {error}") from error

    def _state(self, step: int, target: Any, notes: dict[str, Any], *, whole: bool) -> Any:
        """The arrays of a step in the structure and on the devices of a target.

        Args:
          whole: the target holds all that was saved; if not, fields it lacks are not read.
        """
        path = self.directory / str(step) / "state"
        leaves, structure = jax.tree.flatten_with_path(target)
        wanted = {_name(keys): leaf for keys, leaf in leaves}
        with ocp.PyTreeCheckpointer() as reader:
            try:
                stored = reader.metadata(path).item_metadata
                if stored is None:
                    raise self._damaged(step, "state: no description of its arrays")
                parts = {_name(keys[:1]) for keys, _ in leaves}
                tree = {name: x for name, x in stored.tree.items() if whole or name in parts}
                self._require_same_arrays(step, tree, wanted)
                found = reader.restore(path, _as_numpy(tree))
            except _BAD_JSON as error:
                raise self._damaged(step, f"state: {error}") from error
            except ValueError as error:
                if not str(error).startswith(_DAMAGE):
                    raise
                raise self._damaged(step, f"state: {error}") from error
        for part, checksum in _checksums(found).items():
            if checksum != notes.get(_CRC, {}).get(part, checksum):
                raise self._damaged(step, f"state: {part} has other values than were saved")
        arrays = {_name(keys): x for keys, x in jax.tree.leaves_with_path(found)}
        placed = [_placed(arrays[name], leaf) for name, leaf in wanted.items()]
        return jax.tree.unflatten(structure, placed)

    def _require_same_arrays(self, step: int, tree: Any, wanted: dict[str, Any]) -> None:
        """Raises `ValueError` naming the arrays in which a checkpoint is not as the target."""
        stored = {_name(keys): x.shape for keys, x in jax.tree.leaves_with_path(tree)}
        differing = [
            f"{name}: {stored.get(name, 'not')} there, "
            f"{wanted[name].shape if name in wanted else 'not'} in this program"
            for name in sorted(stored.keys() | wanted.keys(), key=_parameters_first)
            if name not in stored or name not in wanted or stored[name] != wanted[name].shape
        ]
        if differing:
            listed = "; ".join(differing[:_MAX_LISTED])
            more = f"; and {len(differing) - _MAX_LISTED} more" * (len(differing) > _MAX_LISTED)
            raise UserError(
                f"{self.directory / str(step)}: holds another network than these settings make in "
                f"this version ({listed}{more}); use the version that wrote it, or another "
                "--workdir."
            )

    def _damaged(self, step: int, reason: str) -> _DamagedError:
        reason = " ".join(reason.split())[:_MAX_REASON]
        return _DamagedError(f"{self.directory / str(step)} is damaged ({reason})")

    def _set_aside(self, steps: list[int]) -> None:
        """Moves damaged steps away, so that they can be written again."""
        if not steps:
            return
        aside = self.directory.with_name("damaged")
        if is_first_host():
            aside.mkdir(exist_ok=True)
            for step in steps:
                (self.directory / str(step)).rename(free_name(aside / str(step)))
        wait_for_all_hosts("damaged checkpoints set aside")
        self._manager.reload()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what the system says of a disk into one line, and removes what was begun."""
        try:
            yield
        except (OSError, ValueError) as error:
            self._remove_begun()
            code = _system_error(error)
            if code is None or self._read_only:
                raise
            remedy = "make it writable or choose another --workdir."
            if code in _FULL:
                remedy = (
                    "free disk space, then run the same command again: it continues from the one "
                    "before."
                )
            raise FailedWriteError(
                f"{self.directory}: a checkpoint cannot be written ({os.strerror(code)}); {remedy}"
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


class _LastAndBest:
    """Which checkpoints Orbax keeps. Its own policy forgets scores when a run is resumed."""

    def __init__(self, keep_last: int, score: Callable[[int], float | None]):
        self._keep_last, self._score = keep_last, score

    def should_preserve(
        self, checkpoints: Sequence[PolicyCheckpointInfo], *, context: PreservationContext
    ) -> Sequence[bool]:
        steps = sorted(checkpoint.step for checkpoint in checkpoints)
        kept = {*steps[-self._keep_last :], _best(steps, self._score)}
        return [checkpoint.step in kept for checkpoint in checkpoints]


def _best(steps: Sequence[int], score: Callable[[int], float | None]) -> int | None:
    """The step of the highest score, of equals the last; None if no step has one."""
    scores = {step: score(step) for step in steps}
    # A validation without anything to measure scores NaN.
    scored = [step for step in steps if scores[step] is not None and not math.isnan(scores[step])]
    return max(scored, key=lambda step: (scores[step], step), default=None)


def _without_own(notes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in notes.items() if name not in (_SCORE, _CRC)}


def _name(keys: Sequence[Any]) -> str:
    """A place in a tree: "params/encoder/weights", whatever containers hold it."""
    return jax.tree_util.keystr(tuple(keys), simple=True, separator="/")


def _parameters_first(name: str) -> tuple[bool, str]:
    return not name.startswith("params/"), name


def _as_numpy(tree: Any) -> ocp.args.PyTreeRestore:
    """Reads to the host, so that what fails is the file and not a device."""
    how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return ocp.args.PyTreeRestore(item=tree, restore_args=how, partial_restore=True)


def _placed(array: Array, like: Any) -> jax.Array:
    """An array with the type and on the devices of another one."""

    def part(index: Any) -> Array:
        # A copy for each device: a step may write over what it is given.
        return np.array(array[index], like.dtype)

    return jax.make_array_from_callback(array.shape, like.sharding, part)


def _checksums(tree: Any) -> dict[str, int]:
    """A checksum of the arrays of each field, in whatever order and containers they come."""
    sums: dict[str, int] = {}
    for keys, array in jax.tree.leaves_with_path(tree):
        crc = zlib.crc32(
            np.ascontiguousarray(array).view(np.uint8), zlib.crc32(_name(keys).encode())
        )
        sums[_name(keys[:1])] = sums.get(_name(keys[:1]), 0) ^ crc
    return sums


def _system_error(error: OSError | ValueError) -> int | None:
    """The system's number of an error that a user can mend; TensorStore says it in words only."""
    text = os.strerror(error.errno) if getattr(error, "errno", None) else str(error)
    return next((x for x in (*_FULL, *_UNWRITABLE) if os.strerror(x) in text), None)
