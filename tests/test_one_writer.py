"""Two processes and one folder: the second ends with one line or waits; nobody else is kept out."""

import contextlib
import errno
import os
import pathlib
import subprocess
import sys
import threading
import time

import filelock
import pytest

from mprm_jax.one_writer import WRITER_FILE, BusyError, only_writer
from mprm_jax.writing import FailedWriteError

HOLDER = """
import pathlib, sys, time
from mprm_jax.one_writer import only_writer
with only_writer(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_writer(folder):
    """A process that holds a folder until its standard input is closed, or it is killed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    root = pathlib.Path(__file__).parents[1]
    arguments = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(arguments, cwd=root, **pipes) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_second_one_ends_with_a_line_that_names_the_first(tmp_path):
    with another_writer(tmp_path / "run") as first, pytest.raises(BusyError) as raised:
        only_writer(tmp_path / "run", "stop it").__enter__()
    text = str(raised.value)
    assert str(tmp_path / "run") in text and f"(pid {first.pid} on host " in text
    assert " since 20" in text and text.endswith("; stop it.") and "\n" not in text


def test_a_killed_one_keeps_nobody_out(tmp_path):
    with another_writer(tmp_path) as first:
        first.kill()
        first.wait()
        assert (tmp_path / WRITER_FILE).exists()
        with only_writer(tmp_path):
            pass


def test_one_may_wait_for_the_other_to_end(tmp_path, caplog):
    with another_writer(tmp_path) as first:
        threading.Timer(0.5, first.stdin.close).start()
        start = time.monotonic()
        with only_writer(tmp_path, wait=True):
            assert time.monotonic() - start > 0.3
    assert f"pid {first.pid}" in caplog.text and "waiting" in caplog.text


def test_one_after_the_other_is_as_it_should_be(tmp_path):
    for _ in range(2):
        with only_writer(tmp_path / "new" / "run"):
            assert (tmp_path / "new" / "run" / WRITER_FILE).exists()
        assert not (tmp_path / "new" / "run").exists()


def test_a_folder_stays_if_it_was_there_or_something_was_written(tmp_path):
    with only_writer(tmp_path):
        pass
    with only_writer(tmp_path / "run"):
        (tmp_path / "run" / "results").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["results"]


def test_of_many_only_one_writes_at_a_time(tmp_path):
    busy, at_once = threading.Lock(), []

    def write():
        for _ in range(20):
            with only_writer(tmp_path / "run", wait=True):
                at_once.append(busy.acquire(blocking=False))
                time.sleep(0.001)
                busy.release()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert at_once == [True] * 80


def test_an_error_inside_lets_the_folder_go(tmp_path):
    with pytest.raises(KeyError), only_writer(tmp_path):
        raise KeyError
    with another_writer(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_a_disk_without_locks_is_written_with_a_warning(tmp_path, monkeypatch, caplog, code):
    def acquire(lock, timeout):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with only_writer(tmp_path):
        pass
    assert "no locks" in caplog.text


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "run").write_text("", encoding="utf-8")
    with pytest.raises(FailedWriteError, match="run: cannot be written"):
        only_writer(tmp_path / "run").__enter__()
