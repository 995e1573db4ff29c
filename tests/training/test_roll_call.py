"""Hosts that come, do not come, differ, or are none: all that came hear the same."""

import concurrent.futures
import contextlib
import socket
import threading
import time

import pytest
from pairs import free_port

from mprm_jax.training import roll_call
from mprm_jax.training.roll_call import Place, call_roll

FACTS = {"jax": "1.0", "optim.momentum": "0.9"}
LONG = 20.0  # seconds; more than any of these tests takes
SHORT = 0.3  # seconds; for hosts that are waited for in vain


@pytest.fixture
def address():
    return f"127.0.0.1:{free_port()}"


def said(place: Place, facts=FACTS, seconds=LONG) -> str | None:
    """What a host ends with; None if all is well."""
    try:
        call_roll(place, facts, seconds)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def said_by(*hosts) -> list[str | None]:
    """What hosts that run side by side end with, given the arguments of each."""
    with concurrent.futures.ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(lambda host: said(*host), hosts))


def said_by_all(*hosts) -> str:
    """The one text that all hosts end with."""
    texts = set(said_by(*hosts))
    assert len(texts) == 1
    return texts.pop()


def test_hosts_that_all_come_go_on(address):
    assert said_by(*((Place(address, 3, index),) for index in range(3))) == [None] * 3


def test_hosts_may_come_one_after_the_other(address):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        last = pool.submit(said, Place(address, 2, 1))
        time.sleep(0.1)
        assert said(Place(address, 2, 0)) is None
        assert last.result() is None


def test_the_port_is_free_again_at_once(address):
    for _ in range(3):
        assert said_by(*((Place(address, 2, index),) for index in range(2))) == [None] * 2
        socket.create_server(("", int(address.rpartition(":")[2]))).close()


def test_a_missing_host_is_named_to_all_that_came(address):
    text = said_by_all(*((Place(address, 4, index), FACTS, SHORT) for index in (0, 2)))
    assert text == (
        "2 of 4 hosts did not come within 0.3 s: host 1, 3. Start the same command on all hosts, "
        f"and see that they reach {address}."
    )


def test_a_missing_host_0_is_named(address):
    text = said(Place(address, 2, 1), FACTS, SHORT)
    assert text.startswith(f"host 0 did not answer at {address} within 0.3 s (")


def test_the_end_of_host_0_is_named(address):
    port = int(address.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)) as server:
        threading.Thread(target=lambda: server.accept()[0].close()).start()
        text = said(Place(address, 2, 1))
    assert text.startswith(f"host 0 at {address} ended or went silent before all hosts had come")


def test_a_host_with_other_facts_is_named_to_all(address):
    other = {"jax": "1.0", "optim.momentum": "0.5", "source": "abc"}
    text = said_by_all(
        (Place(address, 3, 0),), (Place(address, 3, 1),), (Place(address, 3, 2), other)
    )
    assert text == (
        f"host 2 ({socket.gethostname()}) differs (optim.momentum: 0.5 there, 0.9 on host 0; "
        "source: abc there, nothing on host 0); make all hosts alike."
    )


def test_many_differences_are_cut_short(address):
    other = {f"setting{i}": "x" for i in range(9)}
    text = said_by_all((Place(address, 2, 0), {}), (Place(address, 2, 1), other))
    assert "setting3" in text and "setting4" not in text and "; ...)" in text


def test_two_hosts_with_one_number_are_told_so(address):
    text = said_by_all(*((Place(address, 3, index),) for index in (0, 1, 1)))
    assert text == (
        f"{socket.gethostname()} and {socket.gethostname()} both came as host 1; give every host "
        "its own number, 0 to 2."
    )


@pytest.mark.parametrize("place", [(2, 1), (4, 3)])
def test_a_host_told_of_another_number_of_hosts_ends_all_at_once(address, place):
    text = said_by_all((Place(address, 3, 0),), (Place(address, *place),))
    assert text == (
        f"host {place[1]} ({socket.gethostname()}) was told of {place[0]} hosts, host 0 of 3; "
        "give the same."
    )


@pytest.mark.parametrize(
    "nonsense",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe\n", b"[1, 2]\n", b'{"index": 1}\n', b"{" * 5000],
    ids=["nothing", "a browser", "bytes", "a list", "half", "no end"],
)
def test_a_stranger_is_ignored(address, nonsense):
    host, _, port = address.rpartition(":")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(said, Place(address, 2, 0))
        with connected(host, int(port)) as stranger:
            stranger.sendall(nonsense)
        assert said(Place(address, 2, 1)) is None
        assert first.result() is None


def test_a_stranger_who_says_nothing_holds_nobody_up_for_long(address, monkeypatch):
    monkeypatch.setattr(roll_call, "_READ_SECONDS", 0.1)
    host, _, port = address.rpartition(":")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(said, Place(address, 2, 0))
        with connected(host, int(port)):
            assert said(Place(address, 2, 1)) is None
            assert first.result() is None


def test_a_host_that_was_started_again_is_counted_once(address):
    host, _, port = address.rpartition(":")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(said, Place(address, 3, 0))
        with connected(host, int(port)) as killed:
            killed.sendall(b'{"index": 1, "count": 3, "name": "b", "facts": {}}\n')
        again = [pool.submit(said, Place(address, 3, index)) for index in (1, 2)]
        assert [host.result() for host in (first, *again)] == [None] * 3


def test_a_taken_port_is_named_with_a_remedy(address):
    port = int(address.rpartition(":")[2])
    with socket.create_server(("", port)):
        text = said(Place(address, 2, 0))
    assert text.startswith(f"port {port} of this host cannot be used (Address already in use)")
    assert text.endswith("Choose another port, the same on all hosts.")


@contextlib.contextmanager
def connected(host: str, port: int):
    """A connection to host 0, as soon as it listens."""
    deadline = time.monotonic() + LONG
    while True:
        try:
            connection = socket.create_connection((host, port))
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with connection:
        yield connection
