"""What hosts say to each other. Threads stand for hosts, and meet as JAX's processes do."""

import concurrent.futures
import itertools
import threading

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from mprm_jax.training import hosts
from mprm_jax.training.hosts import (
    exchange,
    first_on_each_disk,
    is_first_host,
    require_equal,
    require_shared,
    sum_over_hosts,
    tell_failure,
)

PATIENCE = 20.0  # seconds; more than any of these tests takes


class Meetings:
    """Barriers by name, and arrays of all hosts: what JAX and Orbax offer to processes."""

    def __init__(self, count, here):
        self._count, self._here, self._lock = count, here, threading.Lock()
        self._barriers, self._arrays = {}, {}

    def get_barrier_sync_fn(self, processes=None):
        def wait(key, timeout_ms):
            with self._lock:
                barrier = self._barriers.setdefault(
                    key, threading.Barrier(len(processes or range(self._count)))
                )
            barrier.wait(PATIENCE)

        return wait

    def process_allgather(self, array):
        number = self._here.next_array()
        with self._lock:
            self._arrays[number, self._here.index] = array
        self.get_barrier_sync_fn()(f"array {number}", 0)
        return np.stack([self._arrays[number, index] for index in range(self._count)])


class Host(threading.local):
    """Which host a thread is, and how often it has called the others."""

    def become(self, index):
        self.index, self._calls, self._arrays = index, itertools.count(), itertools.count()

    def __next__(self):
        return next(self._calls)

    def next_array(self):
        return next(self._arrays)


@pytest.fixture
def on_hosts(monkeypatch):
    """Calls a function of its number on each of some hosts; returns results, or error texts."""

    def on_hosts(count, work):
        here = Host()
        meetings = Meetings(count, here)
        monkeypatch.setattr(hosts, "get_barrier_sync_fn", meetings.get_barrier_sync_fn)
        monkeypatch.setattr(multihost_utils, "process_allgather", meetings.process_allgather)
        monkeypatch.setattr(hosts, "_meetings", here)
        monkeypatch.setattr(hosts, "_LOOK_SECONDS", 0.01)
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


def test_host_0_is_named_to_those_whom_it_lets_wait(on_hosts):
    def work(index):
        return index and exchange("", "the meeting", seconds=0.1)

    assert on_hosts(3, work)[2].startswith("host 0 did not come to 'the meeting' within 0.1 s")


def test_what_a_failed_host_says_ends_all_that_wait(on_hosts):
    def work(index):
        return tell_failure("scene 7 is damaged", 10) if index == 1 else exchange("", "mined")

    assert on_hosts(3, work) == ["host 1 ended: scene 7 is damaged"] * 3


def test_sums_are_exact_in_any_dtype(on_hosts):
    counts = on_hosts(3, lambda index: sum_over_hosts(np.array([[2**60 + index]])))
    assert [(x.dtype, x.tolist()) for x in counts] == [(np.int64, [[3 * 2**60 + 3]])] * 3


def test_waiting_is_said(on_hosts, monkeypatch, caplog):
    monkeypatch.setattr(hosts, "_SAY_AFTER", 0.01)

    def work(index):
        return index or exchange("", "the meeting", seconds=0.2)

    on_hosts(2, work)
    assert "waiting for host 1 at 'the meeting' since " in caplog.text


def test_equal_facts_pass(on_hosts):
    assert on_hosts(3, lambda _: require_equal({"a": "1\n2", "b": ""}, "here")) == [None] * 3


def test_many_differences_are_cut_short(on_hosts):
    def work(index):
        require_equal({f"setting{i}": str(index) for i in range(9)}, "here")

    text = on_hosts(2, work)[0]
    assert "setting3" in text and "setting4" not in text and "; ...)" in text


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
