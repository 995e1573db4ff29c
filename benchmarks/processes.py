"""Runs one measurement per process, so that none sees the memory or the programs of another."""

import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from mprm_jax.provenance import made_by

_STATUS, _CLEAR = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")
_CLEAR_PEAK = "5"  # proc(5)
# Seconds. XLA:CPU frees the temporaries of a step a moment after its results are there: a step
# right behind it may take a second block, and the process keeps both.
_PAUSE = 0.02


def run_json(command: list[str], environment: Mapping[str, str] | None = None) -> dict:
    """The JSON object in the last line that a command prints."""
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    return json.loads(done.stdout.splitlines()[-1])


def run_worker(script: str, *arguments: str) -> dict:
    """What a script of this folder prints as a worker."""
    return run_json([sys.executable, script, *arguments])


def mprm(name: str, *flags: str, folder: pathlib.Path | None = None) -> str:
    """What a command of the package prints; its progress and errors go to the terminal.

    Args:
      folder: that it runs in; this process's if None.
    """
    line = [sys.executable, "-m", "mprm_jax", name, *flags]
    done = subprocess.run(line, check=True, text=True, stdout=subprocess.PIPE, cwd=folder)
    return done.stdout


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """The median time of a call that waits for its result, with a pause before each."""
    times = []
    for _ in range(repeats):
        time.sleep(_PAUSE)
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def restart_peak() -> None:
    """Forgets the peak memory of this process so far, where the system allows it."""
    try:
        _CLEAR.write_text(_CLEAR_PEAK, encoding="ascii")
    except OSError:
        return  # the peak is then that of the whole process


def peak_memory_mb() -> float | None:
    """Most memory this process has held, in MB; None where the system does not say."""
    if not _STATUS.exists():
        return None
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def print_row(row: dict) -> dict:
    """Prints a measure as one JSON line."""
    print(json.dumps(row), flush=True)
    return row


def typed_command() -> str:
    """The command of this process, with the names of programs and files but not their folders."""
    script, *flags = sys.argv
    words = [str(pathlib.Path(flag).name) if os.path.isabs(flag) else flag for flag in flags]
    return shlex.join(["python", f"benchmarks/{pathlib.Path(script).name}", *words])


def write_report(path: pathlib.Path | None, rows: list[dict]) -> None:
    """Writes the measures and what made them, if there is a path."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"command": typed_command(), "machine": made_by(), "measures": rows}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def rounded(row: dict, digits: int = 4) -> dict:
    """The row with as many significant digits in its floats."""
    return {
        name: float(f"{value:.{digits}g}") if isinstance(value, float) else value
        for name, value in row.items()
    }
