"""What hosts say to each other. Threads stand for hosts; a dictionary for JAX's key-value store."""

import concurrent.futures
import itertools
import threading
import types

import jax
import numpy as np
import pytest

from mprm_jax.training import hosts
from mprm_jax.training.hosts import (
    exchange,
    first_on_each_disk,
    is_first_host,
    require_equal,
    require_shared,
    sum_over_hosts,
)


class KeyValueStore:
    """The part of JAX's client that is used here."""

    def __init__(self):
        self._values = {}

    def key_value_set(self, key, value):
        assert key not in self._values
        self._values[key] = value

    def key_value_dir_get(self, folder):
        return [(key, x) for key, x in self._values.copy().items() if key.startswith(folder)]


class Host(threading.local):
    """Which host a thread is, and how often it has called the others."""

    def become(self, index):
        self.index, self._calls = index, itertools.count()

    def __next__(self):
        return next(self._calls)


@pytest.fixture
def on_hosts(monkeypatch):
    """Calls a function of its number on each of some hosts; returns results, or error texts."""

    def on_hosts(count, work):
        here = Host()
        state = types.SimpleNamespace(global_state=types.SimpleNamespace(client=KeyValueStore()))
        monkeypatch.setattr(hosts, "distributed", state)
        monkeypatch.setattr(hosts, "_calls", here)
        monkeypatch.setattr(jax, "process_count", lambda: count)
        monkeypatch.setattr(jax, "process_index", lambda: here.index)

        def run(index):
            here.become(index)
            try:
                return work(index)
            except (ValueError, OSError) as error:  # a TimeoutError is an OSError
                return str(error)

        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return list(pool.map(run, range(count)))

    return on_hosts


def test_a_host_alone_waits_for_nobody(tmp_path):
    assert is_first_host()
    assert exchange("a", "here") == ["a"]
    require_equal({"a": "1"}, "here")
    values = np.arange(3)
    assert sum_over_hosts(values) is values
    assert first_on_each_disk([tmp_path / "data"], lambda: 5, "the data") == 5
    require_shared(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_all_hosts_hear_all(on_hosts):
    def work(index):
        return exchange(f"I am {index}", "first"), exchange(f"{index}", "second")

    said = ["I am 0", "I am 1", "I am 2"], ["0", "1", "2"]
    assert on_hosts(3, work) == [said] * 3


def test_only_one_host_is_the_first(on_hosts):
    assert on_hosts(3, lambda _: is_first_host()) == [True, False, False]


def test_who_does_not_come_in_time_is_named(on_hosts):
    def work(index):
        return index or exchange("", "the meeting", seconds=0.1)

    assert on_hosts(3, work)[0] == (
        "host 1, 2 did not come to 'the meeting' within 0.1 s; see what it is doing, then start "
        "the same command on all hosts again."
    )


def test_waiting_is_said(on_hosts, monkeypatch, caplog):
    monkeypatch.setattr(hosts, "_SAY_AFTER", 0.01)

    def work(index):
        return index or exchange("", "the meeting", seconds=0.2)

    on_hosts(2, work)
    assert "waiting for host 1 at 'the meeting' since " in caplog.text


def test_equal_facts_pass(on_hosts):
    assert on_hosts(3, lambda _: require_equal({"a": "1\n2", "b": ""}, "here")) == [None] * 3


@pytest.mark.parametrize(
    ("facts", "found"),
    [({"a": "1", "b": "3"}, "b: 3 there, 2"), ({"a": "1"}, "b: nothing there, 2")],
    ids=["other", "fewer"],
)
def test_a_fact_that_differs_is_named_to_all(on_hosts, facts, found):
    def work(index):
        require_equal(facts if index == 1 else {"a": "1", "b": "2"}, "here")

    text = f"host 1 differs ({found} on host 0); make all hosts alike."
    assert on_hosts(3, work) == [text] * 3


def test_what_is_made_is_made_once_on_a_shared_disk(on_hosts, tmp_path):
    found, makers = tmp_path / "data" / "made", []

    def work(index):
        def make():
            if not found.exists():
                makers.append(index)
                found.touch()
            return index

        return first_on_each_disk([tmp_path / "data"], make, "the data")

    assert on_hosts(3, work) == [0, 1, 2]
    assert makers == [0]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["made"]


def test_hosts_with_disks_of_their_own_need_not_wait_for_each_other(on_hosts, tmp_path, caplog):
    """Hosts 0 and 2 share a disk, host 1 has one of its own."""
    folders = [tmp_path / "shared", tmp_path / "own", tmp_path / "shared"]
    on_hosts(3, lambda index: first_on_each_disk([folders[index]], lambda: None, "the data"))
    assert caplog.messages == ["waiting for host 0, which makes the data"]


def test_a_work_directory_on_a_shared_disk_passes(on_hosts, tmp_path):
    assert on_hosts(3, lambda _: require_shared(tmp_path / "run")) == [None] * 3


def test_a_work_directory_that_a_host_does_not_see_is_refused_on_all(on_hosts, tmp_path):
    def work(index):
        require_shared(tmp_path / ("own" if index == 2 else "shared"))

    texts = on_hosts(3, work)
    assert all(": host 2 does not see what host 0 writes there; give a folder" in x for x in texts)
