"""What a run will cost: from the program that then runs, and from its first steps."""

import logging
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mprm_jax.training.forecast import Forecast, StepCost, counted_compiles, step_cost
from mprm_jax.training.parallel import (
    make_mesh,
    replicate,
    replicated_shapes,
    shard_batch,
    spread_shapes,
)
from mprm_jax.types import DATA_AXIS

ROWS = np.ones((256, 64), np.float32)  # 64 kB on each device


@pytest.fixture
def compiles():
    """A list that grows with every program that XLA compiles."""
    with counted_compiles("") as found:
        yield found


def make_step(mesh):
    def step(state, rows):
        return state + jax.lax.psum(jnp.sum(rows), DATA_AXIS)

    specs = {"in_specs": (jax.P(), jax.P(DATA_AXIS)), "out_specs": jax.P()}
    return jax.jit(jax.shard_map(step, mesh=mesh, **specs), donate_argnums=0)


def test_the_program_whose_cost_is_told_is_the_one_that_runs(compiles):
    mesh = make_mesh()
    step, state = make_step(mesh), np.float32(0)
    step_cost(step, replicated_shapes(state, mesh), spread_shapes(ROWS, mesh, mesh.size))
    assert len(compiles) == 1
    state = replicate(state, mesh)
    for _ in range(2):
        state = step(state, shard_batch(np.tile(ROWS, (mesh.size, 1)), mesh))
    assert len(compiles) == 1


def test_compilations_are_counted_by_name_and_a_new_shape_is_one_more():
    def wanted(x):
        return x + 1

    def other(x):
        return x + 2

    first, second = np.ones(3, np.float32), np.ones(4, np.float32)
    with counted_compiles("wanted") as found:
        step = jax.jit(wanted)
        for rows in (first, first, second):
            step(rows)
        jax.jit(other)(first)
    step(np.ones(5, np.float32))
    assert len(found) == 2 and min(found) >= 0


@pytest.mark.parametrize("num_devices", [1, 4])
def test_the_peak_is_that_of_one_device(num_devices):
    mesh = make_mesh(jax.devices()[:num_devices])
    shapes = replicated_shapes(np.float32(0), mesh), spread_shapes(ROWS, mesh, mesh.size)
    assert ROWS.nbytes <= step_cost(make_step(mesh), *shapes).peak_bytes < 1.5 * ROWS.nbytes


def device(**statistics):
    return SimpleNamespace(memory_stats=lambda: statistics or None)


def said_of(caplog, steps, device):
    """What a forecast of ten steps says."""
    with caplog.at_level(logging.INFO):
        forecast = Forecast(StepCost(3_000_000_000, 12.0), 10, device)
        for num_steps, seconds in steps:
            forecast.after_steps(num_steps, seconds)
        forecast.at_end()
    return [record.getMessage() for record in caplog.records]


def test_time_is_told_of_warm_steps_and_compared_at_the_end(caplog):
    said = said_of(caplog, [(1, 9.0), (1, 9.0), (3, 6.0), (5, 12.0)], device())
    assert said == [
        "compiled in 12.0 s; a step needs 3 GB of a device; 10 steps are left",
        "a step takes 6 s, the steps that are left about 0.5 minutes",
        "10 steps took 1.6 minutes, expected were 1.1",
    ]


def said_at_first(caplog, monkeypatch, seconds, num_steps=1246):
    """What a forecast says after some steps of these lengths."""
    with caplog.at_level(logging.INFO):
        forecast = Forecast(StepCost(3_000_000_000, 12.0), num_steps, device())
        for now in np.cumsum(seconds):
            monkeypatch.setattr(time, "monotonic", lambda now=now: now)
            forecast.after_step(())
    return [record.getMessage() for record in caplog.records][1:]


def test_the_time_of_a_run_is_told_after_its_first_steps(caplog, monkeypatch):
    (said,) = said_at_first(caplog, monkeypatch, [9, 0.3, 0.29, 0.3, 0.43, 0.3, 0.3, 99])
    assert said.startswith("training: 1246 steps, about 6 to 8.9 minutes here, if all are as fast")


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.01, "12 seconds"), (0.1, "2.1 minutes"), (60.0, "21 hours")]
)
def test_the_time_is_told_in_a_unit_that_fits(caplog, monkeypatch, seconds, told):
    (said,) = said_at_first(caplog, monkeypatch, [seconds] * 6)
    assert f"about {told} here" in said


def test_of_a_run_of_six_steps_no_time_is_told(caplog, monkeypatch):
    assert not said_at_first(caplog, monkeypatch, [1] * 6, num_steps=6)


def test_memory_is_compared_where_the_device_counts_it(caplog):
    counted = device(bytes_limit=80_000_000_000, peak_bytes_in_use=3_100_000_000)
    first, last = said_of(caplog, [(10, 6.0)], counted)
    assert "a step needs 3 GB of a device, which has 80 GB" in first
    assert last == (
        "10 steps took 1 minutes; a device held 3.1 GB at most, 3 GB were expected of a step"
    )
