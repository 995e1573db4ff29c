"""Turns SIGTERM and Ctrl-C into a request to stop at the next step."""

import signal
from types import FrameType


class StopRequest:
    """A context manager whose `signal` names what was received, or is None.

    A second signal of the same kind acts as if this class were not there.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before = {}

    def __enter__(self) -> "StopRequest":
        self._before = {kind: signal.signal(kind, self._receive) for kind in self._SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def _receive(self, kind: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(kind).name
        signal.signal(kind, self._before[kind])
