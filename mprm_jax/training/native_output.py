"""Shows one line in place of the stack dump with which JAX's C++ code ends a lost run.

When a host dies, JAX ends the others with `abort`, from a thread and after a dump of twenty lines;
no Python code runs then. So what C++ code writes goes through a small process, this file run as a
script, which outlives the abort, to stderr. What Python writes goes where it went before.
"""

import os
import re
import signal
import subprocess
import sys
from typing import TextIO

# How XLA's client.h begins the dump.
_FATAL = "Terminating process because the JAX distributed service detected fatal errors"
_LOG_LINE = re.compile(r"[IWEF]\d{4} [\d:.]+ +\d+ (\S+):\d+\]")
_NOISE = " peer ranks"  # of Gloo, which greets on stdout
_DEAD_HOSTS = re.compile(r"stopped sending heartbeats\):\s*([\d,\s]*\d)")
_AGAIN = "start the same command on all hosts again; it continues from the last checkpoint."


def filter_native_output() -> None:
    """Starts that process; `sys.stdout` and `sys.stderr` are new files afterwards."""
    sys.stdout.flush()
    sys.stdout, sys.stderr = _reopened(1), _reopened(2)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=sys.stderr.fileno(),
    )
    for descriptor in (1, 2):
        os.dup2(process.stdin.fileno(), descriptor)
    process.stdin.close()


def _reopened(descriptor: int) -> TextIO:
    return os.fdopen(os.dup(descriptor), "w", buffering=1, errors="backslashreplace")


def lost_host(dump: str) -> str:
    """What a person should know of a dump, in one line."""
    found = _DEAD_HOSTS.search(dump)
    if found:
        return f"host {', '.join(re.findall(r'[0-9]+', found[1]))} ended or lost contact; {_AGAIN}"
    if "coordination service" in dump and "RPC" in dump:
        return f"host 0 ended or lost contact; {_AGAIN}"
    return f"the hosts lost contact ({' '.join(dump.split())[:200]}); {_AGAIN}"


def main() -> None:
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)
    hidden = False
    for line in sys.stdin:
        if _FATAL in line:
            dump = line.split("absl::Status:", 1)[-1] + sys.stdin.read()
            sys.stderr.write(f"\nerror: {lost_host(dump)}\n")
        elif found := _LOG_LINE.match(line):
            hidden = found[1].startswith("coordination_service")
        if not hidden and _FATAL not in line and _NOISE not in line:
            sys.stderr.write(line)
            sys.stderr.flush()


if __name__ == "__main__":
    main()
