"""Submissions to the ScanNet benchmark are whole and right, or not there."""

import types
import zipfile

import numpy as np
import pytest

from mprm_jax.evaluation.submission import check_submission, vertex_counts, write_submission
from mprm_jax.scans.scannet import CLASSES, NYU40_IDS, official_split
from mprm_jax.writing import FailedWriteError

COUNTS = {"scene0707_00": 20, "scene0708_00": 3}
LABELS = {"scene0707_00": np.arange(20), "scene0708_00": np.array([19, 0, 19], np.uint8)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "submission.zip"


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def texts():
    """What the files of LABELS must hold."""
    ids = "".join(f"{nyu40}\n" for nyu40 in NYU40_IDS)
    return {"scene0707_00.txt": ids, "scene0708_00.txt": "39\n1\n39\n"}


def test_the_archive_holds_one_nyu40_id_a_vertex_at_its_root(path):
    write_submission(path, LABELS, COUNTS)
    with zipfile.ZipFile(path) as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == texts()
    check_submission(path, COUNTS)


def test_equal_labels_give_equal_bytes(path, tmp_path):
    write_submission(path, LABELS, COUNTS)
    write_submission(tmp_path / "b.zip", dict(reversed(LABELS.items())), COUNTS)
    assert path.read_bytes() == (tmp_path / "b.zip").read_bytes()


BAD_LABELS = {
    "a scan is missing": ({"scene0708_00": None}, "scene0708_00 missing; predict exactly"),
    "a scan too many": ({"scene0001_00": np.zeros(1, int)}, "scene0001_00 unexpected; predict"),
    "a vertex is missing": (
        {"scene0708_00": np.zeros(2, int)},
        r"scene0708_00: labels of shape \[2\] for 3 mesh vertices; spread",
    ),
    "a column": ({"scene0708_00": np.zeros((3, 1), int)}, r"labels of shape \[3, 1\] for 3"),
    "no label": ({"scene0708_00": np.array([0, -1, 1])}, "1 of 3 vertices have no label; predict"),
    "nyu40 ids": ({"scene0708_00": np.array([1, 39, 1])}, r"39 is no class index; .*not NYU40"),
    "floats": ({"scene0708_00": np.zeros(3)}, r"float64 is no class index; give integers"),
}


@pytest.mark.parametrize(("change", "message"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_nothing_is_written_when_labels_are_wrong(path, change, message):
    labels = {name: array for name, array in (LABELS | change).items() if array is not None}
    with pytest.raises(ValueError, match=rf"submission\.zip: .*{message}") as error:
        write_submission(path, labels, COUNTS)
    assert "\n" not in str(error.value)
    assert not list(path.parent.iterdir())


def test_an_older_archive_survives_a_failed_write(path, monkeypatch):
    write_submission(path, LABELS, COUNTS)
    old = path.read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(FailedWriteError, match=r"submission\.zip: cannot be written \(disk full\)"):
        write_submission(path, LABELS, COUNTS)
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


BAD_TEXTS = {
    "line missing": ({"scene0708_00.txt": "1\n1\n"}, "scene0708_00.txt: 2 lines for 3 mesh"),
    "an empty file": ({"scene0708_00.txt": ""}, "scene0708_00.txt: 0 lines for 3 mesh"),
    "an id outside": ({"scene0708_00.txt": "1\n13\n40\n"}, "line 2 is '13'; write one NYU40 id"),
    "unannotated": ({"scene0708_00.txt": "1\n1\n0\n"}, "line 3 is '0'; write"),
    "two on a line": ({"scene0708_00.txt": "1 1\n1\n1\n"}, "line 1 is '1 1'; write"),
    "a blank line": ({"scene0708_00.txt": "1\n\n1\n"}, "line 2 is ''; write"),
    "a float": ({"scene0708_00.txt": "1\n1.0\n1\n"}, "line 2 is '1.0'; write"),
    "not text": ({"scene0708_00.txt": b"\xff\n1\n1\n"}, "line 1 is "),
    "a missing scan": ({"scene0708_00.txt": None}, "scene0708_00.txt missing; zip"),
    "a stranger": ({"__MACOSX/._x": ""}, "__MACOSX/._x unexpected; zip the text files"),
    "a folder": (
        {"a/scene0708_00.txt": "1\n1\n1\n", "scene0708_00.txt": None},
        "a/scene0708_00.txt unexpected; .*without a folder around them",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_archives_with_mistakes_are_refused(path, change, message):
    write_zip(path, {k: v for k, v in (texts() | change).items() if v is not None})
    with pytest.raises(ValueError, match=rf"submission\.zip: .*{message}") as error:
        check_submission(path, COUNTS)
    assert "\n" not in str(error.value)


def test_windows_line_ends_and_no_last_line_end_are_fine(path):
    write_zip(path, texts() | {"scene0708_00.txt": "1\r\n39\r\n39"})
    check_submission(path, COUNTS)


def test_a_file_that_is_there_twice_is_refused(path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_zip(path, texts())
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("scene0708_00.txt", "1\n1\n1\n")
    with pytest.raises(ValueError, match=r"scene0708_00\.txt there twice; zip"):
        check_submission(path, COUNTS)


def cut(data):
    return data[:-30]


def flip(data):
    return data[:60] + bytes([data[60] ^ 255]) + data[61:]


@pytest.mark.parametrize("damage", [cut, flip, lambda data: b"1\n"])
def test_a_damaged_archive_is_one_line(path, damage):
    write_submission(path, LABELS, COUNTS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"submission\.zip: not a readable ZIP .* write it again"):
        check_submission(path, COUNTS)


def test_a_missing_archive_is_one_line(path):
    with pytest.raises(FileNotFoundError, match=r"submission\.zip: no such file; write"):
        check_submission(path, COUNTS)


class Store:
    """The parts of a scene store that say how many vertices a scan has."""

    path = "store"
    splits = ("train", "test")

    def __init__(self, counts, classes=CLASSES):
        self.counts, self.classes = counts, classes

    def scenes(self, split):
        return tuple(self.counts) if split == "test" else ()

    def info(self, split, scene):
        return types.SimpleNamespace(points=self.counts[scene])


def test_the_benchmark_wants_its_own_hundred_scans():
    counts = {scene: i for i, scene in enumerate(official_split("test"))}
    assert vertex_counts(Store(counts)) == counts
    assert len(counts) == 100
    del counts["scene0707_00"], counts["scene0800_00"]
    with pytest.raises(ValueError, match="store: scene0707_00 and 1 more missing; prepare all"):
        vertex_counts(Store(counts))


def test_other_test_scans_can_be_named():
    assert vertex_counts(Store({"a": 3}), ["a"]) == {"a": 3}
    with pytest.raises(ValueError, match="store: b unexpected; prepare"):
        vertex_counts(Store({"a": 3, "b": 1}), ["a"])


def test_other_classes_cannot_be_submitted():
    with pytest.raises(ValueError, match="store: not of ScanNet's 20 classes; the benchmark"):
        vertex_counts(Store({"a": 3}, ("wall", "floor")), ["a"])


def test_an_encrypted_archive_is_one_line(path):
    write_submission(path, LABELS, COUNTS)
    data = path.read_bytes()
    central = data.index(b"PK\x01\x02")
    flagged = data[: central + 8] + b"\x01" + data[central + 9 :]
    path.write_bytes(flagged[:6] + b"\x01" + flagged[7:])
    with pytest.raises(
        ValueError, match=r"submission\.zip: not a readable .*encrypted.* write it again"
    ):
        check_submission(path, COUNTS)
