"""`predict.py`: any cloud in, labels for each of its points out; bad clouds end in one line."""

import csv
import json
import shutil

import jax
import laspy
import numpy as np
import pytest
from cloud_files import write_ply
from fake_source import CLASSES, FakeSource, box_room
from networks import write_network
from plyfile import PlyData
from prepared import CONFIG, make_store

from mprm_jax.commands import predict
from mprm_jax.errors import UserError
from mprm_jax.prediction import files as predicting_run
from mprm_jax.scans.formats import READERS, read_cloud
from mprm_jax.scans.formats.labeled import WRITERS
from mprm_jax.store.prepare import prepare

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("same_process_afterwards")]

NUM_POINTS = 600


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def workdir(store, tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("run") / "run", store, "seg")


@pytest.fixture(scope="module")
def colorless(tmp_path_factory):
    """A run on scans without colors."""
    path = tmp_path_factory.mktemp("colorless")
    scans = FakeSource(path / "scans", {"train/a": box_room()._replace(colors=None)})
    store = prepare(scans, path / "store", CONFIG.data, workers=0).store
    return write_network(path / "run", store, "seg", has_colors=False)


@pytest.fixture
def labeled(script, workdir, tmp_path):
    """Labels scans with the network, writing to `out`."""

    def labeled(scans, *arguments):
        given = ("--workdir", workdir, "--output", tmp_path / "out", "--devices", 4)
        return script(predict.main, scans, *given, *arguments)

    return labeled


def points():
    """Coordinates on a grid of a tenth of a millimeter, which all formats keep, and colors."""
    rng = np.random.default_rng(0)
    return np.round(rng.uniform(0, 2, (NUM_POINTS, 3)), 4), rng.integers(0, 256, (NUM_POINTS, 3))


def write_cloud(path, coords, colors=None):
    """Writes a cloud without labels in the format of the suffix."""
    colored = colors is not None
    names = [*"xyz", *(("red", "green", "blue") if colored else ())]
    columns = [*coords.T, *(colors.T if colored else ())]
    kinds = ["<f8"] * 3 + ["u1"] * 3 * colored
    records = np.rec.fromarrays(columns, dtype=list(zip(names, kinds, strict=True)))
    table = np.stack(columns, axis=1)
    if path.suffix in (".las", ".laz"):
        las = laspy.LasData(laspy.LasHeader(point_format=7 if colored else 6, version="1.4"))
        las.header.scales = [1e-4] * 3
        las.x, las.y, las.z = coords.T
        if colored:
            las.red, las.green, las.blue = 257 * colors.T.astype(np.uint16)
        las.write(path)
    elif path.suffix == ".pcd":
        write_pcd(path, coords, colors)
    elif path.suffix == ".npz":
        np.savez(path, xyz=coords, **({"rgb": colors.astype(np.uint8)} if colored else {}))
    elif path.suffix == ".npy":
        np.save(path, table)
    elif path.suffix == ".ply":
        write_ply(path, np.array(records))
    else:
        header = ",".join(names) if path.suffix == ".csv" else ""
        delimiter = "," if path.suffix == ".csv" else " "
        np.savetxt(path, table, "%.4f", delimiter, header=header, comments="")
    return path


def write_pcd(path, coords, colors):
    packed = (colors.astype(np.uint32) * np.array([1 << 16, 1 << 8, 1], np.uint32)).sum(axis=1)
    header = "VERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\n"
    header += f"WIDTH {NUM_POINTS}\nHEIGHT 1\nPOINTS {NUM_POINTS}\nDATA ascii"
    table = np.concatenate([coords, packed[:, None]], axis=1)
    np.savetxt(path, table, ("%.4f", "%.4f", "%.4f", "%d"), header=header, comments="")


def answers(path):
    """Labels and confidences of a file that was written."""
    labels = read_cloud(path).labels
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return labels, arrays["confidence"]
    if path.suffix == ".npy":
        return labels, np.load(path)["confidence"]
    if path.suffix in (".las", ".laz"):
        return labels, np.asarray(laspy.read(path)["confidence"])
    return labels, np.asarray(PlyData.read(path)["vertex"]["confidence"])


def legend(path):
    with path.with_suffix(".classes.csv").open(newline="") as file:
        return [row["name"] for row in csv.DictReader(file)]


