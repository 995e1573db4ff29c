"""A work directory belongs to one run: its settings and its data."""

import dataclasses
import json
import os
import pathlib

import pytest

from mprm_jax.config import from_json
from mprm_jax.errors import UserError
from mprm_jax.overrides import override
from mprm_jax.presets import FORMER, STAGES, quick, tiny
from mprm_jax.training.workdir import (
    begun_with,
    continued,
    open_workdir,
    read_workdir,
    require_writable,
)

CONFIG = tiny()
DATA = {"stage": "cls", "data": "rooms", "classes": ["wall", "floor"], "fingerprint": "0123"}
STORE = pathlib.Path("prepared/rooms")
CALIBRATED = override(
    CONFIG,
    [
        *("pyramid.coarse_points=(64, 32)", "pyramid.max_clouds=3", "pyramid.builder=device"),
        *("pyramid.conv_neighbors=(9, 8, 7)", "pyramid.pool_neighbors=(6, 5)"),
        *("pyramid.candidates=(40, 30, 20)", "pyramid.upsample_candidates=(10, 9)"),
    ],
)


def test_a_new_directory_holds_settings_and_data(tmp_path):
    open_workdir(tmp_path / "runs" / "first", CALIBRATED, DATA, STORE)
    folder = tmp_path / "runs" / "first"
    assert from_json((folder / "config.json").read_text()) == CALIBRATED
    values = json.loads((folder / "data.json").read_text())
    assert values == DATA | {"store": str(STORE.absolute())}
    assert read_workdir(folder) == (CALIBRATED, values)


def test_a_folder_without_a_run_is_no_work_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the work directory of a run; give"):
        read_workdir(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "data.json"])
def test_a_work_directory_that_cannot_be_read_is_named(tmp_path, name):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    (tmp_path / name).write_text("{")
    with pytest.raises(ValueError, match=rf"{name}: damaged .*; choose another --workdir"):
        read_workdir(tmp_path)


@pytest.mark.parametrize("text", ["{}", '{"preset": "tiny", "pyramid": {"max_clouds": 3}}'])
def test_settings_that_were_never_calibrated_are_named(tmp_path, text):
    open_workdir(tmp_path, CALIBRATED, DATA, STORE)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json: damaged \(no pyramid\.(max_cl|conv_ne)"):
        read_workdir(tmp_path)


def test_data_that_say_too_little_are_named(tmp_path):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    (tmp_path / "data.json").write_text(json.dumps({"stage": "cls"}))
    with pytest.raises(ValueError, match=r"data.json: damaged \(no data, classes, store\)"):
        read_workdir(tmp_path)


def test_a_work_directory_of_a_newer_version_is_named(tmp_path):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"newer": 1}))
    newer = r"config.json: this version does not know newer: a newer one wrote it; update"
    with pytest.raises(ValueError, match=newer):
        read_workdir(tmp_path)
    with pytest.raises(ValueError, match=newer):
        go_on(tmp_path, CONFIG)


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


@pytest.mark.parametrize("old", ["augment", "pyramid", "seed"])
def test_settings_that_a_run_lacks_are_not_compared(tmp_path, old):
    open_workdir(tmp_path, CONFIG, DATA, STORE)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    del values[old]
    path.write_text(json.dumps(values))
    open_workdir(tmp_path, CONFIG, DATA, STORE)


def begin(workdir, config, *lacking):
    """A run that was begun by a version without some settings."""
    open_workdir(workdir, config, DATA, STORE)
    path = workdir / "config.json"
    values = json.loads(path.read_text())
    for name in lacking:
        section, field = name.split(".")
        del values[section][field]
    path.write_text(json.dumps(values))


def go_on(workdir, asked):
    return continued(workdir / "config.json", begun_with(workdir, "cls"), asked, "cls", 3)


def test_a_run_goes_on_with_the_sizes_it_was_begun_with(tmp_path):
    begin(tmp_path, CALIBRATED)
    assert go_on(tmp_path, CONFIG) == CALIBRATED


def test_a_size_that_the_command_names_is_compared(tmp_path):
    begin(tmp_path, CALIBRATED)
    assert go_on(tmp_path, override(CONFIG, ["pyramid.max_clouds=3"])) == CALIBRATED
    with pytest.raises(ValueError, match=r"pyramid.max_clouds: 3 there, 4 now\); use the same"):
        go_on(tmp_path, override(CONFIG, ["pyramid.max_clouds=4"]))


