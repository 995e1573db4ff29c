"""What a command shows people: a progress bar while it works, a report at its end."""

import logging
import sys
from typing import Any, NamedTuple

import tqdm

_TERMINAL_SECONDS, _FILE_SECONDS = 0.1, 20.0


class Report(NamedTuple):
    """The result of a command."""

    values: dict[str, Any]  # JSON
    text: str


def progress_bar(
    total: int, unit: str, description: str = "", done: int = 0, *, delay: float = 0.0
) -> tqdm.tqdm:
    """A bar on stderr with rate and ETA; in a log file it speaks rarely, one line at a time.

    It is silent where the log is limited to warnings, as on all hosts but the first.

    Args:
      delay: seconds in which nothing is shown, for what is mostly done by then.
    """
    terminal = sys.stderr.isatty()
    return tqdm.tqdm(
        total=total,
        initial=done,
        unit=f" {unit}",
        desc=description or None,
        dynamic_ncols=terminal,
        smoothing=0.05,
        mininterval=_TERMINAL_SECONDS if terminal else _FILE_SECONDS,
        ascii=not terminal,
        delay=delay,
        disable=not logging.getLogger(__name__).isEnabledFor(logging.INFO),
    )
