"""Joins the hosts of a run at its start, ends them together, and says why in one line.

A host that dies or fails ends the others within a minute.
"""

import atexit
import concurrent.futures
import contextlib
import functools
import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
from jax.experimental.multihost_utils import ProcessFailureError, live_devices
from orbax.checkpoint.multihost import get_barrier_sync_fn

from mprm_jax.errors import UserError, is_device_out_of_memory
from mprm_jax.machine import version_facts
from mprm_jax.training.hosts import (
    FOREVER_MS,
    KnownError,
    exchange,
    in_background,
    is_first_host,
    require_equal,
    tell_failure,
    wait_for_all_hosts,
)
from mprm_jax.training.signals import StoppedError

logger = logging.getLogger(__name__)

AUTO = "auto"
_HEARTBEAT_SECONDS = 30  # without a sign of life, after which a host counts as dead
_COMPARE_SECONDS = 120.0  # for hosts that have all come to tell each other what they are
_MARGIN_SECONDS = 60  # by which JAX waits longer than we do: it would abort
_WATCH_SECONDS = 1.0
_GRACE_SECONDS = 5.0  # for a host to end by itself, when another one has
_LINGER_SECONDS = 15.0  # that a failing host stays for the others to hear of it
_SILENT = (
    "the hosts came, but could not tell each other what they are; see that they reach each other, "
    "and make them alike."
)


class Place(NamedTuple):
    """Which of how many hosts this is."""

    address: str  # of host 0, e.g. "10.0.0.1:1234"
    count: int
    index: int


@contextlib.contextmanager
def joined_hosts(spec: str, facts: Mapping[str, str], seconds: float) -> Iterator[None]:
    """Runs its body on all hosts as one program; to be entered before anything else of JAX.

    Args:
      spec: "auto", or ADDRESS:PORT,COUNT,INDEX.
      facts: what has to be equal on all hosts, besides versions.
      seconds: to wait for hosts that have not come yet; without them the process ends.

    Raises:
      ValueError: hosts differ, or another one failed; on all hosts.
    """
    place = None if spec == AUTO else parse_place(spec)
    if place is not None and place.count == 1:
        yield
        return
    _connect(place, seconds)
    watch = _Watch()
    try:
        with _deadline(_COMPARE_SECONDS, _SILENT):
            _compare({"COUNT of --hosts": str(place and place.count)} | version_facts() | facts)
        yield
        wait_for_all_hosts("the end")
    except StoppedError:
        wait_for_all_hosts("the stop")
        raise
    except BaseException as error:
        watch.tell(error)
        raise
    finally:
        watch.leave()


def parse_place(spec: str) -> Place:
    """Reads ADDRESS:PORT,COUNT,INDEX.

    Raises:
      ValueError: the text makes no sense.
    """
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


class _Watch:
    """Ends this host, with one line, when another one has ended; lets the others know if it ends.

    JAX tells in Python who is lost, and aborts nobody, as long as host 0 is there, which serves
    all others; so host 0 says that it is going to end, and goes last.
    """

    def __init__(self) -> None:
        self._leaving = threading.Event()  # this host ends by itself
        self._alone = threading.Event()
        self._ending = threading.Lock()
        self._failed = False
        self._threads = [in_background(self._look_for_lost_hosts)]
        if not is_first_host():
            self._threads.append(in_background(self._wait_for_end_of_first))

    def tell(self, error: BaseException) -> None:
        """Tells the others why this host fails, if they listen; it ends at once afterwards."""
        # Else JAX waits at exit for computations that wait for another host.
        atexit.register(_exit_now)
        self._failed = True
        if isinstance(error, jax.errors.JaxRuntimeError) and not is_device_out_of_memory(error):
            # Most likely another host has ended, which the watch will find out and tell.
            time.sleep(_HEARTBEAT_SECONDS + _LINGER_SECONDS)
        self._leaving.set()
        if isinstance(error, Exception) and not isinstance(error, KnownError):
            reason = " ".join(str(error).split()) or type(error).__name__
            with contextlib.suppress(UserError, jax.errors.JaxRuntimeError):
                tell_failure(reason, _LINGER_SECONDS)

    def leave(self) -> None:
        """Takes leave of JAX's service."""
        self._leaving.set()
        if is_first_host():
            self._threads.append(in_background(_first_ends))
            self._alone.wait(_LINGER_SECONDS)
        elif not self._failed:
            concurrent.futures.wait(self._threads[1:], timeout=_LINGER_SECONDS)
        jax.distributed.shutdown()
        if not self._failed:
            # A thread that comes back from C++ code while Python ends would abort it.
            concurrent.futures.wait(self._threads, timeout=_LINGER_SECONDS)

    def _look_for_lost_hosts(self) -> None:
        lost = set()
        while len(lost) < jax.process_count() - 1:
            if self._leaving.is_set() and not is_first_host():
                return
            try:
                with live_devices(jax.devices()):
                    pass
            except ProcessFailureError as error:
                lost |= {device.process_index for device in error.failed_devices}
                in_background(functools.partial(self._end, *sorted(lost)))
            self._leaving.wait(_WATCH_SECONDS)
        self._alone.set()

    def _wait_for_end_of_first(self) -> None:
        _first_ends()
        self._end(0)

    def _end(self, *lost: int) -> None:
        if self._leaving.wait(_GRACE_SECONDS) or not self._ending.acquire(blocking=False):
            return
        _say_error(
            f"host {', '.join(map(str, lost))} ended or lost contact; start the same command on "
            "all hosts again, it continues from the last checkpoint. If that host had an error, "
            "its own output says which."
        )
        self._failed = True
        self.leave()
        _exit_now()