def test_a_folder_of_every_format_has_the_same_labels_in_each(labeled, tmp_path):
    (tmp_path / "scans" / "floor1").mkdir(parents=True)
    for suffix in READERS:
        name = f"floor1/a_{suffix[1:]}{suffix}"
        write_cloud(tmp_path / "scans" / name, *points())
    ended = labeled(tmp_path / "scans", "--json")
    assert ended.status == 0, ended.err
    values = json.loads(ended.out)
    assert values["made_by"]["mprm_jax"]
    assert values["points"] == NUM_POINTS * len(READERS) and values["points_per_second"] > 0
    found = {}
    for suffix in READERS:
        written = suffix if suffix in WRITERS else ".ply"
        path = tmp_path / "out" / "floor1" / f"a_{suffix[1:]}{written}"
        found[suffix], confidence = answers(path)
        np.testing.assert_allclose(read_cloud(path).coords, points()[0], atol=1e-6)
        np.testing.assert_array_equal(read_cloud(path).colors, points()[1])
        assert found[suffix].shape == confidence.shape == (NUM_POINTS,)
        assert np.all((confidence > 0) & (confidence <= 1))
        assert legend(path) == [*CLASSES, "unlabeled"]
    # PCD keeps float32: a point on the border of two voxels may change sides.
    for suffix, labels in found.items():
        assert np.mean(labels == found[".ply"]) > 0.99, suffix


@pytest.mark.parametrize("suffix", WRITERS)
def test_each_output_format_holds_every_point(labeled, tmp_path, suffix):
    scan = write_cloud(tmp_path / "office.txt", *points())
    ended = labeled(scan, "--format", suffix[1:], "--colored")
    assert ended.status == 0, ended.err
    assert f"{scan} -> {tmp_path / 'out' / f'office{suffix}'}" in ended.out
    assert "points/s" in ended.out and "votes 1, not augmented" in ended.out
    labels, confidence = answers(tmp_path / "out" / f"office{suffix}")
    assert len(labels) == len(confidence) == NUM_POINTS and labels.min() >= 0
    colored = read_cloud(tmp_path / "out" / "office.colored.ply")
    assert len(np.unique(colored.colors, axis=0)) == len(np.unique(labels))


def test_only_the_scan_is_read_and_the_store_may_be_gone(labeled, workdir, tmp_path):
    scan = write_cloud(tmp_path / "a.ply", *points())
    assert labeled(scan).status == 0
    expected, _ = answers(tmp_path / "out" / "a.ply")
    moved = shutil.copytree(workdir, tmp_path / "run")
    values = json.loads((moved / "data.json").read_text())
    (moved / "data.json").write_text(json.dumps(values | {"store": str(tmp_path / "gone")}))
    ended = labeled(scan, "--workdir", moved)
    assert ended.status == 0, ended.err
    np.testing.assert_array_equal(answers(tmp_path / "out" / "a.ply")[0], expected)


def test_a_network_without_colors_labels_clouds_with_and_without(labeled, colorless, tmp_path):
    (tmp_path / "scans").mkdir()
    write_cloud(tmp_path / "scans" / "bare.xyz", points()[0])
    write_cloud(tmp_path / "scans" / "red.xyz", *points())
    ended = labeled(tmp_path / "scans", "--workdir", colorless)
    assert ended.status == 0 and "its colors do not count" in ended.err, ended.err
    bare, red = (answers(tmp_path / "out" / f"{name}.ply")[0] for name in ("bare", "red"))
    np.testing.assert_array_equal(bare, red)


def test_points_without_a_position_have_no_label(labeled, tmp_path):
    coords, colors = points()
    coords[7] = np.nan
    ended = labeled(write_cloud(tmp_path / "a.npz", coords, colors))
    assert ended.status == 0 and "1 points have no position and no label" in ended.out
    labels, confidence = answers(tmp_path / "out" / "a.npz")
    assert (labels[7], confidence[7]) == (-1, 0) and np.delete(labels, 7).min() >= 0


@pytest.fixture
def error(labeled, tmp_path):
    """The one line with which a prediction ends that writes nothing."""

    def error(scans, *arguments):
        ended = labeled(scans, *arguments)
        assert not ended.out and not (tmp_path / "out").exists()
        return ended.error

    return error