def test_a_bucket_that_was_fitted_to_a_memory_stays(tmp_path):
    memory = "pyramid.memory_gb=2.0"
    begin(tmp_path, override(CALIBRATED, [memory, "pyramid.bucket_points=2048"]))
    assert go_on(tmp_path, override(CONFIG, [memory])).pyramid.bucket_points == 2048
    with pytest.raises(ValueError, match=r"memory_gb: 2\.0 there, 3\.0 now"):
        go_on(tmp_path, override(CONFIG, ["pyramid.memory_gb=3"]))


@pytest.mark.parametrize("change", ["seed=7", "model.paths=plain", "preset=quick"])
def test_a_command_that_asks_for_something_else_is_refused(tmp_path, change):
    begin(tmp_path, CALIBRATED)
    with pytest.raises(ValueError, match=f"{change.partition('=')[0]}: .* there, .* now"):
        go_on(tmp_path, override(CONFIG, [change]))


def test_a_command_that_leaves_out_a_setting_is_refused(tmp_path):
    begin(tmp_path, override(CALIBRATED, ["seed=7"]))
    with pytest.raises(ValueError, match="seed: 7 there, 0 now"):
        go_on(tmp_path, CONFIG)


def test_what_no_result_depends_on_is_as_the_command_says(tmp_path):
    begin(tmp_path, CALIBRATED)
    free = ["log.every_steps=3", "data.workers=2", "data.prefetch=9"]
    assert go_on(tmp_path, override(CONFIG, free)) == override(CALIBRATED, free)


def test_a_setting_that_a_run_lacks_is_as_before_and_said(tmp_path, caplog):
    begin(tmp_path, CALIBRATED, "pyramid.builder", "model.height", "augment.noise")
    found = go_on(tmp_path, override(CONFIG, ["model.height=True"]))
    assert found == override(CALIBRATED, ["pyramid.builder=host"])
    assert "begun by an older version, with model.height=False (now True)" in caplog.text


def test_a_run_that_knew_no_buckets_per_step_had_one_on_every_device(tmp_path, caplog):
    begin(tmp_path, CALIBRATED, "pyramid.buckets_per_step")
    assert go_on(tmp_path, CONFIG).pyramid.buckets_per_step == 3
    assert "with pyramid.buckets_per_step=3 (now 2)" in caplog.text
    wished = override(CONFIG, ["pyramid.buckets_per_step=6"])
    assert go_on(tmp_path, wished).pyramid.buckets_per_step == 6


def test_a_run_keeps_what_its_preset_was_and_says_so(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(FORMER["tiny"], "optim.epochs", (1, 5))
    begin(tmp_path, override(CALIBRATED, ["optim.epochs=5"]))
    assert go_on(tmp_path, CONFIG).optim.epochs == 5
    assert f"with optim.epochs=5 (now {CONFIG.optim.epochs})" in caplog.text
    with pytest.raises(ValueError, match=r"optim\.epochs: 5 there, 9 now"):
        go_on(tmp_path, override(CONFIG, ["optim.epochs=9"]))


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_of_a_version_that_added_no_epochs_keeps_its_number(tmp_path, stage):
    begin(tmp_path, quick(stage), "optim.min_steps")
    begun = json.loads((tmp_path / "config.json").read_text())
    found = continued(tmp_path / "config.json", begun, quick(stage), stage, 1)
    assert found.optim.min_steps == 0 and found.optim.epochs == quick(stage).optim.epochs


def test_a_run_of_the_other_stage_is_named_before_its_settings(tmp_path):
    begin(tmp_path, CALIBRATED)
    with pytest.raises(ValueError, match=r"data\.json: of a run of stage cls, this is stage seg"):
        begun_with(tmp_path, "seg")


def test_nothing_was_begun_in_a_new_or_half_claimed_directory(tmp_path):
    assert begun_with(tmp_path / "new", "cls") is None
    begin(tmp_path, CALIBRATED)
    (tmp_path / "config.json").unlink()
    assert begun_with(tmp_path, "cls") is None


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
