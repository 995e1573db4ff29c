"""The time of a run adds up over its starts."""

import pytest

from mprm_jax.errors import UserError
from mprm_jax.training.workdir import note_seconds, seconds_before


def test_time_adds_up_over_starts(tmp_path):
    assert seconds_before(tmp_path) == 0
    note_seconds(tmp_path, 7.04)
    assert seconds_before(tmp_path) == 7.0
    note_seconds(tmp_path, seconds_before(tmp_path) + 3.5)
    assert seconds_before(tmp_path) == 10.5


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seconds": null}'])
def test_a_damaged_note_is_one_line(tmp_path, text):
    (tmp_path / "seconds.json").write_text(text)
    with pytest.raises(UserError, match=r"seconds\.json: damaged \(.*\); delete it"):
        seconds_before(tmp_path)
