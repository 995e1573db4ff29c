"""The time of a run adds up over its starts."""

import time

from mprm_jax.training.spent import SpentTime


def test_time_adds_up_over_starts(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    first = SpentTime(tmp_path)
    now[0] = 107.0
    first.note()
    now[0] = 150.0  # killed before it noted this
    second = SpentTime(tmp_path)
    now[0] = 153.5
    assert second.seconds == 10.5
    second.note()
    assert SpentTime(tmp_path).seconds == 10.5
