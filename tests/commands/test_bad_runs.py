"""Bad arguments and work directories: one clear line, exit status 2, before any compile.

What only a run can meet (a damaged checkpoint, a loss that is not finite) is in `test_train.py`.
"""

import errno
import json
import os

import pytest
import runs
from broken_files import assert_nothing_is_begun, cut
from label_exports import pseudo_labels, write_export

from mprm_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("same_process_afterwards")


def test_a_store_of_other_settings(store, small, tmp_path, error_of):
    error = error_of(*small, "data.voxel_size=0.08")
    assert error.startswith(f"{store.path}: prepared with voxel_size 0.16, asked for 0.08; choose")
    assert_nothing_is_begun(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            ["--data", "scanet:x"],
            "--data scanet:x: unknown data set; valid are rooms, scannet:PATH",
        ),
        (
            ["--data", "scannet:nowhere"],
            "--data scannet:nowhere: no folder nowhere; check the path",
        ),
        (["--data", "rooms:huge"], "Rooms has no size 'huge'; choose one of tiny, quick, full"),
        (["--data", "store:nowhere"], "nowhere: no manifest.json, so no complete store; run mprm"),
        (["--data", "folder:nowhere"], "--data folder:nowhere: no folder nowhere; check the path"),
        (["--preset", "huge"], "argument --preset: invalid choice: 'huge'"),
        (["--stage", "sleep"], "argument --stage: invalid choice: 'sleep'"),
        (["--set", "optim.rate=1"], "--set optim.rate: unknown setting; did you mean optim."),
        (["--set", "optim.epochs=2.5"], "--set optim.epochs: wants int, got '2.5'"),
        (["--set", "data.voxel_size=0"], "data.voxel_size is 0.0; give a value above 0"),
        (
            ["--set", "augment.mix=0.5", "augment.grid=moved"],
            "augment.mix=0.5 is for --stage seg: balls laid over",
        ),
        (["--devices", "0"], "--devices 0: give 1 or more, or leave it out"),
        (["--devices", "-2"], "--devices -2: give 1 or more, or leave it out"),
        (["--devices", "two"], "argument --devices: invalid int value: 'two'"),
    ],
)
def test_wrong_arguments(tmp_path, error_of, arguments, named):
    assert error_of(*arguments).startswith(named)
    assert_nothing_is_begun(tmp_path)


def test_more_devices_than_there_are(small, tmp_path, error_of):
    assert error_of(*small, "--devices", 9).startswith("--devices 9: there are only 4 cpu devices")
    assert_nothing_is_begun(tmp_path)


def test_a_file_in_place_of_the_work_directory(tmp_path, error_of):
    (tmp_path / "file").write_text("in the way")
    error = error_of("--workdir", tmp_path / "file" / "run")
    assert error.endswith(f"{tmp_path / 'file'} is a file; choose another --workdir.")
    assert_nothing_is_begun(tmp_path)


def test_a_read_only_work_directory(tmp_path, error_of, monkeypatch):
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr(os, "access", lambda path, *_: path != tmp_path / "shared")
    error = error_of("--workdir", tmp_path / "shared" / "run")
    assert error.endswith(f"{tmp_path / 'shared'} is not writable; choose another --workdir.")
    assert_nothing_is_begun(tmp_path)


