"""Calls the roll before hosts join: which of them came, and whether they are about to do the same.

Runs over plain sockets and without JAX, whose own start ends in an abort when a host is missing.
Host 0 listens at the address that JAX takes over afterwards.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from mprm_jax.errors import UserError

_READ_SECONDS = 10.0  # for a line of somebody who has connected
_GRACE_SECONDS = 30.0  # for the verdict of a host 0 that was started later than this host
_RETRY_SECONDS = 0.2
_MAX_LINE = 1 << 20  # bytes
_MAX_LISTED = 4


class Place(NamedTuple):
    """Which of how many hosts this is."""

    address: str  # of host 0, e.g. "10.0.0.1:1234"
    count: int
    index: int


class _Caller(NamedTuple):
    """A host that came."""

    count: int
    name: str
    facts: dict[str, str]
    connection: socket.socket | None  # None for host 0 itself


def call_roll(place: Place, facts: Mapping[str, str], seconds: float) -> None:
    """Returns once all hosts have come with the same facts.

    Args:
      facts: what has to be equal everywhere, by name, e.g. versions and settings.
      seconds: how long to wait for the others.

    Raises:
      ValueError: on all hosts that came, with the same text: hosts that did not come, or that
        differ, and in what.
      OSError: the port of host 0 is taken.
    """
    me = _Caller(place.count, socket.gethostname(), dict(facts), None)
    if place.index == 0:
        _preside(place, me, seconds)
    else:
        _answer(place, me, seconds)


def _preside(place: Place, me: _Caller, seconds: float) -> None:
    """Waits for all others, compares them with this host, and tells everybody what was found."""
    present = {0: me}
    with _listen(place) as server:
        doubt = _gather(server, place, present, time.monotonic() + seconds)
        verdict = doubt or _differences(present) or _missing(place, present, seconds)
        for caller in present.values():
            if caller.connection is not None:
                _send(caller.connection, {"verdict": verdict})
                # The one who closes first keeps the port busy for a minute: let it be the others.
                _receive(caller.connection)
                caller.connection.close()
    if verdict:
        raise UserError(verdict)


def _listen(place: Place) -> socket.socket:
    port = int(place.address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=1024)
    except OSError as error:
        raise UserError(
            f"port {port} of this host cannot be used ({os.strerror(error.errno)}); is another "
            "host numbered 0 too, or another run alive? Choose another port, the same on all hosts."
        ) from None


def _gather(
    server: socket.socket, place: Place, present: dict[int, _Caller], deadline: float
) -> str | None:
    """Adds who comes until the deadline; returns what is wrong if two come as the same host."""
    while len(present) < place.count and time.monotonic() < deadline:
        server.settimeout(max(deadline - time.monotonic(), 0.01))
        try:
            connection, _ = server.accept()
        except TimeoutError:
            return None
        said = _receive(connection)
        if not _is_caller(said):
            connection.close()  # not one of ours
            continue
        index = said["index"]
        caller = _Caller(said["count"], said["name"], said["facts"], connection)
        found = present.get(index)
        again = found is not None and index != 0 and not _is_alive(found.connection)
        if again:
            found.connection.close()
        if found is None or again:
            present[index] = caller
            if caller.count != place.count:
                return None  # all are told so at once
            continue
        present[-1] = caller  # to be told, too
        return (
            f"{found.name} and {said['name']} both came as host {index}; give every host "
            f"its own number, 0 to {place.count - 1}."
        )
    return None


def _missing(place: Place, present: Mapping[int, _Caller], seconds: float) -> str | None:
    missing = [i for i in range(place.count) if i not in present]
    if not missing:
        return None
    return (
        f"{len(missing)} of {place.count} hosts did not come within {seconds:g} s: "
        f"host {_listed(map(str, missing))}. Start the same command on all hosts, and see that "
        f"they reach {place.address}."
    )


def _differences(present: Mapping[int, _Caller]) -> str | None:
    """Compares all hosts with host 0; names the first that differs, and in what."""
    first = present[0]
    for index, caller in sorted(present.items()):
        who = f"host {index} ({caller.name})"
        if caller.count != first.count or not 0 <= index < first.count:
            return (
                f"{who} was told of {caller.count} hosts, host 0 of {first.count}; give the same."
            )
        names = [*first.facts, *(name for name in caller.facts if name not in first.facts)]
        changed = [
            f"{name}: {caller.facts.get(name, 'nothing')} there, "
            f"{first.facts.get(name, 'nothing')} on host 0"
            for name in names
            if caller.facts.get(name) != first.facts.get(name)
        ]
        if changed:
            return f"{who} differs ({_listed(changed, '; ')}); make all hosts alike."
    return None


def _answer(place: Place, me: _Caller, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    with _connect(place, deadline, seconds) as connection:
        _send(connection, {"index": place.index} | me._asdict() | {"connection": None})
        said = _receive(connection, seconds + _GRACE_SECONDS)
    if said is None or "verdict" not in said:
        raise UserError(
            f"host 0 at {place.address} ended or went silent before all hosts had come; "
            "its own output says why."
        )
    if said["verdict"]:
        raise UserError(said["verdict"])


def _connect(place: Place, deadline: float, seconds: float) -> socket.socket:
    host, _, port = place.address.rpartition(":")
    while True:
        try:
            return socket.create_connection((host.strip("[]"), int(port)), timeout=_READ_SECONDS)
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"host 0 did not answer at {place.address} within {seconds:g} s "
                    f"({error.strerror or error}); start the same command there, and see that "
                    "this host reaches it."
                ) from None
        time.sleep(_RETRY_SECONDS)


def _is_caller(said: dict[str, Any] | None) -> bool:
    kinds = {"index": int, "count": int, "name": str, "facts": dict}
    return said is not None and all(isinstance(said.get(key), kinds[key]) for key in kinds)


def _is_alive(connection: socket.socket) -> bool:
    """Whether the other end still waits for the verdict."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.setblocking(True)


def _send(connection: socket.socket, values: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # it is gone; whoever reads will notice
        connection.sendall(json.dumps(values).encode() + b"\n")


def _receive(connection: socket.socket, seconds: float | None = None) -> dict[str, Any] | None:
    """One line of JSON; None if none comes."""
    seconds = _READ_SECONDS if seconds is None else seconds
    deadline, line = time.monotonic() + seconds, b""
    try:
        while not line.endswith(b"\n") and len(line) < _MAX_LINE:
            connection.settimeout(max(deadline - time.monotonic(), 0.01))
            part = connection.recv(65536)
            if not part:
                return None
            line += part
        values = json.loads(line)
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _listed(names: Any, separator: str = ", ") -> str:
    names = list(names)
    return separator.join(names[:_MAX_LISTED]) + f"{separator}..." * (len(names) > _MAX_LISTED)
