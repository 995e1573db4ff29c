"""The time of a run adds up over its starts."""

import time

import pytest

from mprm_jax.errors import UserError
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


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seconds": null}'])
def test_a_damaged_note_is_one_line(tmp_path, text):
    (tmp_path / "seconds.json").write_text(text)
    with pytest.raises(UserError, match=r"seconds\.json: damaged \(.*\); delete it"):
        SpentTime(tmp_path)
