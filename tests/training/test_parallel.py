"""Which devices compute a step: as many as share its buckets evenly, on every host."""

import importlib.metadata
import logging
import types

import jax
import pytest

from mprm_jax.training import parallel
from mprm_jax.training.parallel import choose_devices, local_buckets, make_mesh, step_mesh


@pytest.mark.parametrize(
    ("num_devices", "buckets_per_step", "used"),
    [(1, 4, 1), (2, 4, 2), (3, 4, 2), (4, 4, 4), (4, 2, 2), (4, 1, 1), (4, 3, 3), (3, 6, 3)],
)
def test_as_many_devices_as_divide_the_buckets_compute(num_devices, buckets_per_step, used):
    assert step_mesh(jax.devices()[:num_devices], buckets_per_step).size == used


def test_unused_devices_are_named_with_the_setting(caplog):
    with caplog.at_level(logging.INFO):
        step_mesh(jax.devices()[:3], 2)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "pyramid.buckets_per_step" in said and "2 of 3 devices" in said
    assert str(jax.devices()[2]) in said and str(jax.devices()[1]) not in said


def test_nothing_is_said_when_all_devices_compute(caplog):
    with caplog.at_level(logging.INFO):
        step_mesh(jax.devices()[:2], 4)
    assert not caplog.records


def hosts(*counts):
    """Devices of hosts that are not there."""
    return [types.SimpleNamespace(process_index=i) for i, n in enumerate(counts) for _ in range(n)]


@pytest.mark.parametrize(
    ("counts", "buckets_per_step", "used"), [((2, 2), 4, 4), ((4, 4), 4, 4), ((1, 3), 4, 2)]
)
def test_every_host_takes_an_equal_share(monkeypatch, counts, buckets_per_step, used):
    monkeypatch.setattr(parallel, "make_mesh", lambda devices: devices)
    chosen = step_mesh(hosts(*counts), buckets_per_step)
    assert len(chosen) == used
    assert {sum(x.process_index == i for x in chosen) for i in range(len(counts))} == {
        used // len(counts)
    }


def test_hosts_that_cannot_share_the_buckets_are_an_error_with_the_remedy():
    with pytest.raises(ValueError, match=r"buckets_per_step=2 cannot be shared by 3 hosts; set a"):
        step_mesh(hosts(1, 1, 1), 2)


@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_buckets_stay_in_order_whatever_computes_them(num_devices):
    steps = [[[0], [1, 2], [3], []], [[4], [], [], []]]
    assert local_buckets(steps, make_mesh(jax.devices()[:num_devices])) == steps


@pytest.mark.parametrize("version", ["0.10.1", "0.10.2", "0.11.0", "0.11.1"])
@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
def test_versions_that_are_slow_on_gpus_are_named_there(monkeypatch, caplog, backend, version):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(importlib.metadata, "version", {"jaxlib": version}.get)
    choose_devices(None)
    is_slow = backend == "gpu" and version in ("0.10.2", "0.11.0")
    said = [f"jaxlib {version}" in x and "mprm_jax[cuda13]" in x for x in caplog.messages]
    assert said == [True] * is_slow
