"""Commands that run one after another; one whose JSON file exists is done, it writes that last."""

import json
import pathlib
import subprocess
import sys
import time
from typing import NamedTuple

from mprm_jax.errors import UserError
from mprm_jax.reading import parse_json
from mprm_jax.writing import explain_failed_write, write_whole

STANDARD_ERROR = 2  # file descriptor
DURATIONS_FILE = "durations.jsonl"  # lines of {"result": file, "seconds": s}, the newest last


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


def run_timed(job: Job, folder: pathlib.Path) -> None:
    """Runs a command and notes in a folder above its result how long it took.

    Of one that went on after an interruption, this is the last part.
    """
    start = time.perf_counter()
    run_job(job)
    seconds = round(time.perf_counter() - start, 1)
    line = {"result": job.result.relative_to(folder).as_posix(), "seconds": seconds}
    path = folder / DURATIONS_FILE
    with explain_failed_write(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def durations(folder: pathlib.Path) -> dict[str, float]:
    """Seconds that the job of each result took, as far as they were noted.

    Raises:
      ValueError: the file is damaged.
    """
    path = folder / DURATIONS_FILE
    if not path.exists():
        return {}
    try:
        found = [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {line["result"]: float(line["seconds"]) for line in found}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: damaged ({error}); delete it, the results themselves are elsewhere."
        ) from None
