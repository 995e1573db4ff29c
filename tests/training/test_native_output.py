"""What JAX's C++ code writes when a host is lost becomes one line; everything else passes."""

import subprocess
import sys

import pytest

from mprm_jax.training import native_output
from mprm_jax.training.native_output import lost_host

FATAL = (
    "F1124 21:49:42.804491    8637 client.h:80] Terminating process because the JAX distributed "
    "service detected fatal errors. This most likely indicates that another task died; see the "
    "other task logs for more details. Disable Python buffering, i.e. `python -u`, to be sure to "
    "see all the previous output. absl::Status: "
)
# As jaxlib 0.10.2 wrote them when a host was killed.
HOST_0_GONE = """\
UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task was preempted/died\
/restarted unexpectedly or this task is experiencing network issues. Check earlier logs from 1) \
this task, 2) the leader (usually slice 0 task 0), and 3) cluster scheduler to debug further.
Additional GRPC error information from remote target coordination_service while calling \
/xla.coordination.CoordinationService/PollForError:
:UNKNOWN:Error received from peer  {grpc_message:"Socket closed", grpc_status:14}
*** Check failure stack trace: ***
    @     0x7ffaef240634  absl::lts_20260107::log_internal::LogMessage::SendToLog()
"""
HOST_1_GONE = """\
UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):
1
The tasks have crashed. Check the task logs for an earlier error, or scheduler events (e.g. \
preemption, eviction) to debug further.

RPC: /xla.coordination.CoordinationService/PollForError \
[type.googleapis.com/tensorflow.CoordinationServiceError='']
*** Check failure stack trace: ***
    @     0x7f74eee40634  absl::lts_20260107::log_internal::LogMessage::SendToLog()
"""
AGAIN = "start the same command on all hosts again; it continues from the last checkpoint."


def passed_on(text: str) -> str:
    """What a person sees of some output of C++ code."""
    command = [sys.executable, "-I", "-S", native_output.__file__]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize(
    ("dump", "who"), [(HOST_0_GONE, "host 0"), (HOST_1_GONE, "host 1")], ids=["host 0", "host 1"]
)
def test_a_dump_becomes_one_line_that_names_the_host(dump, who):
    assert lost_host(dump) == f"{who} ended or lost contact; {AGAIN}"
    assert passed_on(FATAL + dump) == f"\nerror: {who} ended or lost contact; {AGAIN}\n"


def test_several_lost_hosts_are_named():
    dump = HOST_1_GONE.replace("\n1\n", "\n1, 3\n", 1)
    assert lost_host(dump).startswith("host 1, 3 ended or lost contact;")


def test_an_unknown_dump_is_quoted():
    assert lost_host("INTERNAL: a new\nreason") == (
        f"the hosts lost contact (INTERNAL: a new reason); {AGAIN}"
    )


def test_other_output_passes():
    lines = "W1124 21:49:42.8    8637 compiler.cc:12] slow\na line\n"
    assert passed_on(lines) == lines


def test_what_the_coordination_service_says_before_is_hidden():
    before = "E1124 21:49:49.777142    8646 coordination_service.cc:1549] [83] Use error\n1\nThe\n"
    after = "W1124 21:49:50.1    8637 compiler.cc:12] slow\n"
    assert passed_on(before + after) == after


def test_the_greeting_of_gloo_is_hidden():
    assert passed_on("[Gloo] Rank 0 is connected to 1 peer ranks. Expected\n") == ""
