"""Adds up the time that a run took over all its starts."""

import json
import pathlib
import time

from mprm_jax.errors import UserError
from mprm_jax.training.hosts import is_first_host
from mprm_jax.writing import write_whole

_FILE = "seconds.json"


class SpentTime:
    """The wall time of a run, this start and all before; what is noted survives a kill.

    `since` is when this start began, by the monotonic clock; now if None.
    """

    def __init__(self, workdir: pathlib.Path, since: float | None = None):
        self._path = workdir / _FILE
        self._start = time.monotonic() if since is None else since
        self._before = 0.0
        if self._path.is_file():
            try:
                self._before = float(json.loads(self._path.read_text(encoding="utf-8"))["seconds"])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{self._path}: damaged ({error}); delete it.") from error

    @property
    def seconds(self) -> float:
        """Seconds until now."""
        return self._before + time.monotonic() - self._start

    def note(self) -> None:
        """Writes the time until now into the work directory."""
        if is_first_host():
            write_whole(self._path, json.dumps({"seconds": round(self.seconds, 1)}))
