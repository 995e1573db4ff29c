"""Turns SIGTERM and Ctrl-C into a request to stop at the next step."""

import signal
import time
from types import FrameType

# `timeout` sends SIGTERM to a process and once more to its group; SLURM, to one after the other.
_ECHO_SECONDS = 1.0


class StoppedError(Exception):
    """The run was asked to stop and has saved its state."""


class StopRequest:
    """A context manager whose `signal` names what was received, or is None.

    A second signal of the same kind acts as if this class were not there, unless it is the echo of
    the first SIGTERM.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before = {}
        self._times: dict[int, float] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {kind: signal.signal(kind, self._receive) for kind in self._SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def wait(self) -> bool:
        """Whether a signal came, or comes while those of other processes are being sent."""
        deadline = time.monotonic() + _ECHO_SECONDS
        while self.signal is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.signal is not None

    def _receive(self, kind: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(kind).name
        now = time.monotonic()
        first = self._times.setdefault(kind, now)
        is_echo = kind == signal.SIGTERM and now - first < _ECHO_SECONDS
        if now > first and not is_echo:
            signal.signal(kind, self._before[kind])
            signal.raise_signal(kind)
