"""Reads thousands of damaged scans: each must end as a cloud or as one line that names the file.

Valid files of every format are mutated: bits, cuts, numbers, lines, separators. Each is read, and
the cloud written again as a prediction would be, in a process with limits of time and memory; one
that dies is replaced. Numbers that overflow with a warning count as failures.

    python benchmarks/fuzz_readers.py
    python benchmarks/fuzz_readers.py --first 1234 --cases 1     one case again, with its traceback
"""

import argparse
import collections
import json
import logging
import multiprocessing
import os
import pathlib
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
from fuzz_files import mutated, valid_files

from mprm_jax.errors import UserError
from mprm_jax.machine import describe_machine
from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.scans.formats.labeled import WRITERS, LabeledCloud, write_labeled

RESULT = pathlib.Path(__file__).parent / "results" / "fuzz_readers.json"
SECONDS = 10.0  # of the processor, for a file of a few kilobytes
BUSY_FACTOR = 12  # of these seconds by the clock
MEGABYTES = 512  # above what the process holds before it reads anything
STATUS = pathlib.Path("/proc/self/status")
CLOUD, LINE = "cloud", "line"  # good ends; others are failures
NO_MEMORY = "too large for the memory"


class Case(NamedTuple):
    """One damaged file and what became of it."""

    index: int
    file: str  # the valid file it was made of
    end: str
    detail: str  # the line, or the traceback
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=None, help=f"such as {RESULT.name}")
    args = parser.parse_args()
    start = time.monotonic()
    cases = []
    for case in run_cases(args.seed, range(args.first, args.first + args.cases)):
        cases.append(case)
        if case.end not in (CLOUD, LINE) or args.cases == 1:
            print(f"{case.index} {case.file}: {case.end}\n{case.detail}", flush=True)
    report = summary(cases) | {"seconds": round(time.monotonic() - start, 1)}
    report = {
        "command": f"python benchmarks/fuzz_readers.py --cases {args.cases} --seed {args.seed}",
        "machine": describe_machine(),
        "limits": {"seconds": SECONDS, "megabytes": MEGABYTES},
        **report,
    }
    print(json.dumps(report, indent=1))
    if args.output is not None:
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if report["failures"] else 0)


def summary(cases: list[Case]) -> dict:
    """Counts of the ends, by format and in all, and every failure."""
    by_format: dict[str, collections.Counter] = {}
    for case in cases:
        suffix = pathlib.Path(case.file).suffix
        by_format.setdefault(suffix, collections.Counter())[case.end] += 1
    failures = [case for case in cases if case.end not in (CLOUD, LINE)]
    return {
        "cases": len(cases),
        "clouds": sum(case.end == CLOUD for case in cases),
        "lines": sum(case.end == LINE for case in cases),
        "failures": len(failures),
        "slowest_seconds": round(max((case.seconds for case in cases), default=0.0), 2),
        "formats": {
            suffix: dict(sorted(by_format[suffix].items())) for suffix in sorted(by_format)
        },
        "failed": [[case.index, case.file, case.end] for case in failures],
    }


def run_cases(seed: int, indices: range) -> Iterator[Case]:
    """Reads the damaged files of these numbers, in a process that is replaced when it dies."""
    names = sorted(valid_files())
    context = multiprocessing.get_context("spawn")
    process = None
    for index in indices:
        if process is None:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, seed), daemon=True)
            process.start()
            theirs.close()
            ours.recv()  # it is ready
        start = time.monotonic()
        ours.send(index)
        try:
            is_done = _wait(ours, process.pid)
            end, detail = ours.recv() if is_done else ("hang", f"over {SECONDS} s")
        except EOFError:
            process.join()
            end, detail = "death", f"exit status {process.exitcode}"
        yield Case(index, names[index % len(names)], end, detail, time.monotonic() - start)
        if end in ("hang", "death"):
            process.kill()
            process.join()
            process = None
    if process is not None:
        process.kill()


def _wait(connection: Connection, process: int) -> bool:
    """Waits for an answer as long as the process may take; a busy machine takes longer."""
    spent, start = _cpu_seconds(process), time.monotonic()
    while not connection.poll(0.5):
        waited = time.monotonic() - start
        if _cpu_seconds(process) - spent > SECONDS or waited > BUSY_FACTOR * SECONDS:
            return False
    return True


def _cpu_seconds(process: int) -> float:
    fields = pathlib.Path(f"/proc/{process}/stat").read_text(encoding="ascii").split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")  # proc(5)


def _work(connection: Connection, seed: int) -> None:
    """Answers numbers of cases with how their files end."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error", RuntimeWarning)
    files = valid_files()
    names = sorted(files)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        _read(path, "warm.laz", files["format7.laz"])  # threads and modules are in the base
        limit = _virtual_bytes() + (MEGABYTES << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        connection.send("ready")
        while True:
            index = connection.recv()
            name = names[index % len(names)]
            content = mutated(files[name], np.random.default_rng((seed, index)))
            connection.send(_read(path, name, content))


def _virtual_bytes() -> int:
    line = next(x for x in STATUS.read_text(encoding="ascii").splitlines() if "VmSize" in x)
    return int(line.split()[1]) << 10


def _read(folder: pathlib.Path, name: str, content: bytes) -> tuple[str, str]:
    """How a file ends, and the line or traceback."""
    path = folder / name
    path.write_bytes(content)
    try:
        cloud = read_cloud(path)
        problem = _inconsistency(cloud)
        if problem:
            return "inconsistent", problem
        _write_again(path, cloud)
        return CLOUD, f"{len(cloud.coords)} points"
    except (UserError, OSError) as error:  # any other error would end a command with a traceback
        text = str(error)
        if NO_MEMORY in text:
            return "memory", text
        if "\n" in text or not text.startswith(str(folder)):
            return "no clear line", traceback.format_exc()
        return LINE, text
    except BaseException:  # what else may come is what we look for, a panic of lazrs among it
        return "traceback", traceback.format_exc()


def _inconsistency(cloud: CloudFile) -> str:
    """What does not fit in a cloud, or nothing."""
    shape = (len(cloud.coords), 3)
    wrong = {
        "coords": cloud.coords.shape != shape or cloud.coords.dtype != np.float64 or not shape[0],
        "colors": cloud.colors is not None
        and (cloud.colors.shape != shape or cloud.colors.dtype != np.uint8),
        "labels": cloud.labels is not None and cloud.labels.shape != shape[:1],
        "faces": cloud.faces is not None
        and (cloud.faces.ndim != 2 or not ((cloud.faces >= 0) & (cloud.faces < shape[0])).all()),
    }
    return ", ".join(name for name, is_wrong in wrong.items() if is_wrong)


def _write_again(path: pathlib.Path, cloud: CloudFile) -> None:
    """Writes the cloud with labels, as `predict` does."""
    if path.suffix in WRITERS:
        count = len(cloud.coords)
        labeled = LabeledCloud(cloud, np.zeros(count, int), np.ones(count), ("wall",))
        write_labeled(path.with_name(f"out{path.suffix}"), labeled, path)


if __name__ == "__main__":
    main()
