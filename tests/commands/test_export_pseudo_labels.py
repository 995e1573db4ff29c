"""`export_pseudo_labels.py`: what it writes, on any number of devices, and what it refuses."""

import json
import shutil

import numpy as np
import pytest
import runs
from fake_source import FakeSource, box_room
from label_exports import pseudo_labels, write_export
from networks import write_network
from prepared import CONFIG, make_store

from mprm_jax.commands.export import main as export_main
from mprm_jax.overrides import override
from mprm_jax.scans.formats import read_cloud
from mprm_jax.store.exports import Export, as_labels
from mprm_jax.store.prepare import prepare

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("same_process_afterwards")]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def workdir(rooms, tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("run") / "run", rooms, "cls")


@pytest.fixture
def export(script, workdir):
    """Exports with the network and some more arguments."""

    def export(*arguments):
        given = ("--workdir", workdir, "--devices", 4, *arguments)
        return script(export_main, *given)

    return export


def test_one_and_four_devices_give_the_same_files(export, tmp_path):
    for devices in (1, 4):
        ended = export("--devices", devices, "--output", tmp_path / str(devices))
        assert ended.status == 0, ended.err
        assert "with tags" in ended.out and "mean IoU" in ended.out
        assert "voxels lie in no ball" in ended.err
    assert runs.same_arrays(tmp_path / "1", tmp_path / "4")


def test_a_ply_holds_every_point_of_the_scan_with_the_label_of_its_voxel(export, rooms, tmp_path):
    assert export("--output", tmp_path / "labels", "--ply").status == 0
    found = Export(tmp_path / "labels")
    for name in found.scenes:
        scene, cloud = found.load(name), read_cloud(tmp_path / "labels" / "ply" / f"{name}.ply")
        coords, colors = rooms.points("train", name)
        np.testing.assert_allclose(cloud.coords, coords)
        np.testing.assert_array_equal(cloud.colors, colors)
        np.testing.assert_array_equal(cloud.labels, as_labels(scene.label)[scene.point_voxel])
        assert (tmp_path / "labels" / "ply" / f"{name}.classes.csv").is_file()


def test_paths_fusion_and_rules_are_chosen_from_one_checkpoint(export, tmp_path):
    choices = {
        "all": "mining.votes=1",
        "plain": "mining.paths=plain",
        "sum": "mining.fusion=sum",
        "raw": "mining.calibration=none",
        "scene": "mining.allowed=scene",
        "votes": "mining.votes=2",
    }
    for name, setting in choices.items():
        ended = export("--output", tmp_path / name, "--json", "--set", setting)
        assert ended.status == 0, ended.err
        field, value = setting.removeprefix("mining.").split("=")
        told = json.loads(ended.out)["settings"][field]
        assert value in (str(told), ",".join(told) if isinstance(told, list) else "")
    for name in set(choices) - {"all"}:
        assert not runs.same_arrays(tmp_path / "all", tmp_path / name), name


def test_the_same_command_again_changes_nothing(export, tmp_path):
    assert export("--output", tmp_path / "labels").status == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "labels").iterdir()}
    ended = export("--output", tmp_path / "labels")
    assert ended.status == 0 and "complete already" in ended.err
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "labels").iterdir()}


def test_the_export_of_another_network_is_not_taken_for_this_one(export, rooms, tmp_path):
    """Not even if step, seed and paths agree."""
    assert export("--output", tmp_path / "labels").status == 0
    other = write_network(tmp_path / "other", rooms, "cls", "seed=1")
    values = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(values | {"seed": 0}))
    error = export("--workdir", other, "--output", tmp_path / "labels").error
    assert "export.json: of another export (origin differ" in error


@pytest.fixture(scope="module")
def others(rooms, tmp_path_factory):
    """Stores that do not fit the network, by what is wrong with them."""
    root = tmp_path_factory.mktemp("others")
    classes = FakeSource(root / "a", {"train/a": box_room()}, ("wall", "floor", "chair"))
    fine = FakeSource(root / "b", {"train/a": box_room()})
    settings = override(CONFIG, ["data.voxel_size=0.08"]).data
    return {
        "classes": prepare(classes, root / "classes", CONFIG.data, workers=0).store.path,
        "voxels": prepare(fine, root / "voxels", settings, workers=0).store.path,
    }


def assert_nothing_is_written(folder):
    assert not [path.name for path in folder.iterdir() if path.name not in ("run", "store")]


def test_no_run(export, tmp_path):
    error = export("--workdir", tmp_path / "nowhere").error
    assert error.startswith(f"{tmp_path / 'nowhere'}: not the work directory of a run; give the")
    assert_nothing_is_written(tmp_path)


def test_a_run_without_a_checkpoint(export, workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    ended = export("--workdir", tmp_path / "run", "--output", tmp_path / "labels")
    assert ended.error.startswith(f"{tmp_path / 'run' / 'checkpoints'}: no checkpoint; train first")
    assert_nothing_is_written(tmp_path)


def test_a_run_of_the_other_stage_predicts_and_mines_nothing(export, rooms, tmp_path):
    write_network(tmp_path / "run", rooms, "seg")
    where = ("--workdir", tmp_path / "run", "--output", tmp_path / "labels")
    ended = export(*where, "--set", "mining.votes=2")
    assert ended.error == "--set mining.votes=2: a network of stage seg mines nothing."
    assert_nothing_is_written(tmp_path)
    ended = export(*where)
    assert ended.status == 0 and "with tags" in ended.out
    settings = Export(tmp_path / "labels").manifest.settings
    assert "predicted" in settings and len(settings["prior"]) == len(rooms.classes)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("classes", "its 3 classes are not the 3 of the network; give another --store"),
        ("voxels", "voxels of 0.08 m, the network was trained on 0.16 m; prepare the scans"),
    ],
)
def test_a_store_that_does_not_fit(export, others, tmp_path, wrong, named):
    error = export("--store", others[wrong], "--output", tmp_path / "labels").error
    assert error.startswith(f"{others[wrong]}: {named}")
    assert_nothing_is_written(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--checkpoint", "7"], "checkpoints: no checkpoint '7'; there are last, best, 1."),
        (["--split", "test"], "no split 'test'"),
        (["--set", "model.paths=plain"], "--set model.paths=plain: the network is trained; only"),
        (["--set", "mining.paths=plane"], "mining.paths is ('plane',); choose"),
        (["--devices", "9"], "--devices 9: there are only 4 cpu devices"),
    ],
)
def test_wrong_arguments(export, tmp_path, arguments, named):
    assert named in export("--output", tmp_path / "labels", *arguments).error
    assert_nothing_is_written(tmp_path)


def test_a_path_the_network_was_trained_without(export, rooms, tmp_path):
    write_network(tmp_path / "run", rooms, "cls", "model.paths=plain")
    arguments = ("--workdir", tmp_path / "run", "--output", tmp_path / "labels")
    error = export(*arguments, "--set", "mining.paths=spatial").error
    assert error.startswith("mining.paths: the network has no path 'spatial'; it was trained with")
    assert_nothing_is_written(tmp_path)


def test_a_folder_that_holds_another_export(export, rooms, tmp_path):
    labels = write_export(tmp_path / "labels", rooms, pseudo_labels(rooms))
    before = sorted(path.name for path in labels.iterdir())
    assert "of another export" in export("--output", labels).error
    assert before == sorted(path.name for path in labels.iterdir())
