"""Commands that run one after another; one whose JSON file exists is done, it writes that last."""

import pathlib
import subprocess
import sys
from typing import NamedTuple

from mprm_jax.errors import UserError
from mprm_jax.writing import write_whole

STANDARD_ERROR = 2  # file descriptor


class Job(NamedTuple):
    """One command."""

    title: str
    command: tuple[str, ...]
    result: pathlib.Path  # JSON
    prints: bool  # the JSON comes on the standard output, the command writes no such file itself


def command(name: str, *flags: str) -> tuple[str, ...]:
    """The command line of `mprm name`."""
    return (sys.executable, "-m", "mprm_jax", name, *flags)


def run_job(job: Job) -> None:
    """Runs a command; what it says goes to the standard error, but for JSON that is kept.

    Raises:
      ValueError: it failed.
    """
    job.result.parent.mkdir(parents=True, exist_ok=True)
    output = subprocess.PIPE if job.prints else STANDARD_ERROR
    finished = subprocess.run(job.command, stdout=output, text=True)
    if finished.returncode:
        raise UserError(
            f"{job.title} failed with status {finished.returncode} (see above); the same command "
            f"continues there: {' '.join(job.command)}"
        )
    if job.prints:
        write_whole(job.result, finished.stdout)
