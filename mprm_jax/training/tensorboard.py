"""Scalars for TensorBoard, written in this thread.

The `SummaryWriter` of tensorboardX writes in a thread of its own. On a full disk that thread ends
without a word, and the run waits for it for ever.
"""

import os
import pathlib
import socket
import time
from collections.abc import Mapping

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

_FLUSH_SECONDS = 10.0  # between visits to the disk


class TensorBoard:
    """A file of events in `directory`; earlier ones from `first_step` on are hidden."""

    def __init__(self, directory: pathlib.Path, first_step: int):
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter(str(directory / name))
        self._flushed_at = time.monotonic()
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._add(Event(wall_time=time.time(), step=first_step, session_log=start))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Records scalars of one step."""
        summary = Summary(
            value=[Summary.Value(tag=name, simple_value=x) for name, x in values.items()]
        )
        self._add(Event(wall_time=time.time(), step=step, summary=summary))
        if time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self._records.flush()
            self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Writes what is left."""
        self._records.close()

    def _add(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
