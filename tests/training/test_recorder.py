"""`metrics.jsonl` across restarts: every step once, no broken line."""

import functools
import json
import logging
import struct
import subprocess
import sys
import threading
from pathlib import Path

import jax.numpy as jnp
import pytest

from mprm_jax.training.recorder import Recorder

FULL_DISK = Path("/dev/full")
open_full = functools.partial(FULL_DISK.open)
needs_full_disk = pytest.mark.skipif(not FULL_DISK.exists(), reason="no /dev/full here")


def write(workdir, steps, *, start=0, **values):
    with Recorder(workdir, start, num_steps=10) as recorder:
        for step in steps:
            recorder.write(step, values or {"loss": step / 2})


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def fields(message):
    """Number and value of each field of a protocol buffer: numbers, and bytes of what is nested."""
    at = 0

    def varint():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte, at = message[at], at + 1
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    def take(size):
        nonlocal at
        at += size
        return message[at - size : at]

    while at < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
        elif kind == 1:
            yield number, struct.unpack("<d", take(8))[0]
        elif kind == 5:
            yield number, struct.unpack("<f", take(4))[0]
        else:
            yield number, take(varint())


def events(workdir):
    """Fields of all events of the only file: length, checksum, event, checksum each."""
    (path,) = (workdir / "tensorboard").iterdir()
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("Q", data[:8])
        found.append(dict(fields(data[12 : 12 + length])))
        data = data[16 + length :]
    return found


def test_a_line_holds_step_and_values(tmp_path):
    write(tmp_path, [3], loss=jnp.float32(0.5), epoch=1)
    assert lines(tmp_path) == [{"step": 3, "loss": 0.5, "epoch": 1.0}]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_undefined_value_is_null(tmp_path, value):
    write(tmp_path, [3], precision=value)
    assert lines(tmp_path) == [{"step": 3, "precision": None}]


def test_lines_are_on_disk_at_once(tmp_path):
    with Recorder(tmp_path, 0, 10) as recorder:
        recorder.write(1, {"loss": 0.5})
        assert lines(tmp_path) == [{"step": 1, "loss": 0.5}]


def test_resuming_appends(tmp_path):
    write(tmp_path, [1, 2])
    write(tmp_path, [3], start=2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


def test_resuming_drops_lines_of_steps_taken_again(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3, 4], start=2, loss=9)
    found = [(line["step"], line["loss"]) for line in lines(tmp_path)]
    assert found == [(1, 0.5), (2, 1.0), (3, 9), (4, 9)]


def test_resuming_drops_a_half_written_last_line(tmp_path):
    write(tmp_path, [1, 2])
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 2, "precis')
    write(tmp_path, [3], start=2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


def test_a_dropped_half_line_is_reported(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").write_text('{"step')
    with caplog.at_level(logging.WARNING):
        write(tmp_path, [1])
    assert "metrics.jsonl: dropped a line cut short" in caplog.text


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}')
    write(tmp_path, [2], start=1)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_an_error_inside_closes_the_files(tmp_path):
    with pytest.raises(RuntimeError), Recorder(tmp_path, 0, 10) as recorder:
        raise RuntimeError("the loop failed")
    with pytest.raises(ValueError, match="closed file"):
        recorder.write(1, {"loss": 0.5})


@needs_full_disk
def test_a_full_disk_is_one_line(tmp_path):
    full = pytest.raises(OSError, match=r"metrics\.jsonl: cannot be written \(No space left")
    with full, Recorder(tmp_path, 0, 10) as recorder:
        recorder._file.close()
        recorder._file = open_full("w")
        recorder.write(1, {"loss": 0.5})


ON_A_FULL_DISK = """
import os, pathlib, socket, sys, time
from mprm_jax.training.recorder import Recorder
workdir = pathlib.Path(sys.argv[1])
(workdir / "tensorboard").mkdir()
for second in range(100):  # whenever the file is opened
    name = f"events.out.tfevents.{int(time.time()) + second}.{socket.gethostname()}.{os.getpid()}"
    (workdir / "tensorboard" / name).symlink_to("/dev/full")
try:
    with Recorder(workdir, 0, 10) as recorder:
        for step in range(int(sys.argv[2])):
            recorder.write(step, {"loss": 0.5})
except OSError as error:
    print(error)
"""


@needs_full_disk
@pytest.mark.parametrize("num_steps", [0, 1, 3000])
def test_a_full_disk_does_not_make_the_run_wait_for_tensorboard(tmp_path, num_steps):
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(tmp_path), str(num_steps)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    (line,) = ended.stdout.splitlines()
    assert line.startswith(f"{tmp_path / 'tensorboard'}: cannot be written (No space left")
    assert "Exception in thread" not in ended.stderr


EVENT_STEP, EVENT_SUMMARY, EVENT_SESSION = 2, 5, 7  # numbers of fields
VALUE_TAG, VALUE_NUMBER = 1, 2


def test_tensorboard_gets_the_scalars(tmp_path):
    write(tmp_path, [1])
    found = []
    for event in events(tmp_path):
        for _, value in fields(event.get(EVENT_SUMMARY, b"")):
            value = dict(fields(value))
            found.append((event[EVENT_STEP], value[VALUE_TAG], value[VALUE_NUMBER]))
    assert found == [(1, b"loss", 0.5)]


def test_tensorboard_hides_steps_taken_again(tmp_path):
    write(tmp_path, [4], start=3)
    assert [e[EVENT_STEP] for e in events(tmp_path) if EVENT_SESSION in e] == [4]


def test_errors_of_other_threads_are_shown_as_before(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    with Recorder(tmp_path, 0, 10):
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    assert [type(end.exc_value) for end in seen] == [ZeroDivisionError]
    assert threading.excepthook == seen.append
