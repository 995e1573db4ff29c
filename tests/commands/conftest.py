"""What tests of scripts share: the one line with which they end, and runs that would work."""

import logging
import sys
from typing import NamedTuple

import pytest
import runs

from mprm_jax.commands import train
from mprm_jax.commands.commandline import run
from mprm_jax.training import parallel


class Ended(NamedTuple):
    """How a script ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line with which it ended, after lines that are no errors."""
        assert self.status == 2 and "Traceback" not in self.err, self.err
        lines = self.err.strip().splitlines()
        assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True]
        return lines[-1].removeprefix("error: ")


@pytest.fixture
def script(tmp_path, monkeypatch, capsys):
    """Runs the main function of a script with some arguments in an empty folder."""

    def script(main, *arguments) -> Ended:
        monkeypatch.chdir(tmp_path)
        # Tests have their four devices already.
        monkeypatch.setattr(parallel, "use_cpu_cores", lambda _: None)
        monkeypatch.setattr(sys, "argv", ["script.py", *map(str, arguments)])
        handlers, status = [*logging.root.handlers], 0
        try:
            run(main)
        except SystemExit as stop:
            status = stop.code
        finally:
            logging.root.handlers[:] = handlers
        shown = capsys.readouterr()
        return Ended(status, shown.out, shown.err)

    return script


@pytest.fixture
def error_of(script):
    """Runs train.py with some arguments and returns the one line with which it ends."""

    def error_of(*arguments, log=""):
        ended = script(train.main, "--stage", "cls", *arguments)
        assert log in ended.err
        return ended.error

    return error_of


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return runs.small_store(tmp_path_factory.mktemp("data"))


@pytest.fixture
def small(store, tmp_path):
    """Arguments of a run that would work."""
    data = ["--data", f"store:{store.path}", "--workdir", tmp_path / "run", "--devices", 4]
    return [*data, "--preset", "tiny", "--set", *runs.SETTINGS]