def _connect(place: Place | None, seconds: float) -> None:
    """Joins JAX's service; waits for all hosts."""
    if place is not None and place.index == 0:
        _require_free(int(place.address.rpartition(":")[2]))
    _keep_stdout_for_results()
    jax.config.update("jax_logging_level", "ERROR")  # C++ code warns of what is asked for here
    # JAX's own service would swallow a SIGTERM that comes before training.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_enable_recoverability", True)  # tells who is lost, in place of an abort
    where = f" at {place.address}" if place else ""
    with _deadline(
        seconds,
        f"not all {f'{place.count} ' if place else ''}hosts came within {seconds:g} s. Start the "
        "same command on all of them, each with an INDEX of its own, and see that they reach "
        f"host 0{where}.",
    ):
        try:
            jax.distributed.initialize(
                *(place or ()),
                local_device_ids=None if place or not _is_alone_on_its_node() else [],
                cluster_detection_method="deactivate" if place else None,
                initialization_timeout=math.ceil(seconds) + _MARGIN_SECONDS,
                heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            )
        except ValueError:  # found nothing, or not all it needs
            raise UserError(
                "--hosts auto: this is no TPU pod and was not started by SLURM or Open MPI; say "
                "--hosts ADDRESS:PORT,COUNT,INDEX on every host."
            ) from None
    with _deadline(_COMPARE_SECONDS, _SILENT):
        jax.devices()  # each host learns of those of all


def _require_free(port: int) -> None:
    """Raises `ValueError` if nobody can listen at a port; JAX would crash."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise UserError(
            f"port {port} of this host cannot be used ({os.strerror(error.errno)}); is another "
            "host numbered 0 too, or another run alive? Choose another port, the same on all hosts."
        ) from None


def _is_alone_on_its_node() -> bool:
    """Whether SLURM or Open MPI started one process per node.

    It owns all devices of its node; JAX would give it the first, as if there was one per device,
    unless it is told an empty list of them.
    """
    nodes, tasks = map(os.environ.get, ("SLURM_STEP_NUM_NODES", "SLURM_STEP_NUM_TASKS"))
    return (nodes is not None and nodes == tasks) or (
        os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
    )


def _keep_stdout_for_results() -> None:
    """Drops what C++ code writes to stdout, as Gloo does to greet; Python's own output stays."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1, errors="backslashreplace")
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)


def _compare(facts: Mapping[str, str]) -> None:
    """Compares the hosts; host 0 tells from now on what happens, the others only what is wrong."""
    index, count = jax.process_index(), jax.process_count()
    logging.basicConfig(
        level=logging.WARNING if index else logging.INFO,
        format=f"host {index}: %(message)s" if index else "%(message)s",
        stream=sys.stderr,
        force=True,
    )
    here = [jax.local_devices(process_index=host) for host in range(count)]
    for host, devices in enumerate(here):
        if len(devices) != len(here[0]):
            raise KnownError(
                f"host {host} differs (devices: {len(devices)} there, {len(here[0])} on host 0); "
                "make all hosts alike."
            )
    names = exchange(socket.gethostname(), "names")
    kind = jax.default_backend()
    logger.info("%d hosts with %d %s devices each: %s", count, len(here[0]), kind, ", ".join(names))
    require_equal(facts, "versions and settings")


@contextlib.contextmanager
def _deadline(seconds: float, line: str) -> Iterator[None]:
    """Ends the process with a line if its body takes longer, whatever C++ code waits for."""

    def end() -> None:
        _say_error(line)
        _exit_now()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _first_ends() -> None:
    """Returns once host 0 is going to end; to be called by all."""
    get_barrier_sync_fn()(key="mprm/host 0 ends", timeout_ms=FOREVER_MS)


def _say_error(line: str) -> None:
    print(f"\nerror: {line}", file=sys.stderr, flush=True)


def _exit_now() -> None:
    sys.stdout.flush()
    os._exit(2)
