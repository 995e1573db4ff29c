"""Joins the hosts of a run at its start, ends them together, and says why in one line."""

import atexit
import contextlib
import hashlib
import importlib.metadata
import logging
import os
import pathlib
import platform
import sys
import threading
import time
from collections.abc import Iterator, Mapping

import jax

# No public names for these; looked at in jax 0.10.2, the newest that Python 3.11 can have.
from jax._src import distributed
from jax._src.clusters import ClusterEnv

from mprm_jax.errors import UserError
from mprm_jax.training.hosts import require_equal, wait_for_all_hosts
from mprm_jax.training.native_output import filter_native_output
from mprm_jax.training.roll_call import Place, call_roll
from mprm_jax.training.signals import StoppedError

AUTO = "auto"
_HEARTBEAT_SECONDS = 30  # without a sign of life, after which a host counts as dead
_CONNECT_SECONDS = 120  # for JAX to join hosts that were all there a moment ago
_SHUTDOWN_SECONDS = 60
_WATCH_SECONDS = 1.0
_LINGER_SECONDS = 15.0  # that host 0 stays for the others to read why it ends
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "mprm_jax")
_ENDED = "mprm/ended"


@contextlib.contextmanager
def joined_hosts(spec: str, facts: Mapping[str, str], seconds: float) -> Iterator[None]:
    """Runs its body on all hosts as one program; to be entered before anything else of JAX.

    A host that fails ends all others, with its own error as theirs. A host that dies ends them
    within a minute.

    Args:
      spec: "auto", or ADDRESS:PORT,COUNT,INDEX.
      facts: what has to be equal on all hosts, besides versions.
      seconds: to wait for hosts that have not come yet.

    Raises:
      ValueError: hosts are missing or differ; on all hosts, in the same words.
    """
    place, local_devices = find_place(spec, seconds)
    if place.count == 1:
        yield
        return
    call_roll(place, version_facts() | dict(facts), seconds)
    filter_native_output()
    _set_up_logging(place.index)
    # JAX's own service would swallow a SIGTERM that comes before training.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        place.address,
        place.count,
        place.index,
        local_device_ids=local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=_CONNECT_SECONDS,
        heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
    )
    watch = _Watch(place)
    try:
        require_equal({"devices": str(jax.local_device_count())}, "number of devices")
        logging.getLogger(__name__).info(
            "%d hosts with %d %s devices each",
            *(place.count, jax.local_device_count(), jax.default_backend()),
        )
        yield
    except StoppedError:
        wait_for_all_hosts("stopped")
        watch.stop()
        raise
    except BaseException as error:
        watch.end_all(error)
        raise
    wait_for_all_hosts("finished")
    watch.stop()


def find_place(spec: str, seconds: float) -> tuple[Place, list[int] | None]:
    """The place of this host, and the devices that are its own; None means all it sees.

    Raises:
      ValueError: the text makes no sense, or nothing can be found out.
    """
    if spec != AUTO:
        return _parsed(spec), None
    found = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, int(seconds)
    )
    address, count, index, local_devices = found
    if None in (address, count, index):
        raise UserError(
            "--hosts auto: this is no TPU pod and was not started by SLURM or Open MPI; say "
            "--hosts ADDRESS:PORT,COUNT,INDEX on every host."
        )
    return Place(address, count, index), None if _is_alone_on_its_node() else local_devices


def version_facts() -> dict[str, str]:
    """Versions of what runs, and a fingerprint of this package's own source."""
    digest = hashlib.sha256()
    package = pathlib.Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "source of mprm_jax": digest.hexdigest()[:12],
    }


def _parsed(spec: str) -> Place:
    try:
        address, count, index = spec.split(",")
        place = Place(address, int(count), int(index))
        host, _, port = address.rpartition(":")
        if host and 0 < int(port) < 65536 and 0 <= place.index < place.count:
            return place
    except ValueError:
        pass
    raise UserError(
        f"--hosts {spec}: give auto, or ADDRESS:PORT,COUNT,INDEX with the address of host 0 and "
        "an index from 0 to COUNT - 1, e.g. 10.0.0.1:9876,4,2."
    )


def _is_alone_on_its_node() -> bool:
    """Whether SLURM or Open MPI started one process per node.

    It owns all devices of its node; JAX would give it the first, as if there was one per device.
    """
    nodes, tasks = map(os.environ.get, ("SLURM_STEP_NUM_NODES", "SLURM_STEP_NUM_TASKS"))
    return (nodes is not None and nodes == tasks) or (
        os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
    )


def _set_up_logging(index: int) -> None:
    """Host 0 tells what happens, the others only what is wrong."""
    logging.basicConfig(
        level=logging.WARNING if index else logging.INFO,
        format=f"host {index}: %(message)s" if index else "%(message)s",
        stream=sys.stderr,
        force=True,
    )


class _Watch:
    """Reads, beside the work, whether another host has ended and why; then ends this one."""

    def __init__(self, place: Place):
        self._place = place
        self._client = distributed.global_state.client
        self._ending = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch; all hosts are done."""
        self._stopped.set()
        self._thread.join()

    def end_all(self, error: BaseException) -> None:
        """Lets the others know why this host ends, and lets it end at once afterwards."""
        if isinstance(error, jax.errors.JaxRuntimeError):
            # Most likely the end of another host, of which the reason is on its way.
            time.sleep(_HEARTBEAT_SECONDS + _LINGER_SECONDS)
        self._ending.acquire()
        # Else JAX waits at exit for hosts that are waiting for this one.
        atexit.register(_exit_now)
        self._leave(" ".join(str(error).split()) or type(error).__name__)

    def _watch(self) -> None:
        while not self._stopped.wait(_WATCH_SECONDS):
            try:
                notes = self._client.key_value_dir_get(f"{_ENDED}/")
            except jax.errors.JaxRuntimeError:
                return  # host 0 is gone, for which JAX itself ends this process
            reasons = [(name.rpartition("/")[2], text) for name, text in notes if text]
            if reasons and self._ending.acquire(blocking=False):
                index, reason = reasons[0]
                print(f"\nerror: host {index} ended: {reason}", file=sys.stderr, flush=True)
                self._leave("")
                _exit_now()

    def _leave(self, reason: str) -> None:
        self._client.key_value_set(f"{_ENDED}/{self._place.index}", reason)
        deadline = time.monotonic() + _LINGER_SECONDS
        # Host 0 serves these notes; whoever has read them has left one of his own.
        while self._place.index == 0 and time.monotonic() < deadline:
            if len(self._client.key_value_dir_get(f"{_ENDED}/")) == self._place.count:
                break
            time.sleep(_WATCH_SECONDS / 5)


def _exit_now() -> None:
    sys.stdout.flush()
    os._exit(2)
