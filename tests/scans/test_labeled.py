"""Labeled clouds are read back as they were, in every format, and bad labels write nothing."""

import numpy as np
import pytest
from cloud_files import COLORS, COORDS, FACES
from plyfile import PlyData

from mprm_jax.scans.formats import labeled as module
from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.scans.formats.labeled import WRITERS, LabeledCloud, color_by_class, write_labeled

LABELS = np.array([0, 2, -1, 1])
CONFIDENCE = np.array([0.25, 1, 0, 1 / 3], np.float32)
CLASSES = ("wall", "floor", "Tür")
FAR = COORDS + np.array([431234.123456, 5412345.1, 0.7])  # needs more than float32


def cloud(coords=COORDS, colors=COLORS, faces=None):
    """A cloud as a reader gives it, with labels of its own."""
    return CloudFile(np.float64(coords), colors, np.full(len(coords), 7), faces, "label")


def labeled(**changes):
    return LabeledCloud(cloud(), LABELS, CONFIDENCE, CLASSES)._replace(**changes)


@pytest.fixture(params=[1, 3, 1 << 19])
def chunk(request, monkeypatch):
    """However many points are written at a time."""
    monkeypatch.setattr(module, "CHUNK", request.param)


@pytest.mark.parametrize("coords", [COORDS, FAR], ids=["near", "far"])
@pytest.mark.parametrize("colors", [COLORS, COLORS // 200, None], ids=["colors", "dark", "none"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_what_is_written_is_read_back(tmp_path, suffix, colors, coords, chunk):
    path = tmp_path / f"a{suffix}"
    write_labeled(path, labeled(cloud=cloud(coords, colors)))
    found = read_cloud(path)
    if suffix in (".las", ".laz"):
        np.testing.assert_allclose(found.coords, coords, rtol=0, atol=0.51e-6)  # half a step
    else:
        np.testing.assert_array_equal(found.coords, coords)
    if colors is None:
        assert found.colors is None
    else:
        np.testing.assert_array_equal(found.colors, colors)
    np.testing.assert_array_equal(found.labels, LABELS)
    assert found.label_name == "label"


@pytest.mark.parametrize("suffix", [".ply", ".npz"])
def test_a_mesh_keeps_its_faces(tmp_path, suffix, chunk):
    write_labeled(tmp_path / f"a{suffix}", labeled(cloud=cloud(faces=FACES)))
    found = read_cloud(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found.faces, FACES)
    np.testing.assert_array_equal(found.coords, COORDS)


@pytest.mark.parametrize("suffix", WRITERS)
def test_normals_are_read_back(tmp_path, suffix, chunk):
    normals = np.array([[0, 0, 1], [0.6, 0, 0.8], [0, 0, 0], [0, -1, 0]], np.float32)
    write_labeled(tmp_path / f"a{suffix}", labeled(cloud=cloud()._replace(normals=normals)))
    found = read_cloud(tmp_path / f"a{suffix}")
    # They are scaled to length 1 again: rounding of float32.
    np.testing.assert_allclose(found.normals, normals, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(found.colors, COLORS)
    np.testing.assert_array_equal(found.labels, LABELS)


@pytest.mark.parametrize(("coords", "kind"), [(COORDS, "f4"), (FAR, "f8")])
def test_coordinates_are_as_wide_as_they_must_be(tmp_path, coords, kind):
    for suffix in (".ply", ".npy", ".npz"):
        write_labeled(tmp_path / f"a{suffix}", labeled(cloud=cloud(coords)))
    assert PlyData.read(tmp_path / "a.ply")["vertex"]["x"].dtype == kind
    assert np.load(tmp_path / "a.npy")["x"].dtype == kind
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["coord"].dtype == kind


def test_confidence_is_float32_everywhere(tmp_path):
    for suffix in (".ply", ".npy", ".npz"):
        write_labeled(tmp_path / f"a{suffix}", labeled(confidence=CONFIDENCE.astype(np.float64)))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        found = [arrays["confidence"], np.load(tmp_path / "a.npy")["confidence"]]
        assert arrays["classes"].tolist() == list(CLASSES)
    found.append(np.asarray(PlyData.read(tmp_path / "a.ply")["vertex"]["confidence"]))
    for confidence in found:
        assert confidence.dtype == np.float32
        np.testing.assert_array_equal(confidence, CONFIDENCE)


def test_missing_pixels_of_a_depth_frame_stay(tmp_path):
    coords = np.where(np.arange(4)[:, None] == 1, np.nan, COORDS)
    write_labeled(tmp_path / "a.ply", labeled(cloud=cloud(coords)))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.ply").coords, coords)


def test_the_colors_of_classes_can_take_the_place_of_the_scans(tmp_path):
    write_labeled(tmp_path / "a.ply", color_by_class(labeled()))
    found = read_cloud(tmp_path / "a.ply")
    legend = (tmp_path / "a.classes.csv").read_text(encoding="utf-8").splitlines()[1:]
    names = ("wall", "Tür", "unlabeled", "floor")
    for color, name in zip(found.colors.tolist(), names, strict=True):
        line = next(line for line in legend if f",{name}," in line)
        assert line.endswith(",".join(map(str, color)))
    np.testing.assert_array_equal(found.labels, LABELS)


def test_unsigned_labels_are_fine(tmp_path):
    labels = np.array([0, 2, 1, 1], np.uint8)
    for suffix in WRITERS:
        write_labeled(tmp_path / f"a{suffix}", labeled(labels=labels))
        np.testing.assert_array_equal(read_cloud(tmp_path / f"a{suffix}").labels, labels)


BAD = {
    "too few labels": ({"labels": LABELS[:3]}, r"labels of shape \[3\] for 4 points; give"),
    "a column": ({"confidence": CONFIDENCE[:, None]}, r"confidences of shape \[4, 1\] for 4"),
    "a class too high": ({"labels": LABELS + 1}, "label 3 is no index of 3 classes; give"),
    "255 for none": ({"labels": LABELS.astype(np.uint8)}, "label 255 is no index of 3"),
    "floats": ({"labels": LABELS * 1.0}, "label float64 is no index"),
    "not finite": ({"confidence": CONFIDENCE * np.nan}, r"confidence nan is not in \[0, 1\]; give"),
    "per cent": ({"confidence": CONFIDENCE * 100}, r"confidence 25.0 is not in \[0, 1\]"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("suffix", [".ply", ".las"])
def test_bad_labels_write_nothing(tmp_path, suffix, changes, message):
    with pytest.raises(ValueError, match=rf"a{suffix}: {message}") as error:
        write_labeled(tmp_path / f"a{suffix}", labeled(**changes))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"a\.pcd: labels cannot be written as '\.pcd'; .*\.laz"):
        write_labeled(tmp_path / "a.pcd", labeled())


def test_the_scan_itself_is_never_overwritten(tmp_path):
    path = tmp_path / "a.ply"
    write_labeled(path, labeled())
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"a\.ply: is the scan itself; write to another place"):
        write_labeled(path, labeled(labels=np.zeros(4, int)), source=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_failed_write_leaves_the_old_file(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a{suffix}"
    write_labeled(path, labeled())
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(module, "write_legend", full)
    with pytest.raises(OSError, match=rf"a{suffix}: cannot be written \(disk full\)"):
        write_labeled(path, labeled(labels=np.zeros(4, int)))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
