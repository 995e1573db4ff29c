"""The fault campaign: it sees what is lost, and does what it says."""

import json
import random
import subprocess
import sys

import fault_chain
import fault_hosts
import faults
import pytest
from fault_chain import Ended, differences


@pytest.fixture
def folders(tmp_path):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels.npy").write_bytes(b"1")
        (tmp_path / name / "xla_cache").write_text(name, encoding="utf-8")
        values = {"loss": 1, "speed/points_per_second": 2 if name == "ours" else 3}
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps(values), encoding="utf-8")
    return tmp_path / "ours", tmp_path / "theirs"


def test_folders_that_differ_in_times_only_are_the_same(folders):
    assert differences(*folders) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.npy", b"2"),
        ("metrics.jsonl", b'{"loss": 2, "speed/points_per_second": 2}'),
        ("more.npy", b""),
    ],
)
def test_what_was_lost_is_named(folders, name, content):
    (folders[0] / name).write_bytes(content)
    assert differences(*folders) == [name]
    (folders[0] / name).unlink()
    assert differences(*folders) == ([name] if name != "more.npy" else [])


@pytest.mark.parametrize(
    ("status", "said", "is_so"),
    [
        (2, "10 %\nerror: a.npy: cut short; copy it again.\n", True),
        (1, "error: a.npy: cut short.\n", False),
        (2, "Traceback\nerror: a.npy", False),
        (2, "", False),
        (-9, "error: a.npy: cut short.", False),
    ],
)
def test_an_error_is_one_line(status, said, is_so):
    assert Ended(status, said, 0.0).is_one_line == is_so


def test_a_fault_that_loses_something_is_wrong(tmp_path, monkeypatch):
    def loses(*_):
        raise faults.WrongError("labels.npy: gone")

    monkeypatch.setitem(faults.FAULTS, "killed", loses)
    row = faults.strike("killed", faults.Chain(tmp_path / "x", {}), random.Random(0))
    assert (row["ended"], row["why"]) == ("wrong", "labels.npy: gone")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_faults_of_a_short_chain_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "CHAIN", fault_chain.CHAIN[:1])
    chain = faults.undisturbed(tmp_path / "undisturbed")
    for kind in ("killed", "full disk", "wrong clock"):
        row = faults.strike(kind, chain, random.Random(0))
        assert row["ended"] == "as undisturbed" or row["ended"].startswith("left out: "), row


@pytest.mark.slow
def test_the_wire_carries_packets_until_it_is_cut():
    if (why := fault_hosts.no_networks()) is not None:
        pytest.skip(why)
    ask = "import socket; socket.create_connection(('10.77.0.1', 9876), timeout=3)"
    serve = "import socket, time; s = socket.create_server(('10.77.0.1', 9876)); time.sleep(99)"
    with fault_hosts.Wire(2) as wire:
        command = ["ip", "netns", "exec", "mprm0", sys.executable, "-c", serve]
        with subprocess.Popen(command) as server:
            try:
                command = ["ip", "netns", "exec", "mprm1", sys.executable, "-c", ask]
                while subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
                    assert server.poll() is None
                wire.cut = {1}
                assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode
            finally:
                server.kill()
