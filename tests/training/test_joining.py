"""Which of how many hosts this is: told by hand, or by SLURM or Open MPI."""

import pytest

from mprm_jax.training.joining import AUTO, find_place, joined_hosts, version_facts
from mprm_jax.training.roll_call import Place

SLURM = {  # as `srun` sets them for the last of two tasks
    "SLURM_JOB_ID": "5",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


@pytest.fixture
def slurm(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_place_is_told_by_hand():
    assert find_place("10.0.0.1:1234,4,2", 1) == (Place("10.0.0.1:1234", 4, 2), None)
    assert find_place("[fd00::1]:1234,2,0", 1)[0].address == "[fd00::1]:1234"


@pytest.mark.parametrize(
    "spec",
    ["", "10.0.0.1,2,0", "10.0.0.1:x,2,0", "10.0.0.1:70000,2,0", ":1234,2,0", "a:1,2,2", "a:1,2"],
)
def test_a_place_without_sense_is_one_line_with_an_example(spec):
    with pytest.raises(ValueError, match=r"give auto, or ADDRESS:PORT,COUNT,INDEX .*e\.g\. 10\."):
        find_place(spec, 1)


def test_auto_needs_a_cluster(monkeypatch):
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="--hosts auto: this is no TPU pod"):
        find_place(AUTO, 1)


def test_one_process_per_node_owns_all_devices_of_its_node(slurm):
    slurm.setenv("SLURM_STEP_NUM_NODES", "2")
    place, devices = find_place(AUTO, 1)
    assert (place.count, place.index, devices) == (2, 1, None)
    assert place.address.startswith("node07:")


def test_one_process_per_device_owns_its_device(slurm):
    slurm.setenv("SLURM_STEP_NUM_NODES", "1")
    slurm.setenv("SLURM_LOCALID", "1")
    assert find_place(AUTO, 1)[1] == [1]


def test_one_host_runs_as_if_there_were_no_others():
    with joined_hosts("127.0.0.1:1,1,0", {}, 1):
        pass


def test_versions_and_source_are_compared():
    facts = version_facts()
    assert {"python", "jax", "jaxlib", "numpy", "source of mprm_jax"} <= facts.keys()
    assert facts == version_facts()
