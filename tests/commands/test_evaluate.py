"""`evaluate.py`: numbers by the rules of the benchmarks, tags kept apart, and what it refuses."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from fake_source import FakeSource, box_room
from label_exports import pseudo_labels, write_export
from networks import write_network
from plyfile import PlyData
from prepared import CONFIG, make_store

from mprm_jax.commands import evaluate
from mprm_jax.overrides import override
from mprm_jax.scans.scannet import NYU40_IDS
from mprm_jax.store.datasets import ensure_store
from mprm_jax.store.prepare import prepare
from mprm_jax.store.truth import point_labels, voxel_labels

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("same_process_afterwards")]

BOX_COLUMNS = ["points without tags", "voxels without tags", "points with tags", "voxels with tags"]


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """Two classes of box rooms too few to be ScanNet's; splits train and val."""
    return make_store(tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="module")
def box_run(boxes, tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("run") / "run", boxes, "seg")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Rooms in ScanNet's layout: (folder of the scans, store)."""
    root = tmp_path_factory.mktemp("rooms")
    config = override(CONFIG, ["data.voxel_size=0.16"])
    store = ensure_store("rooms:tiny", config, root / "store", rooms_root=root / "rooms", workers=0)
    return root / "rooms" / "tiny", store


@pytest.fixture(scope="module")
def rooms_run(rooms, tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("run") / "run", rooms[1], "seg")


@pytest.fixture
def measured(script, tmp_path):
    """Runs the script, which has to end well, and returns what it printed and wrote as JSON."""

    def measured(*arguments):
        ended = script(evaluate.main, *arguments, "--output", tmp_path / "new" / "result.json")
        assert ended.status == 0, ended.err
        return ended.out, json.loads((tmp_path / "new" / "result.json").read_text())

    return measured


def naive_ious(pairs, num_classes):
    """Of (truth, label) arrays of all scenes; None where a class is in neither."""
    truth, label = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    truth, label = truth[truth >= 0], label[truth >= 0]
    ious = []
    for number in range(num_classes):
        union = np.sum((truth == number) | (label == number))
        hits = np.sum((truth == number) & (label == number))
        ious.append(round(100 * float(hits / union), 2) if union else None)
    return ious


def test_a_network_is_measured_on_points_and_voxels_with_and_without_tags(
    boxes, box_run, measured, tmp_path
):
    given = ("--tags", "--picture", tmp_path / "new" / "val.png", "--devices", 4)
    text, values = measured("--workdir", box_run, *given)
    assert list(values["columns"]) == BOX_COLUMNS
    assert "rules of all points" in text and "votes 1, not augmented" in text
    assert [name for name in BOX_COLUMNS if name in text] == BOX_COLUMNS
    (scene,) = boxes.scenes("val")
    for column, truth in (("points", point_labels), ("voxels", voxel_labels)):
        annotated = int(np.sum(truth(boxes, "val", scene) >= 0))
        for tags in ("with tags", "without tags"):
            assert values["columns"][f"{column} {tags}"]["num_points"] == annotated
    assert (tmp_path / "new" / "val.png").read_bytes().startswith(b"\x89PNG")


def test_without_the_flag_no_number_was_reached_with_tags(box_run, measured):
    text, values = measured("--workdir", box_run)
    assert list(values["columns"]) == BOX_COLUMNS[:2] and "with tags" not in text


def test_votes_and_motion_are_named_in_the_result(box_run, measured):
    text, values = measured("--workdir", box_run, "--votes", 2, "--augment")
    assert (values["votes"], values["augmented"]) == (2, True)
    assert "votes 2, augmented at random" in text


def test_the_number_of_devices_changes_no_count(box_run, measured):
    one, four = (measured("--workdir", box_run, "--devices", n)[1] for n in (1, 4))
    assert (one.pop("devices"), four.pop("devices")) == ("1 x cpu", "4 x cpu")
    assert one == four


