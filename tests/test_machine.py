"""How many cores a process may use: not those that an affinity or a container withholds."""

import os

import pytest

from mprm_jax import machine
from mprm_jax.machine import usable_cpus


@pytest.fixture(autouse=True)
def counted_anew():
    """The number is counted once per process."""
    usable_cpus.cache_clear()
    yield
    usable_cpus.cache_clear()


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Control groups in a folder, this process in one of them; eight cores."""

    def groups(own, **files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("cpu_", "cpu.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
        monkeypatch.setattr(machine, "_own_group", lambda: own)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    return groups


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1)],
)
def test_a_quota_of_version_two_limits_the_cores(groups, quota, cores):
    groups("/", cpu_max=quota)
    assert usable_cpus() == cores


def test_a_quota_of_a_group_further_out_counts(groups):
    groups("/outer/inner", outer__cpu_max="300000 100000", outer__inner__cpu_max="max 100000")
    assert usable_cpus() == 3


def test_a_quota_of_version_one_limits_the_cores(groups):
    groups("/", cpu__cpu_cfs_quota_us="400000", cpu__cpu_cfs_period_us="100000")
    assert usable_cpus() == 4


@pytest.mark.parametrize("text", ["", "-1", "nonsense"])
def test_without_a_readable_quota_the_affinity_counts(groups, text):
    groups("/", cpu__cpu_cfs_quota_us=text, cpu__cpu_cfs_period_us="100000")
    assert usable_cpus() == 8


def test_the_affinity_counts_rather_than_the_cores(monkeypatch, groups):
    groups("/")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert usable_cpus() == 3


def test_a_system_without_affinities_counts_its_cores(monkeypatch, groups):
    groups("/")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cpus() == 6
