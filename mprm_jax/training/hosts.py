"""What hosts of one run say to each other between the steps: messages, waiting, disks.

On a single host every function returns at once.
"""

import concurrent.futures
import itertools
import json
import logging
import pathlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint.multihost import get_barrier_sync_fn

from mprm_jax.errors import UserError
from mprm_jax.types import Array
from mprm_jax.writing import explain_failed_write

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_PATIENCE = 24 * 3600.0  # seconds; hosts share work unevenly, and a dead one ends the others anyway
FOREVER_MS = 10 * 365 * 24 * 3600 * 1000
_SAY_AFTER = 60.0  # seconds of waiting
_LOOK_SECONDS = 1.0
_MAX_LISTED = 4  # differences
_MAX_NAMED = 8  # hosts
_meetings = itertools.count()  # all hosts make the same calls in the same order


class KnownError(UserError):
    """An error that all hosts know of, and end with."""


def is_first_host() -> bool:
    """Whether this host writes what is written once."""
    return jax.process_index() == 0


def exchange(text: str, place: str, seconds: float = _PATIENCE) -> list[str]:
    """What every host says at this place of the program, by number; waits for all of them.

    Raises:
      ValueError: a host did not come here in time, or came to say that it failed.
    """
    return [said.decode() for said in _gather(text.encode(), place, seconds)]


def wait_for_all_hosts(place: str) -> None:
    """Returns once every host has come here."""
    exchange("", place)


def require_equal(facts: Mapping[str, str], place: str) -> None:
    """Raises `ValueError` on all hosts, in the same words, if facts differ on one of them."""
    heard = [json.loads(text) for text in exchange(json.dumps(dict(facts)), place)]
    for index, theirs in enumerate(heard):
        pairs = {
            name: (theirs.get(name, "nothing"), heard[0].get(name, "nothing"))
            for name in heard[0] | theirs
        }
        found = [f"{name}: {a} there, {b} on host 0" for name, (a, b) in pairs.items() if a != b]
        if found:
            listed = "; ".join(found[:_MAX_LISTED]) + "; ..." * (len(found) > _MAX_LISTED)
            raise KnownError(f"host {index} differs ({listed}); make all hosts alike.")


def tell_failure(reason: str, seconds: float) -> None:
    """Comes to the next meeting to say that this host failed, which ends all that come there.

    Raises:
      ValueError: all have heard it, or not all came in time.
    """
    _gather(reason.encode(), "the end", seconds, failed=True)


def sum_over_hosts(values: Array) -> Array:
    """The sum of an array of all hosts, of any dtype and to the last bit; of the same shape."""
    if jax.process_count() == 1:
        return values
    # As bytes, because JAX would round 64-bit numbers.
    heard = _gather(np.ascontiguousarray(values).tobytes(), "a sum", _PATIENCE)
    parts = [np.frombuffer(said, values.dtype).reshape(values.shape) for said in heard]
    return np.sum(parts, axis=0, dtype=values.dtype)


def first_on_each_disk(folders: list[pathlib.Path], make: Callable[[], _T], what: str) -> _T:
    """Runs `make` on one host per disk first, then on the others, which find its result.

    Args:
      folders: made where missing; hosts that see one of them in common take turns.
      what: is made, for the message to those who wait.

    Raises:
      OSError: a folder cannot be written.
    """
    if jax.process_count() == 1:
        return make()
    leader = _disk_leader(folders)
    mine = leader == jax.process_index()
    if not mine:
        logger.warning("waiting for host %d, which makes %s", leader, what)
    made = make() if mine else None
    wait_for_all_hosts(what)
    return made if mine else make()


def require_shared(folder: pathlib.Path) -> None:
    """Raises `ValueError` unless all hosts see the same folder; makes it."""
    if jax.process_count() == 1:
        return
    leaders = exchange(str(_disk_leader([folder])), f"{folder}")
    apart = [index for index, leader in enumerate(leaders) if leader != "0"]
    if apart:
        raise KnownError(
            f"{folder}: host {apart[0]} does not see what host 0 writes there; give a folder on "
            "a disk that all hosts share."
        )