@pytest.mark.parametrize("suffix", READERS)
def test_an_empty_or_cut_cloud(error, tmp_path, suffix):
    scan = tmp_path / f"a{suffix}"
    scan.write_bytes(b"")
    assert error(scan) == f"{scan}: the file is empty; export it again."
    write_cloud(scan, *points())
    scan.write_bytes(scan.read_bytes()[: scan.stat().st_size // 2].rsplit(b" ", 1)[0])
    assert error(scan).startswith(f"{scan}: ")


def test_a_cloud_without_points_or_without_colors(error, tmp_path):
    scan = write_cloud(tmp_path / "a.npz", np.zeros((0, 3)))
    assert error(scan) == f"{scan}: the file holds no points; export it again."
    scan = write_cloud(tmp_path / "b.npz", points()[0])
    assert error(scan).startswith(f"{scan}: no colors, but the network was trained with them;")


def test_scans_that_are_not_there_or_of_no_format(error, tmp_path):
    assert error(tmp_path / "a.ply").startswith(f"{tmp_path / 'a.ply'}: no such file or folder;")
    (tmp_path / "a.obj").write_text("v 0 0 0\n")
    assert "unknown format '.obj'; convert" in error(tmp_path / "a.obj")
    (tmp_path / "scans").mkdir()
    assert error(tmp_path / "scans").startswith(f"{tmp_path / 'scans'}: no scans; put some")


def test_one_bad_scan_of_a_folder_is_left_out_and_named(labeled, tmp_path):
    (tmp_path / "scans").mkdir()
    write_cloud(tmp_path / "scans" / "good.ply", *points())
    (tmp_path / "scans" / "bad.ply").write_bytes(b"ply\n")
    ended = labeled(tmp_path / "scans")
    bad = tmp_path / "scans" / "bad.ply"
    assert ended.status == 2 and "Traceback" not in ended.err
    assert f"error: 1 scans left out, the first: {bad}: not a readable PLY" in ended.err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["good.classes.csv", "good.ply"]


@pytest.fixture
def many(tmp_path):
    """A folder with one good scan, between others that a test may spoil."""
    for name in ("a", "good", "z"):
        (tmp_path / "scans").mkdir(exist_ok=True)
        write_cloud(tmp_path / "scans" / f"{name}.ply", *points())
    return tmp_path / "scans"


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (UserError("a.ply: 3 points but 4 labels; export it again."), "a.ply: 3 points but 4"),
        (MemoryError("Unable to allocate 9 TiB"), "not enough memory (Unable to allocate 9 TiB)"),
        (OverflowError("300 does not fit a byte"), "OverflowError: 300 does not fit a byte"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory."),
            "the memory of the device is too small (RESOURCE_EXHAUSTED: Out of memory.)",
        ),
    ],
)
@pytest.mark.parametrize("step", ["load_scan", "write_labeled"])
def test_whatever_happens_to_a_scan_the_others_are_done(
    labeled, many, tmp_path, monkeypatch, step, error, named
):
    works = getattr(predicting_run, step)

    def fails_for_a(path, *arguments, **more):
        if path.name == "a.ply":
            raise error
        return works(path, *arguments, **more)

    monkeypatch.setattr(predicting_run, step, fails_for_a)
    ended = labeled(many)
    assert ended.status == 2 and "Traceback" not in ended.err
    (line,) = [line for line in ended.out.splitlines() if line.startswith("left out: ")]
    assert str(many / "a.ply") in line and named in line
    assert f"error: 1 scans left out, the first: {named}" in ended.err
    assert {path.name for path in (tmp_path / "out").glob("*.ply")} == {"good.ply", "z.ply"}


def test_a_bug_is_not_taken_for_a_bad_scan(labeled, many, monkeypatch):
    def load(*_, **__):
        raise IndexError("bug")

    monkeypatch.setattr(predicting_run, "load_scan", load)
    with pytest.raises(IndexError, match="bug"):
        labeled(many)


