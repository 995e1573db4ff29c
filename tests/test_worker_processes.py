"""Worker processes: they start without an importable main script and end with the first one."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

from mprm_jax.worker_processes import explain_lost_workers, make_pool, share_out

# Waits for ever with a process at its side, whose id it prints.
PARENT = """
import os, time
from mprm_jax.worker_processes import make_pool
if __name__ == "__main__":
    print(make_pool(1).submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""

LOST = "mprm_jax.worker_processes.LostWorkersError: here: "
FROM_INPUT = """
from mprm_jax.worker_processes import explain_lost_workers, make_pool, share_out
with explain_lost_workers("here", "do that"):
    list(share_out(make_pool(1), abs, [-1]))
"""


def is_running(process_id):
    try:
        state = pathlib.Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not pathlib.Path("/proc").is_dir(), reason="looks into /proc")
def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(worker)


def test_a_main_script_that_cannot_be_imported_is_an_error():
    """Workers of a script from standard input cannot find it; none may be started for ever."""
    result = subprocess.run(
        [sys.executable, "-"], input=FROM_INPUT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith(LOST)


def test_all_items_are_done():
    assert sorted(share_out(make_pool(2), abs, [-1, 2, -3])) == [1, 2, 3]


def test_an_error_in_a_worker_is_raised():
    with pytest.raises(TypeError):
        list(share_out(make_pool(1), len, [3]))


def test_a_killed_worker_is_one_line():
    message = r"^here: a worker process ended early.*; do that\.$"
    with (
        pytest.raises(ChildProcessError, match=message),
        explain_lost_workers("here", "do that"),
    ):
        list(share_out(make_pool(1), os._exit, [1]))