def test_a_work_directory_on_a_full_disk(small, tmp_path, error_of, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    assert error_of(*small).startswith(f"{tmp_path / 'run'}: cannot be written (No space left")
    assert_nothing_is_begun(tmp_path)


@pytest.fixture
def begun(small, store, tmp_path, error_of, monkeypatch):
    """A work directory that was claimed for the small run, which then ended."""

    def fit(*_, **__):
        raise UserError("ended")

    monkeypatch.setattr("mprm_jax.commands.train_cls.fit", fit)
    assert error_of(*small) == "ended"
    return tmp_path / "run"


def test_a_work_directory_of_other_settings(begun, small, error_of):
    error = error_of(*small, "optim.learning_rate=0.5", "seed=3")
    assert error.startswith(f"{begun / 'config.json'}: this run was started with other settings (")
    assert "optim.learning_rate: 0.005 there, 0.5 now" in error and "seed: 0 there, 3 now" in error
    assert "another --workdir" in error


def test_a_work_directory_of_other_data(begun, small, tmp_path, error_of):
    other = runs.small_store(tmp_path / "other", num_train=3)
    error = error_of(*small, "--data", f"store:{other.path}")
    assert error.startswith(f"{begun / 'data.json'}: this run was started on other data (")
    assert "fingerprint" in error and "another --workdir" in error


@pytest.mark.parametrize("name", ["config.json", "data.json"])
def test_a_damaged_work_directory(begun, small, error_of, name):
    cut(begun / name, 7)
    error = error_of(*small)
    assert error.startswith(f"{begun / name}: damaged (") and "another --workdir" in error


def test_a_subcloud_larger_than_the_bucket_is_thinned_and_said_so(small, error_of, begun):
    rule = (
        "hold more voxels than pyramid.bucket_points=40: each is thinned to a fixed random choice"
    )
    other = ("--workdir", begun.with_name("other"))
    assert error_of(*small, "pyramid.bucket_points=40", *other, log=rule) == "ended"


def test_a_damaged_store(tmp_path, error_of):
    other = runs.small_store(tmp_path)
    path = other.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    error = error_of("--data", f"store:{other.path}", "--preset", "tiny")
    assert error.startswith(f"{path}: store format 99, this version reads")
    cut(path)
    error = error_of("--data", f"store:{other.path}", "--preset", "tiny")
    assert error.startswith(f"{path}: not readable as JSON of a store; prepare it again")


SEG = ("--stage", "seg", "--pseudo-labels")


def test_a_segmentation_run_without_targets(small, tmp_path, error_of):
    assert error_of(*small, "--stage", "seg").startswith("--pseudo-labels says what --stage seg")
    assert error_of(*small, "--pseudo-labels", "truth").startswith("--pseudo-labels says what")
    assert_nothing_is_begun(tmp_path)


def test_pseudo_labels_that_are_not_there(small, tmp_path, error_of):
    error = error_of(*small, *SEG, tmp_path / "labels")
    assert error.startswith(f"{tmp_path / 'labels'}: no export.json, so no complete export;")
    assert_nothing_is_begun(tmp_path)


def test_pseudo_labels_of_a_scene_are_missing(small, store, tmp_path, error_of):
    export = write_export(tmp_path / "labels", store, pseudo_labels(store))
    (export / "room1.npz").unlink()
    assert error_of(*small, *SEG, export).startswith(f"{export / 'room1.npz'}: missing, with 0")
    assert_nothing_is_begun(tmp_path)


def test_damaged_pseudo_labels(small, store, tmp_path, error_of):
    export = write_export(tmp_path / "labels", store, pseudo_labels(store))
    cut(export / "room1.npz")
    assert error_of(*small, *SEG, export).startswith(f"{export / 'room1.npz'}: damaged (")
    assert_nothing_is_begun(tmp_path)


def test_pseudo_labels_of_other_data(small, tmp_path, error_of):
    other = runs.small_store(tmp_path / "other", num_train=3)
    export = write_export(tmp_path / "labels", other, pseudo_labels(other))
    error = error_of(*small, *SEG, export)
    assert error.startswith(f"{export}: made from another version of the data than")


def test_the_work_directory_of_the_other_stage(begun, small, error_of):
    error = error_of(*small, *SEG, "truth")
    assert error.startswith(f"{begun / 'data.json'}: of a run of stage cls, this is stage seg;")
    assert "another --workdir" in error


def test_pseudo_labels_of_other_data_are_refused_before_rooms_are_made(store, tmp_path, error_of):
    export = write_export(tmp_path / "labels", store, pseudo_labels(store))
    error = error_of("--stage", "seg", "--pseudo-labels", export)
    assert error.startswith(f"{export}: pseudo-labels of fake, not of rooms:quick; say with --data")
    assert not (tmp_path / "rooms").exists() and not (tmp_path / "prepared").exists()