def test_scans_whose_labels_cannot_be_written_are_left_out(labeled, many, tmp_path):
    (tmp_path / "out" / "a.ply").mkdir(parents=True)  # a folder in the way
    (tmp_path / "out" / "z.ply").write_text("mine")
    write_cloud(many / f"{'n' * 247}.ply", *points())  # its legend has no room for its suffix
    write_cloud(many / "good.xyz", *points())
    write_cloud(many / "w.ply", *points())
    ended = labeled(many)
    assert ended.status == 2 and "Traceback" not in ended.err
    assert f"{tmp_path / 'out' / 'a.ply'}: cannot be written (a folder of that name" in ended.out
    assert "z.ply: exists and is no earlier prediction" in ended.out
    assert "cannot be written (File name too long); shorten the name, then run" in ended.out
    assert ended.out.count("would hold two predictions; rename one of the scans") == 2
    assert "error: 5 scans left out, the first: " in ended.err
    assert (tmp_path / "out" / "z.ply").read_text() == "mine"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("a.ply", "z.ply", "w.ply", "w.classes.csv")
    }


def test_a_read_only_output_is_one_line(error, many, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    message = error(many)
    assert message == (
        f"{tmp_path / 'out' / '*'}: cannot be written ({tmp_path} is not writable); "
        "choose another place."
    )


def test_names_and_places_of_any_alphabet(labeled, tmp_path):
    folder = tmp_path / "Vermessung Büro" / "测量"
    folder.mkdir(parents=True)
    write_cloud(folder / "große Säule.ply", *points())
    assert labeled(tmp_path / "Vermessung Büro").status == 0
    assert (tmp_path / "out" / "测量" / "große Säule.ply").is_file()


def test_no_scan_and_no_other_file_is_overwritten(error, tmp_path):
    scan = write_cloud(tmp_path / "a.ply", *points())
    before = scan.read_bytes()
    assert "is a scan itself; choose another" in error(scan, "--output", tmp_path)
    (tmp_path / "b.npy").write_text("mine")
    other = write_cloud(tmp_path / "b.xyz", *points())
    message = error(other, "--output", tmp_path, "--format", "npy")
    assert message.startswith(f"{tmp_path / 'b.npy'}: exists and is no earlier prediction; choose")
    assert (tmp_path / "b.npy").read_text() == "mine"
    assert scan.read_bytes() == before


def test_bad_runs(error, store, workdir, tmp_path):
    scan = write_cloud(tmp_path / "a.ply", *points())
    missing = error(scan, "--workdir", tmp_path / "nowhere")
    assert missing.startswith(f"{tmp_path / 'nowhere'}: not the work directory of a run; give the")
    shutil.copytree(workdir, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    assert "checkpoints: no checkpoint; train first" in error(scan, "--workdir", tmp_path / "run")
    write_network(tmp_path / "cls", store, "cls")
    other = error(scan, "--workdir", tmp_path / "cls")
    assert "a run of stage cls, needed is one of stage seg; give another --workdir" in other


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--votes", "0"], "votes is 0; give 1 or more"),
        (["--scale", "0"], "--scale 0.0: give meters per unit of the scan, above 0"),
        (["--format", "obj"], "argument --format: invalid choice: 'obj'"),
        (["--checkpoint", "9"], "no checkpoint '9'; there are last, best, 1"),
    ],
)
def test_wrong_arguments(error, tmp_path, arguments, named):
    assert named in error(write_cloud(tmp_path / "a.ply", *points()), *arguments)


def test_what_is_taken_for_granted_is_said_once_and_black_scans_each_time(labeled, tmp_path):
    (tmp_path / "scans").mkdir()
    coords, colors = points()
    for name, factor in (("a", 1), ("b", 1), ("c", 0), ("d", 0)):
        write_cloud(tmp_path / "scans" / f"{name}.txt", coords, colors * factor)
        write_cloud(tmp_path / "scans" / f"las_{name}.las", coords, colors * factor)
    ended = labeled(tmp_path / "scans")
    assert ended.status == 0
    assert "a unit of the scans is taken for 1 m (--scale)" in ended.err
    for line in ("taken for 8 bits", "taken for 16 bits", "taken for x y z red green blue"):
        assert ended.err.count(line) == 1
    assert ended.err.count("all colors are 0, as if the scan had none") == 4


def test_a_las_scan_with_a_header_beyond_ascii_is_labeled_like_others(labeled, tmp_path):
    scan = write_cloud(tmp_path / "scan.las", *points())
    content = bytearray(scan.read_bytes())
    content[58:66] = b"Gr\xfcn 1.0"  # the software
    scan.write_bytes(content)
    assert labeled(scan).status == 0
    assert (answers(tmp_path / "out" / "scan.las")[0] >= 0).all()
    assert b"Gr\xfcn 1.0" in (tmp_path / "out" / "scan.las").read_bytes()
