"""Commands run by two processes of this machine, as two hosts over loopback."""

import contextlib
import pathlib
import socket
import subprocess
from collections.abc import Iterator

import runs

MINUTES = 240  # seconds within which a pair must end; no property is measured by it


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def started(*commands: list[str], cwd: pathlib.Path) -> Iterator[list[subprocess.Popen]]:
    """One command for each host, of which nothing is left in the end."""
    address = f"127.0.0.1:{free_port()}"
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                runs.started([*command, "--hosts", f"{address},{len(commands)},{index}"], cwd)
            )
            for index, command in enumerate(commands)
        ]


def ended(processes: list[subprocess.Popen]) -> list[subprocess.CompletedProcess]:
    """Waits for the hosts, with their output captured as text."""
    results = []
    for process in processes:
        out, err = process.communicate(timeout=MINUTES)
        results.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return results


def run(*commands: list[str], cwd: pathlib.Path) -> list[subprocess.CompletedProcess]:
    """Runs one command on each host to its end."""
    with started(*commands, cwd=cwd) as processes:
        return ended(processes)
