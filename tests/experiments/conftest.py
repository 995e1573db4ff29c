"""What tests of scripts share: the one line with which they end, and runs that would work."""

import logging
import sys

import pytest
import runs
import train
from commandline import run


@pytest.fixture
def error_of(tmp_path, monkeypatch, capsys):
    """Runs train.py with some arguments and returns the one line with which it ends."""

    def error_of(*arguments, log=""):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["train.py", "--stage", "cls", *map(str, arguments)])
        handlers = [*logging.root.handlers]
        with pytest.raises(SystemExit) as stop:
            run(train.main)
        logging.root.handlers[:] = handlers
        shown = capsys.readouterr().err
        assert stop.value.code == 2
        assert "Traceback" not in shown
        lines = shown.strip().splitlines()
        assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True]
        assert log in shown
        return lines[-1].removeprefix("error: ")

    return error_of


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return runs.small_store(tmp_path_factory.mktemp("data"))


@pytest.fixture
def small(store, tmp_path):
    """Arguments of a run that would work."""
    data = ["--data", f"store:{store.path}", "--workdir", tmp_path / "run", "--devices", 4]
    return [*data, "--preset", "tiny", "--set", *runs.SETTINGS]