def test_scannet_is_measured_on_the_vertices_of_its_meshes(rooms, rooms_run, measured):
    root, store = rooms
    text, values = measured("--workdir", rooms_run)
    assert "rules of ScanNet" in text and values["rules"] == "ScanNet"
    assert list(values["columns"]) == ["vertices without tags", "voxels without tags"]
    meshes = [root / "scans" / name / f"{name}_vh_clean_2.ply" for name in store.scenes("val")]
    num_vertices = sum(PlyData.read(path)["vertex"].count for path in meshes)
    annotated = [point_labels(store, "val", name) >= 0 for name in store.scenes("val")]
    assert sum(map(len, annotated)) == num_vertices
    assert values["columns"]["vertices without tags"]["num_points"] == sum(map(np.sum, annotated))


def test_pseudo_labels_are_all_with_tags_and_match_the_naive_loop(rooms, measured, tmp_path):
    _, store = rooms
    labels = pseudo_labels(store)
    export = write_export(tmp_path / "labels", store, labels)
    _, values = measured("--labels", export)
    assert list(values["columns"]) == ["vertices with tags", "voxels with tags"]
    spread = {name: labels[name][store.point_voxel("train", name)] for name in labels}
    for column, truth, given in (
        ("vertices with tags", point_labels, spread),
        ("voxels with tags", voxel_labels, labels),
    ):
        pairs = [(truth(store, "train", name), given[name]) for name in labels]
        assert values["columns"][column]["iou"] == naive_ious(pairs, len(store.classes))


def test_a_submission_has_a_known_id_for_every_vertex_of_the_test_scans(
    rooms, rooms_run, script, tmp_path
):
    root, store = rooms
    path = tmp_path / "new" / "submission.zip"
    ended = script(evaluate.main, "--workdir", rooms_run, "--submission", path)
    assert ended.status == 0, ended.err
    assert "vertices of 1 test scans, valid" in ended.out and "benchmark would not" in ended.err
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{name}.txt" for name in store.scenes("test")]
        for name in store.scenes("test"):
            ids = archive.read(f"{name}.txt").decode().split()
            mesh = PlyData.read(root / "scans_test" / name / f"{name}_vh_clean_2.ply")
            assert len(ids) == mesh["vertex"].count
            assert set(map(int, ids)) <= set(NYU40_IDS)


def test_a_submission_of_other_classes_is_refused(box_run, script, tmp_path):
    ended = script(evaluate.main, "--workdir", box_run, "--submission", tmp_path / "a.zip")
    assert "not of ScanNet's 20 classes" in ended.error
    assert not list(tmp_path.iterdir())


@pytest.fixture
def areas(box_run, measured, tmp_path):
    """Six results, as of S3DIS's areas, with counts that differ."""
    _, values = measured("--workdir", box_run)
    paths = []
    for area in range(1, 7):
        columns = {
            name: column | {"confusion": (area * np.array(column["confusion"])).tolist()}
            for name, column in values["columns"].items()
        }
        paths.append(tmp_path / f"area{area}.json")
        paths[-1].write_text(json.dumps(values | {"test_area": area, "columns": columns}))
    return values, paths


def test_six_areas_are_summed_point_by_point(areas, measured):
    one, paths = areas
    text, values = measured("--areas", *reversed(paths))
    assert text.startswith("S3DIS, 6-fold") and values["areas"] == [1, 2, 3, 4, 5, 6]
    for name, column in values["columns"].items():
        assert column["num_points"] == 21 * one["columns"][name]["num_points"]
        assert column["iou"] == one["columns"][name]["iou"]


def test_areas_that_do_not_belong_together_are_refused(areas, script):
    _, paths = areas
    assert "6-fold over areas 1, 2, 3" in script(evaluate.main, "--areas", *paths[:3]).error
    twice = shutil.copy(paths[0], paths[0].with_name("copy.json"))
    assert "one result of each area" in script(evaluate.main, "--areas", *paths, twice).error
    values = json.loads(paths[3].read_text())
    paths[3].write_text(json.dumps(values | {"votes": 9}))
    error = script(evaluate.main, "--areas", *paths).error
    assert error.startswith(f"{paths[3]}: votes differs from {paths[0]}; measure all areas alike")
    paths[3].write_text("[]")
    assert "not a result on S3DIS" in script(evaluate.main, "--areas", *paths).error


