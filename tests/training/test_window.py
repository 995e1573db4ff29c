"""A stretch of steps: means, speed, and a stop at the first loss that is not finite."""

import time

import jax.numpy as jnp
import numpy as np
import pytest

from mprm_jax.batches.loader import LoadedBatch
from mprm_jax.training.recorder import Window


def loaded(members=((0,), (1, 2)), points=60, cut_rows=(0, 0)):
    members = [list(bucket) for bucket in members]
    return LoadedBatch(None, members, None, points, np.array([cut_rows, (0, 0)]), waited=0.5)


def name(index):
    return f"ball {index}"


def filled(*losses):
    """A window after some steps, each of two buckets."""
    window = Window(rows_per_step=80)
    for step, loss in enumerate(losses, start=1):
        window.add(step, {"loss": jnp.float32(loss)}, loaded([[10 * step], [10 * step + 1]]))
    return window


def test_values_are_means_over_the_steps():
    assert filled(1, 2, 6).flush(name)["loss"] == 3


def test_fill_is_the_share_of_rows_in_use():
    assert filled(1, 2).flush(name)["bucket/fill"] == 0.75


def test_cut_rows_are_summed_by_level():
    window = Window(rows_per_step=80)
    for step in range(3):
        window.add(step, {"loss": jnp.float32(0)}, loaded(cut_rows=(0, 5)))
    values = window.flush(name)
    assert (values["cut/rows_level0"], values["cut/rows_level1"]) == (0, 15)


def test_what_the_device_cut_is_summed_over_the_steps():
    window = Window(rows_per_step=100)
    for step in range(3):
        metrics = {"loss": jnp.float32(1), "cut/candidates_level1": jnp.int32(step)}
        window.add(step, metrics, loaded()._replace(cut_rows=None))
    values = window.flush(name)
    assert values["cut/candidates_level1"] == 3
    assert "cut/rows_level0" not in values


def test_speeds_have_the_ratio_of_points_to_clouds():
    values = filled(1, 2).flush(name)
    ratio = values["speed/points_per_second"] / values["speed/clouds_per_second"]
    np.testing.assert_allclose(ratio, 60 / 2)


def test_flushing_starts_anew():
    window = filled(1, 2)
    window.flush(name)
    assert len(window) == 0
    window.add(3, {"loss": jnp.float32(7)}, loaded())
    assert window.flush(name)["loss"] == 7


def test_time_before_a_restart_is_not_counted(monkeypatch):
    now = iter([0.0, 100.0, 102.0, 102.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    window = filled(1)
    window.restart()
    assert window.flush(name)["speed/points_per_second"] == 60 / 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_names_its_step_and_subclouds(bad):
    with pytest.raises(ValueError, match=rf"step 2: loss is {bad}.* ball 20; ball 21\.$"):
        filled(1, bad, 3).flush(name)


def test_parameters_that_are_not_finite_are_found_while_the_loss_still_is():
    window = Window(rows_per_step=80)
    metrics = {"loss": jnp.float32(1), "norm/parameters": jnp.float32(np.inf)}
    window.add(1, metrics, loaded())
    with pytest.raises(ValueError, match="step 1: norm/parameters is inf"):
        window.flush(name)


def test_the_first_loss_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match="step 2"):
        filled(1, np.nan, np.nan).flush(name)
