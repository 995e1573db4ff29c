"""A work directory belongs to one run: its settings and its data."""

import dataclasses
import json

import pytest

from mprm_jax.config import from_json
from mprm_jax.overrides import override
from mprm_jax.presets import tiny
from mprm_jax.training.workdir import open_workdir, write_atomically

CONFIG = tiny()
DATA = {"data": "rooms", "classes": ["wall", "floor"], "fingerprint": "0123"}


def test_a_new_directory_holds_settings_and_data(tmp_path):
    open_workdir(tmp_path / "runs" / "first", CONFIG, DATA)
    folder = tmp_path / "runs" / "first"
    assert from_json((folder / "config.json").read_text()) == CONFIG
    assert json.loads((folder / "data.json").read_text()) == DATA


def test_the_same_run_may_continue(tmp_path):
    open_workdir(tmp_path, CONFIG, DATA)
    open_workdir(tmp_path, CONFIG, DATA)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("optim.learning_rate=0.5", r"optim.learning_rate: 0.005 there, 0.5 now"),
        ("model.paths=plain", r"model.paths: .* there, .*plain.* now"),
        ("seed=7", "seed: 0 there, 7 now"),
    ],
)
def test_other_settings_are_named(tmp_path, change, named):
    open_workdir(tmp_path, CONFIG, DATA)
    with pytest.raises(ValueError, match=named):
        open_workdir(tmp_path, override(CONFIG, [change]), DATA)


def test_equal_settings_are_not_named(tmp_path):
    open_workdir(tmp_path, CONFIG, DATA)
    with pytest.raises(ValueError) as error:
        open_workdir(tmp_path, override(CONFIG, ["seed=7"]), DATA)
    assert "optim" not in str(error.value)


@pytest.mark.parametrize("change", ["log.every_steps=3", "data.workers=2", "data.prefetch=9"])
def test_settings_without_a_say_in_the_result_may_change(tmp_path, change):
    open_workdir(tmp_path, CONFIG, DATA)
    open_workdir(tmp_path, override(CONFIG, [change]), DATA)


def test_other_data_are_refused(tmp_path):
    open_workdir(tmp_path, CONFIG, DATA)
    with pytest.raises(ValueError, match=r"data.json: this run was started on other data"):
        open_workdir(tmp_path, CONFIG, DATA | {"fingerprint": "4567"})


@pytest.mark.parametrize("text", ['{"preset": "tiny", "old_setting": 1}', "{", "[]", '"seed"'])
def test_settings_that_cannot_be_read_name_the_file(tmp_path, text):
    open_workdir(tmp_path, CONFIG, DATA)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json: .* Choose another --workdir."):
        open_workdir(tmp_path, CONFIG, DATA)


def test_a_first_start_that_was_cut_short_is_repeated(tmp_path):
    open_workdir(tmp_path, CONFIG, DATA)
    (tmp_path / "config.json").unlink()
    other = dataclasses.replace(CONFIG, seed=1)
    open_workdir(tmp_path, other, DATA)
    assert from_json((tmp_path / "config.json").read_text()) == other


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_atomically(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "file", "\ud800")
    assert (tmp_path / "file").read_text() == "old"


def test_writing_leaves_no_other_file(tmp_path):
    write_atomically(tmp_path / "file", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