def in_background(work: Callable[[], Any]) -> concurrent.futures.Future:
    """Runs work in a thread that keeps no process alive; its error is the future's.

    An executor of the standard library waits at exit for threads that may never come back.
    """
    future = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _gather(said: bytes, place: str, seconds: float, *, failed: bool = False) -> list[bytes]:
    """What every host says, by number; raises `KnownError` on all if one says that it failed."""
    if jax.process_count() == 1:
        return [said]
    _meet(place, seconds)
    sizes = multihost_utils.process_allgather(np.array([len(said), failed], np.int32))
    # A power of two: few shapes, few programs.
    row = np.zeros(1 << int(sizes[:, 0].max()).bit_length(), np.uint8)
    row[: len(said)] = np.frombuffer(said, np.uint8)
    rows = multihost_utils.process_allgather(row)
    heard = [row[:size].tobytes() for row, size in zip(rows, sizes[:, 0], strict=True)]
    for index in np.flatnonzero(sizes[:, 1]):
        raise KnownError(f"host {index} ended: {heard[index].decode()}")
    return heard


def _meet(place: str, seconds: float) -> None:
    """Returns once all hosts have come; devices, whose patience is short, take no part."""
    key, everybody = f"mprm/{next(_meetings)}", range(jax.process_count())
    # Host 0 meets each of the others first, so it knows who is missing.
    pairs = [{0, i} for i in everybody if i] if is_first_host() else [{0, jax.process_index()}]
    barriers = {}
    for pair in pairs:
        (other,) = pair - {jax.process_index()}
        barriers[other] = _barrier(f"{key}/{max(pair)}", pair)
    _wait(barriers, place, seconds)
    _wait({None: _barrier(key, None)}, place, seconds)


def _barrier(key: str, hosts: set[int] | None) -> concurrent.futures.Future:
    barrier = get_barrier_sync_fn(processes=hosts)
    return in_background(lambda: barrier(key=key, timeout_ms=FOREVER_MS))


def _wait(
    barriers: Mapping[int | None, concurrent.futures.Future], place: str, seconds: float
) -> None:
    """Waits for hosts, by number; None stands for some other host."""
    start, said = time.monotonic(), 0.0
    while missing := [host for host, barrier in barriers.items() if not barrier.done()]:
        waited = time.monotonic() - start
        if waited > seconds:
            raise UserError(
                f"{_named(missing)} did not come to {place!r} within {seconds:g} s; see what it is "
                f"doing, then start the same command on all hosts again."
            )
        if waited - said > _SAY_AFTER:
            said = waited
            logger.warning("waiting for %s at %r since %.0f s", _named(missing), place, waited)
        concurrent.futures.wait(barriers.values(), timeout=min(seconds, _LOOK_SECONDS))
    for barrier in barriers.values():
        barrier.result()


def _named(hosts: Any) -> str:
    numbers = [str(host) for host in hosts if host is not None]
    listed = ", ".join(numbers[:_MAX_NAMED]) + ", ..." * (len(numbers) > _MAX_NAMED)
    return f"host {listed}" if numbers else "another host"


def _disk_leader(folders: list[pathlib.Path]) -> int:
    """The first of the hosts that see one of these folders as this host sees it."""
    run = exchange(f"{time.time_ns():x}", "names of tokens")[0]
    # A name that nobody has looked up before, which no network disk remembers as missing.
    tokens = [f".host-{run}-{index}" for index in range(jax.process_count())]
    mine = [folder / tokens[jax.process_index()] for folder in folders]
    for path in mine:
        with explain_failed_write(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    try:
        wait_for_all_hosts("tokens")
        seen = [
            index
            for index, token in enumerate(tokens)
            if any((folder / token).exists() for folder in folders)
        ]
        wait_for_all_hosts("looked for tokens")
    finally:
        for path in mine:
            path.unlink(missing_ok=True)
    return min(seen)
