"""What hosts of one run say to each other outside of the devices: messages, waiting, disks.

On a single host every function returns at once.
"""

import itertools
import json
import logging
import pathlib
import time
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax._src import distributed  # Orbax, too, takes the key-value store from here: no public name
from jax.experimental import multihost_utils

from mprm_jax.errors import UserError
from mprm_jax.types import Array
from mprm_jax.writing import explain_failed_write

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_PATIENCE = 24 * 3600.0  # seconds; hosts share work unevenly, and a dead one ends the others anyway
_SAY_AFTER = 60.0  # seconds of waiting
_POLL_SECONDS = 0.05
_calls = itertools.count()  # all hosts make the same calls in the same order


def is_first_host() -> bool:
    """Whether this host writes what is written once."""
    return jax.process_index() == 0


def exchange(text: str, place: str, seconds: float = _PATIENCE) -> list[str]:
    """What every host says at this place of the program, by number; waits for all of them.

    Raises:
      UserError: a host did not come here in time.
    """
    if jax.process_count() == 1:
        return [text]
    client, key = distributed.global_state.client, f"mprm/{next(_calls)}"
    client.key_value_set(f"{key}/{jax.process_index()}", text)
    start, said = time.monotonic(), 0.0
    while True:
        found = {int(name.rpartition("/")[2]): x for name, x in client.key_value_dir_get(f"{key}/")}
        missing = [str(i) for i in range(jax.process_count()) if i not in found]
        waited = time.monotonic() - start
        if not missing:
            return [found[i] for i in range(jax.process_count())]
        who = f"host {', '.join(missing[:8])}{', ...' * (len(missing) > 8)}"
        if waited > seconds:
            raise UserError(
                f"{who} did not come to {place!r} within {seconds:g} s; see what it is doing, "
                "then start the same command on all hosts again."
            )
        if waited - said > _SAY_AFTER:
            said = waited
            logger.warning("waiting for %s at %r since %.0f s", who, place, waited)
        time.sleep(_POLL_SECONDS)


def wait_for_all_hosts(place: str) -> None:
    """Returns once every host has come here."""
    exchange("", place)


def require_equal(facts: dict[str, str], place: str) -> None:
    """Raises `ValueError` on all hosts, in the same words, if a fact differs on one of them."""
    heard = [json.loads(text) for text in exchange(json.dumps(facts), place)]
    for index, theirs in enumerate(heard):
        for name in heard[0] | theirs:
            first, other = heard[0].get(name, "nothing"), theirs.get(name, "nothing")
            if first != other:
                raise UserError(
                    f"host {index} differs ({name}: {other} there, {first} on host 0); "
                    "make all hosts alike."
                )


def sum_over_hosts(values: Array) -> Array:
    """The sum of an array of all hosts, of any dtype and to the last bit; of the same shape."""
    if jax.process_count() == 1:
        return values
    # As bytes, because JAX would round 64-bit numbers.
    raw = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    gathered = np.ascontiguousarray(multihost_utils.process_allgather(raw))
    parts = gathered.view(values.dtype).reshape(jax.process_count(), *values.shape)
    return parts.sum(axis=0, dtype=values.dtype)


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
        raise UserError(
            f"{folder}: host {apart[0]} does not see what host 0 writes there; give a folder on "
            "a disk that all hosts share."
        )


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