def test_one_area_of_s3dis_says_which(tmp_path, measured):
    rooms = {"train/a": box_room(), "val/b": box_room(1)}
    source = FakeSource(tmp_path / "scans", rooms, name="s3dis")
    settings = override(CONFIG, ["data.test_area=3"]).data
    store = prepare(source, tmp_path / "store", settings, workers=0).store
    _, values = measured("--workdir", write_network(tmp_path / "run", store, "seg"))
    assert (values["rules"], values["test_area"]) == ("S3DIS", 3)


@pytest.fixture
def error(script, box_run, tmp_path):
    """The one line with which a run ends that measures nothing and writes nothing."""

    def error(*arguments):
        given = () if {"--labels", "--areas"} & set(arguments) else ("--workdir", box_run)
        ended = script(evaluate.main, *given, *arguments, "--output", tmp_path / "result.json")
        assert not ended.out and not (tmp_path / "result.json").exists()
        return ended.error

    return error


def test_bad_runs(error, boxes, box_run, tmp_path):
    missing = error("--workdir", tmp_path / "nowhere")
    assert missing.startswith(f"{tmp_path / 'nowhere'}: not the work directory of a run; give the")
    shutil.copytree(box_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    assert "checkpoints: no checkpoint; train first" in error("--workdir", tmp_path / "run")
    write_network(tmp_path / "cls", boxes, "cls")
    other = error("--workdir", tmp_path / "cls")
    assert "a run of stage cls, needed is one of stage seg; give another --workdir" in other
    gone = write_network(tmp_path / "gone", boxes, "seg")
    values = json.loads((gone / "data.json").read_text())
    (gone / "data.json").write_text(json.dumps(values | {"store": str(tmp_path / "moved")}))
    assert error("--workdir", gone).endswith("Or say with --store where the scenes are.")


def test_bad_stores(error, rooms, boxes):
    classes = error("--store", rooms[1].path)
    assert "its 20 classes are not the 3 of the network; give another --store" in classes
    assert "no split 'test'" in error("--split", "test")


def test_a_split_without_point_labels(error, boxes, tmp_path):
    blind = shutil.copytree(boxes.path, tmp_path / "store")
    for path in blind.rglob("*segment*.npy"):
        path.unlink()
    assert "no scene of split val has point labels, so there is" in error("--store", blind)


def test_an_export_of_other_data(error, boxes, tmp_path):
    export = write_export(tmp_path / "labels", boxes, pseudo_labels(boxes), fingerprint="old")
    assert error("--labels", export).startswith(f"{export}: made from another version of the data")
    assert "no export.json, so no complete export" in error("--labels", tmp_path)
    moved = write_export(tmp_path / "moved", boxes, pseudo_labels(boxes))
    values = json.loads((moved / "export.json").read_text())
    (moved / "export.json").write_text(json.dumps(values | {"store": "nowhere"}))
    assert error("--labels", moved).endswith("Or say with --store where the scenes are.")
    renamed = write_export(
        tmp_path / "renamed", boxes, pseudo_labels(boxes), classes=("wall", "floor", "chair")
    )
    assert "its 3 classes are not the 3 of" in error("--labels", renamed)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--labels", "x", "--tags"], "--tags is for a network; give it with --workdir"),
        (["--labels", "x", "--split", "test"], "--split is for a network; give it with"),
        (["--submission", "a.zip", "--tags"], "--submission is of the split test without tags"),
        (["--areas", "a.json", "--store", "x"], "--store is of one result; leave it out"),
        (["--votes", "0"], "--votes 0: give 1 or more"),
        (["--checkpoint", "best!"], "no checkpoint 'best!'; there are last, best, 1"),
    ],
)
def test_wrong_arguments(error, arguments, named):
    assert named in error(*arguments)
