"""Which of how many hosts this is: told by hand, or by SLURM or Open MPI; and who is not there."""

import os
import pathlib
import socket
import subprocess
import sys

import pairs
import pytest

from mprm_jax.machine import version_facts
from mprm_jax.training import joining
from mprm_jax.training.joining import AUTO, Place, joined_hosts, parse_place

ROOT = pathlib.Path(joining.__file__).parents[2]
SLURM = {  # as `srun` sets them for the last of two tasks
    "SLURM_JOB_ID": "5",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
JOIN = """
import sys, jax
from mprm_jax.training.joining import joined_hosts
from mprm_jax.errors import UserError
jax.config.update("jax_platforms", "cpu")
try:
    with joined_hosts(sys.argv[1], {}, float(sys.argv[2])):
        print(jax.process_count(), jax.config.read("jax_cuda_visible_devices"))
except UserError as error:
    sys.exit(f"error: {error}")
"""


def joining_of(spec: str, seconds: float) -> list[str]:
    """The command of a host that joins, says who came, and ends."""
    return [sys.executable, "-c", JOIN, spec, str(seconds)]


@pytest.fixture
def slurm(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_place_is_told_by_hand():
    assert parse_place("10.0.0.1:1234,4,2") == Place("10.0.0.1:1234", 4, 2)
    assert parse_place("[fd00::1]:1234,2,0").address == "[fd00::1]:1234"


@pytest.mark.parametrize(
    "spec",
    ["", "10.0.0.1,2,0", "10.0.0.1:x,2,0", "10.0.0.1:70000,2,0", ":1234,2,0", "a:1,2,2", "a:1,2"],
)
def test_a_place_without_sense_is_one_line_with_an_example(spec):
    with pytest.raises(ValueError, match=r"give auto, or ADDRESS:PORT,COUNT,INDEX .*e\.g\. 10\."):
        parse_place(spec)


def test_one_host_runs_as_if_there_were_no_others():
    with joined_hosts("127.0.0.1:1,1,0", {}, 1):
        pass


def test_versions_and_source_are_compared():
    facts = version_facts()
    assert {"python", "jax", "jaxlib", "numpy", "source of mprm_jax"} <= facts.keys()
    assert facts == version_facts()


def test_a_taken_port_is_named_with_a_remedy():
    port = pairs.free_port()
    with (
        socket.create_server(("", port)),
        pytest.raises(ValueError, match=f"port {port} of this host cannot be used ") as found,
        joined_hosts(f"127.0.0.1:{port},2,0", {}, 1),
    ):
        pass
    assert str(found.value).endswith("Choose another port, the same on all hosts.")


def run_joining(spec: str, seconds: float, env: dict[str, str]) -> subprocess.CompletedProcess:
    clean = {name: x for name, x in os.environ.items() if not name.startswith("SLURM_")}
    return subprocess.run(
        joining_of(spec, seconds), env=clean | env, cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.slow
def test_auto_needs_a_cluster():
    result = run_joining(AUTO, 5, {})
    assert result.stderr.startswith("error: --hosts auto: this is no TPU pod"), result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("nodes", "devices"), [("1", "all"), ("2", "0")], ids=["per node", "per device"]
)
def test_slurm_is_found_and_one_process_per_node_owns_all_devices_of_its_node(nodes, devices):
    task = {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}
    here = {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": nodes}
    port = {"JAX_COORDINATOR_PORT": str(pairs.free_port())}
    result = run_joining(AUTO, 60, SLURM | task | here | port)
    assert result.stdout.split() == ["1", devices], result.stderr


def said_by(*indices: int, count: int, seconds: float) -> list[str]:
    """What hosts say that wait for others in vain; each ends with status 2."""
    address = f"127.0.0.1:{pairs.free_port()}"
    processes = [
        subprocess.Popen(
            joining_of(f"{address},{count},{index}", seconds),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in indices
    ]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [2] * len(indices), said
    return said


@pytest.mark.slow
@pytest.mark.parametrize("indices", [(0, 2), (1,)], ids=["host 1", "host 0"])
def test_a_missing_host_ends_all_that_came_with_one_line(indices):
    for text in said_by(*indices, count=3, seconds=4):
        assert text.startswith("\nerror: not all 3 hosts came within 4 s. Start the same command")
        assert len(text.strip().splitlines()) == 1
