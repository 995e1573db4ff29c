"""A short chain of commands on `rooms:tiny`, and what tells two folders that it filled apart."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))

import runs

_ROOMS = ("--data", "rooms:tiny", "--preset", "tiny")
_ONE = ("--devices", "1")  # the same bits every time
_TRAINING = ("--preset", "tiny", *_ONE, "--data", "store:prepared")
_OFTEN = ("--set", "log.save_minutes=0.02")
# Of times, of compilation, of other processes, or what a fault left on the side: not compared.
_NOT_COMPARED_FILES = ("xla_cache", "events.out.tfevents", "seconds.json", ".lock", "damaged/")
_NOT_COMPARED_VALUES = ("seconds", "compiles", "made_by", "files", "store", "workers")
_NOT_COMPARED_STARTS = ("speed/", "time/")


class Step(NamedTuple):
    """One command of the chain."""

    name: str
    flags: tuple[str, ...]
    output: str  # folder or file in which its results lie


CHAIN = (
    Step(
        "prepare",
        ("--data", "rooms:tiny", "--store", "prepared", "--preset", "tiny", "--workers", "1"),
        "prepared",
    ),
    Step("train", ("--stage", "cls", *_TRAINING, "--workdir", "cls", *_OFTEN), "cls"),
    Step("export", ("--workdir", "cls", "--output", "mined", *_ONE), "mined"),
    Step("refine", ("--export", "mined", "--output", "refined"), "refined"),
    Step(
        "train",
        ("--stage", "seg", *_TRAINING, "--pseudo-labels", "refined", "--workdir", "seg", *_OFTEN),
        "seg",
    ),
    Step("evaluate", ("--workdir", "seg", "--output", "val.json", "--devices", "1"), "val.json"),
    Step(
        "predict", ("scans", "--workdir", "seg", "--output", "labeled", "--devices", "1"), "labeled"
    ),
)


class Ended(NamedTuple):
    """How a command ended."""

    status: int  # negative: of a signal
    said: str  # on the standard error
    seconds: float

    @property
    def is_right(self) -> bool:
        return self.status == 0

    @property
    def is_one_line(self) -> bool:
        """An error that says in one line what is wrong, without a traceback."""
        last = (self.said.strip().splitlines() or [""])[-1]
        return self.status == 2 and last.startswith("error: ") and "Traceback" not in self.said


def said_file(step: Step, folder: pathlib.Path) -> pathlib.Path:
    """What a command said; beside the folder, whose disk may be full."""
    return folder.with_name(f"{folder.name}-{step.output}.said")


def environment(folder: pathlib.Path, **more: str) -> dict[str, str]:
    """Of all commands: they share their compiled programs, which lie beside `folder`."""
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **more,
    }


@contextlib.contextmanager
def begun(
    step: Step, folder: pathlib.Path, *flags: str, prefix: tuple[str, ...] = (), **more: str
) -> Iterator[subprocess.Popen]:
    """A command in a process group of its own, of which nothing is left in the end.

    Args:
      prefix: of the command, e.g. for another network.
      more: of the environment.
    """
    command = [*prefix, sys.executable, "-m", "mprm_jax", step.name, *step.flags, *flags]
    with said_file(step, folder).open("a", encoding="utf-8") as said:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder, **more),
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run(step: Step, folder: pathlib.Path, *flags: str, limit: float = 600, **more: Any) -> Ended:
    """Runs a command to its end.

    Args:
      limit: seconds; one that takes longer hangs.

    Raises:
      TimeoutError: it hangs.
    """
    said = said_file(step, folder)
    before = said.stat().st_size if said.exists() else 0
    start = time.monotonic()
    with begun(step, folder, *flags, **more) as process:
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{step.name}: still running after {limit:.0f} s") from None
    return Ended(process.returncode, _since(said, before), time.monotonic() - start)


def differences(ours: pathlib.Path, theirs: pathlib.Path) -> list[str]:
    """Files that are not the same in what counts; checkpoints count by their last state."""
    if ours.is_file() or theirs.is_file():
        return [] if _same(ours, theirs) else [ours.name]
    found = list(_files(ours) ^ _files(theirs))
    common = _files(ours) & _files(theirs)
    found += [name for name in common if not _same(ours / name, theirs / name)]
    if (ours / "checkpoints").is_dir():
        pairs = zip(runs.final_state(ours), runs.final_state(theirs), strict=True)
        found += [] if all(np.array_equal(a, b) for a, b in pairs) else ["checkpoints"]
    return sorted(found)


def _files(folder: pathlib.Path) -> set[str]:
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return {
        name
        for name in names
        if not any(part in name for part in _NOT_COMPARED_FILES) and "checkpoints/" not in name
    }


def _same(ours: pathlib.Path, theirs: pathlib.Path) -> bool:
    if not (ours.is_file() and theirs.is_file()):
        return False
    if ours.suffix in (".json", ".jsonl"):
        return _values(ours) == _values(theirs)
    return ours.read_bytes() == theirs.read_bytes()


def _values(path: pathlib.Path) -> Any:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    return [_compared(json.loads(line)) for line in lines]


def _compared(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _compared(entry)
            for key, entry in value.items()
            if key not in _NOT_COMPARED_VALUES and not key.startswith(_NOT_COMPARED_STARTS)
        }
    return [_compared(entry) for entry in value] if isinstance(value, list) else value


def _since(path: pathlib.Path, start: int) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        file.seek(start)
        return file.read()
