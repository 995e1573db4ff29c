"""Small data and settings on which a whole training run takes seconds."""

import atexit
import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
import orbax.checkpoint as ocp
from fake_source import FakeSource, box_room

from mprm_jax.config import Config
from mprm_jax.overrides import override
from mprm_jax.presets import tiny
from mprm_jax.store.prepare import prepare
from mprm_jax.store.scenes import SceneStore

SCRIPT = pathlib.Path(__file__).parents[1] / "experiments" / "train.py"
SETTINGS = (
    "model.first_features=4",
    "model.attention_features=4",
    "data.sphere_radius=1.0",
    "seg.radius=1.0",
    "pyramid.bucket_points=256",
    "pyramid.buckets_per_step=1",
    "optim.epochs=3",
)


def small_config(*settings: str, stage: str = "cls") -> Config:
    """The settings of all small runs, with more of them on top."""
    return override(tiny(stage), [*SETTINGS, *settings])


def small_store(path: pathlib.Path, num_train: int = 4) -> SceneStore:
    """Prepared box rooms with point labels: `num_train` to train on and one to validate."""
    rooms = {f"train/room{i}": box_room(i) for i in range(num_train)} | {"val/room9": box_room(9)}
    source = FakeSource(path / "scans", rooms)
    return prepare(source, path / "store", small_config().data, workers=0).store


def command(
    store: pathlib.Path, workdir: pathlib.Path, *settings: str, targets: str | None = None
) -> list[str]:
    """The command line of a small run on one device: stage seg if there are targets to learn."""
    data = ["--data", f"store:{store}", "--workdir", str(workdir), "--devices", "1"]
    stage = ["cls"] if targets is None else ["seg", "--pseudo-labels", targets]
    return [
        *(sys.executable, str(SCRIPT), "--stage", *stage, "--preset", "tiny", *data),
        *("--set", *SETTINGS, *settings),
    ]


@functools.cache
def shared_programs() -> str:
    """Where all small runs of a session keep their compiled programs, so that each is made once."""
    folder = tempfile.TemporaryDirectory(prefix="programs-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    return folder.name


@contextlib.contextmanager
def started(
    arguments: list[str], cwd: pathlib.Path, *, own_programs: bool = False
) -> Iterator[subprocess.Popen]:
    """A command in a process group of its own, of which nothing is left in the end.

    With `own_programs` it compiles for itself and keeps the programs in its work directory.
    """
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": cwd}
    if not own_programs:
        how["env"] = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": shared_programs(),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
    with subprocess.Popen(arguments, start_new_session=True, **how) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def run(
    arguments: list[str], cwd: pathlib.Path, *, own_programs: bool = False
) -> subprocess.CompletedProcess:
    """Runs a command to its end, with its output captured as text."""
    with started(arguments, cwd, own_programs=own_programs) as process:
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def saved_steps(workdir: pathlib.Path) -> list[int]:
    """Steps of all checkpoints, and nothing half-written beside them."""
    names = [path.name for path in (workdir / "checkpoints").iterdir()]
    assert all(name.isdigit() for name in names)
    return sorted(map(int, names))


def final_state(workdir: pathlib.Path) -> list[np.ndarray]:
    """All arrays of the newest checkpoint."""
    path = workdir / "checkpoints" / str(saved_steps(workdir)[-1]) / "state"
    # As NumPy arrays, because the devices may be those of several processes.
    with ocp.PyTreeCheckpointer() as checkpointer:
        saved = checkpointer.metadata(path).item_metadata.tree
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        return jax.tree.leaves(checkpointer.restore(path, ocp.args.PyTreeRestore(restore_args=how)))


def interrupt(
    command: list[str], workdir: pathlib.Path, lines: int, send: Callable[[int], None]
) -> tuple[int, str]:
    """Calls `send(process id)` once the run has logged some steps.

    Returns:
      Its exit status, and what it said on stderr.
    """
    with started(command, workdir.parent) as process:
        metrics, deadline = workdir / "metrics.jsonl", time.monotonic() + 240
        while not metrics.exists() or metrics.read_text().count("\n") < lines:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        send(process.pid)
        said = process.communicate(timeout=240)[1]
        return process.returncode, said


def error_of(result) -> str:
    """The one line with which a run ended."""
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def same_arrays(a: pathlib.Path, b: pathlib.Path) -> bool:
    """Whether the mined scores and labels in two directories agree bit for bit."""
    names = sorted(path.name for path in a.glob("*.npz"))
    if not names or names != sorted(path.name for path in b.glob("*.npz")):
        return False
    for name in names:
        with np.load(a / name) as one, np.load(b / name) as other:
            if any(not np.array_equal(one[key], other[key]) for key in one.files):
                return False
    return True
