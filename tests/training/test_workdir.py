"""A work directory belongs to one run: its settings and its data."""

import dataclasses
import json
import os
import pathlib

import pytest

from mprm_jax.config import from_json
from mprm_jax.overrides import override
from mprm_jax.presets import tiny
from mprm_jax.training.workdir import open_workdir, read_workdir, require_writable

CONFIG = tiny()
DATA = {"data": "rooms", "classes": ["wall", "floor"], "fingerprint": "0123"}
STORE = pathlib.Path("prepared/rooms")


def test_a_new_directory_holds_settings_and_data(tmp_path):
    open_workdir(tmp_path / "runs" / "first", CONFIG, DATA, STORE)
    folder = tmp_path / "runs" / "first"
    assert from_json((folder / "config.json").read_text()) == CONFIG
    values = json.loads((folder / "data.json").read_text())
    assert values == DATA | {"store": str(STORE.absolute())}
    assert read_workdir(folder) == (CONFIG, values)


def test_a_folder_without_a_run_is_no_work_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the work directory of a run; give"):
        read_workdir(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "data.json"])
def test_a_work_directory_that_cannot_be_read_is_named(tmp_path, name):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    (tmp_path / name).write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: not of this version"):
        read_workdir(tmp_path)


def test_the_same_run_may_continue(tmp_path):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    open_workdir(tmp_path, CONFIG, DATA, STORE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("optim.learning_rate=0.5", r"optim.learning_rate: 0.005 there, 0.5 now"),
        ("model.paths=plain", r"model.paths: .* there, .*plain.* now"),
        ("seed=7", "seed: 0 there, 7 now"),
    ],
)
def test_other_settings_are_named(tmp_path, change, named):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    with pytest.raises(ValueError, match=named):
        open_workdir(tmp_path, override(CONFIG, [change]), DATA, STORE)


def test_equal_settings_are_not_named(tmp_path):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    with pytest.raises(ValueError) as error:
        open_workdir(tmp_path, override(CONFIG, ["seed=7"]), DATA, STORE)
    assert "optim" not in str(error.value)


@pytest.mark.parametrize("change", ["log.every_steps=3", "data.workers=2", "data.prefetch=9"])
def test_settings_without_a_say_in_the_result_may_change(tmp_path, change):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    open_workdir(tmp_path, override(CONFIG, [change]), DATA, STORE)


def test_other_data_are_refused(tmp_path):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    with pytest.raises(ValueError, match=r"data.json: .* other data \(fingerprint differ\)"):
        open_workdir(tmp_path, CONFIG, DATA | {"fingerprint": "4567"}, STORE)


@pytest.mark.parametrize("name", ["config.json", "data.json"])
@pytest.mark.parametrize("text", ["{", "[]", '"seed"', "", "\x00\x00"])
def test_damaged_files_are_one_line(tmp_path, name, text):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    (tmp_path / name).write_text(text)
    with pytest.raises(
        ValueError, match=rf"{name}: damaged.*; choose another --workdir\."
    ) as error:
        open_workdir(tmp_path, CONFIG, DATA, STORE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda values: values | {"old": 1}, r"\(old: 1 there, not set now\)"),
        (lambda values: values | {"augment": {}}, r"\(augment.rotate: not set there, True now; "),
        (lambda _: {}, r"\(preset: not set there, tiny now; .*; \.\.\.\)"),
    ],
)
def test_settings_of_another_version_are_named(tmp_path, change, named):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=rf"config.json: .*other settings {named}.*use the same"):
        open_workdir(tmp_path, CONFIG, DATA, STORE)


def test_a_file_in_the_way_is_named_before_anything_is_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    for check in (require_writable, lambda path: open_workdir(path, CONFIG, DATA, STORE)):
        with pytest.raises(OSError, match=r"run: .*file is a file; choose another --workdir"):
            check(tmp_path / "file" / "run")


def test_a_read_only_place_is_named_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(OSError, match="is not writable; choose another --workdir"):
        open_workdir(tmp_path / "runs" / "first", CONFIG, DATA, STORE)
    assert not list(tmp_path.iterdir())


def test_a_first_start_that_was_cut_short_is_repeated(tmp_path):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    (tmp_path / "config.json").unlink()
    other = dataclasses.replace(CONFIG, seed=1)
    open_workdir(tmp_path, other, DATA, STORE)
    assert from_json((tmp_path / "config.json").read_text()) == other
