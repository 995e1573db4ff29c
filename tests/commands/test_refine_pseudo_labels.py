"""`refine_pseudo_labels.py`: another export beside the first, and what it refuses."""

import json
import shutil

import pytest
from fake_source import FakeSource, box_room
from label_exports import pseudo_labels, write_export
from prepared import CONFIG, make_store

from mprm_jax.commands import refine
from mprm_jax.labeling.refining import with_kernels
from mprm_jax.store.exports import Export
from mprm_jax.store.prepare import prepare

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("same_process_afterwards")]

MINING = {"mining": {"calibration": "none"}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"), num_train=2)


@pytest.fixture
def labels(store, tmp_path):
    return write_export(tmp_path / "labels", store, pseudo_labels(store), settings=MINING)


@pytest.fixture
def error(script, tmp_path):
    """The one line with which a refinement ends that writes nothing."""

    def error(export, *arguments):
        before = sorted(tmp_path.rglob("*"))
        ended = script(refine.main, "--export", export, *arguments)
        assert not ended.out and before == sorted(tmp_path.rglob("*"))
        return ended.error

    return error


def test_the_refined_export_lies_beside_the_other_and_both_are_measured(script, labels, tmp_path):
    ended = script(refine.main, "--export", labels, "--picture", "--ply", "--json")
    assert ended.status == 0, ended.err
    refined = Export(tmp_path / "labels_crf")
    assert refined.scenes == Export(labels).scenes
    assert (refined.path / "refined.png").read_bytes().startswith(b"\x89PNG")
    scans = {path.stem for path in (refined.path / "ply").glob("*.ply")}
    assert scans == set(refined.scenes)
    values = json.loads(ended.out)
    assert values["directory"] == str(refined.path) and values["before"]["miou"] > 0
    again = script(refine.main, "--export", labels)
    assert again.status == 0 and "complete already" in again.err
    assert "before" in again.out and "after" in again.out


def test_labels_of_other_data_or_classes(error, store, tmp_path):
    old = write_export(tmp_path / "old", store, pseudo_labels(store), fingerprint="old")
    assert error(old).startswith(f"{old}: made from another version of the data than {store.path}")
    classes = ("wall", "floor", "chair")
    other = write_export(tmp_path / "other", store, pseudo_labels(store), classes=classes)
    assert "its 3 classes are not the 3 of" in error(other)


def test_a_store_that_moved(error, labels):
    values = json.loads((labels / "export.json").read_text())
    (labels / "export.json").write_text(json.dumps(values | {"store": "nowhere"}))
    message = error(labels)
    assert message.startswith("nowhere: no manifest.json, so no complete store; run mprm ")
    assert message.endswith("Or say with --store where the scenes are.")


def test_no_export(error, tmp_path):
    assert error(tmp_path / "x").startswith(f"{tmp_path / 'x'}: no export.json, so no complete")


def test_an_export_is_not_refined_into_itself(error, labels):
    assert "is the export to refine; choose another" in error(labels, "--output", labels)


def test_a_folder_of_another_export(error, labels, tmp_path):
    other = shutil.copytree(labels, tmp_path / "other")
    assert "of another export (refined differ" in error(labels, "--output", other)


def test_scans_without_colors(error, tmp_path):
    scans = FakeSource(tmp_path / "scans", {"train/a": box_room()._replace(colors=None)})
    store = prepare(scans, tmp_path / "store", CONFIG.data, workers=0).store
    export = write_export(tmp_path / "bare", store, pseudo_labels(store), settings=MINING)
    assert "no colors, which some kernels compare; leave them out with" in error(export)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--position-width", "-1"], "position_width is -1.0; give meters above 0"),
        (["--pair-width", "nan"], "pair_width is nan; give meters above 0"),
        (["--color-width", "-1"], "color_width is -1.0; give 0 or more"),
        (["--pair-weight", "inf"], "pair_weight is inf; give 0 or more"),
        (["--iterations", "-1"], "iterations is -1; give 0 or more"),
        (["--trust", "2"], "trust is 2.0; give a share in [0, 1]"),
        (["--classes", "some"], "classes is 'some'; choose one of allowed, scene, all"),
        (["--tune", "-1"], "--tune -1: give a number of scenes, or 0 not to tune"),
    ],
)
def test_wrong_arguments(error, labels, arguments, named):
    assert error(labels, *arguments).startswith(named)


def test_help_names_the_defaults():
    shown = " ".join(refine.make_parser().format_help().split())
    settings, released = with_kernels("normals"), with_kernels("released")
    for name in refine.HELP:
        flag = shown.index(f"--{name.replace('_', '-')} ", shown.index("the CRF:"))
        told = shown[flag:].partition("(default: ")[2].partition(")")[0]
        usual, _, other = told.partition("; released: ")
        assert float(usual) == getattr(settings, name) if usual[0].isdigit() else usual == "allowed"
        assert not other or float(other) == getattr(released, name) != getattr(settings, name)
