"""LAS scans come out with everything they had, to the last bit, and with labels."""

import errno
import io

import laspy
import numpy as np
import pytest
from laspy.vlrs.known import WktCoordinateSystemVlr
from laspy.vlrs.vlrlist import VLRList

from mprm_jax.scans.formats import labeled as labeled_las
from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.scans.formats.labeled import LabeledCloud, write_labeled

NUM_POINTS = 50
CLASSES = tuple(f"a class with a löng name {i}" for i in range(20))
LABELS = np.arange(NUM_POINTS) % 21 - 1
CONFIDENCE = np.linspace(0, 1, NUM_POINTS, dtype=np.float32)
REPLACED = {"label", "confidence", "classification", "scan_angle_rank"}
LIMITS = {"return_number": 5, "number_of_returns": 5, "classification": 31, "scan_angle_rank": 90}
WIDE = ("intensity", "red", "green", "blue", "nir", "user_data", "point_source_id", "gps_time")


def write_scan(path, point_format):
    """Writes a LAS scan in large coordinates, with every dimension of its format and two more."""
    version = "1.2" if point_format < 4 else "1.4"
    header = laspy.LasHeader(point_format=point_format, version=version)
    header.scales, header.offsets = [1e-3, 1e-3, 1e-2], [431234.56, 5412345.0, 12.3]
    scaled = laspy.ExtraBytesParams("amplitude", np.int16, scales=np.array([0.01]), offsets=[3.0])
    header.add_extra_dims([scaled, laspy.ExtraBytesParams("normal", "3f4")])
    header.vlrs.append(WktCoordinateSystemVlr("LOCAL_CS[]"))
    las = laspy.LasData(header)
    rng = np.random.default_rng(point_format)
    las.x, las.y, las.z = (rng.uniform(0, 10, (NUM_POINTS, 3)) + header.offsets).T
    for name in set(las.point_format.standard_dimension_names) - {"X", "Y", "Z"}:
        limit = 255 if name in WIDE else LIMITS.get(name, 1)
        las[name] = rng.integers(0, limit + 1, NUM_POINTS)
    las.normal, las.amplitude = rng.normal(size=(NUM_POINTS, 3)), rng.uniform(0, 9, NUM_POINTS)
    las.write(path)


def labeled(path):
    return LabeledCloud(read_cloud(path), LABELS, CONFIDENCE, CLASSES)


@pytest.fixture(params=[7, 1 << 19])
def chunk(request, monkeypatch):
    """However many points are copied at a time."""
    monkeypatch.setattr(labeled_las, "CHUNK", request.param)


# Without waveforms (4, 5, 9, 10), which the LAZ encoder does not keep whole.
@pytest.mark.parametrize("point_format", [0, 1, 2, 3, 6, 7, 8])
@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_a_las_scan_keeps_all_it_knows(tmp_path, point_format, suffix, chunk):
    source, path = tmp_path / "scan.las", tmp_path / f"out{suffix}"
    write_scan(source, point_format)
    write_labeled(path, labeled(source), source)
    old, new = laspy.read(source), laspy.read(path)
    for name in set(old.point_format.dimension_names) - REPLACED:
        np.testing.assert_array_equal(np.asarray(new[name]), np.asarray(old[name]), name)
    np.testing.assert_array_equal(new.header.scales, old.header.scales)
    np.testing.assert_array_equal(new.header.offsets, old.header.offsets)
    np.testing.assert_array_equal(new.header.mins, old.header.mins)
    assert new.header.vlrs.get("WktCoordinateSystemVlr")[0].string == "LOCAL_CS[]"
    if point_format < 6:
        angle = np.asarray(new.scan_angle) * 0.006
        np.testing.assert_allclose(angle, old.scan_angle_rank, atol=0.003)  # half its unit


@pytest.mark.parametrize("point_format", [2, 7])
def test_coordinates_and_colors_are_read_back_bit_by_bit(tmp_path, point_format):
    source, path = tmp_path / "scan.las", tmp_path / "out.laz"
    write_scan(source, point_format)
    write_labeled(path, labeled(source), source)
    old, new = read_cloud(source), read_cloud(path)
    np.testing.assert_array_equal(new.coords, old.coords)
    np.testing.assert_array_equal(new.colors, old.colors)
    np.testing.assert_array_equal(new.labels, LABELS)


@pytest.mark.parametrize("copied", [True, False])
def test_labels_are_in_two_dimensions_and_in_codes_of_the_user(tmp_path, copied):
    source, path = tmp_path / "scan.las", tmp_path / "out.las"
    write_scan(source, 2)
    write_labeled(path, labeled(source), source if copied else None)
    las = laspy.read(path)
    np.testing.assert_array_equal(np.asarray(las.label), LABELS)
    np.testing.assert_array_equal(np.asarray(las.confidence), CONFIDENCE)
    assert las["confidence"].dtype == np.float32
    # Codes below 64 belong to the standard; 1 is "unclassified".
    expected = np.where(LABELS < 0, 1, 64 + LABELS)
    np.testing.assert_array_equal(np.asarray(las.classification), expected)
    lookup = las.header.vlrs.get("ClassificationLookupVlr")[0]
    assert lookup[64] == lookup[83] == "a class with a "


def test_a_labeled_scan_can_be_labeled_again(tmp_path):
    first, second = tmp_path / "first.las", tmp_path / "second.las"
    write_scan(tmp_path / "scan.las", 2)
    write_labeled(first, labeled(tmp_path / "scan.las"), tmp_path / "scan.las")
    write_labeled(second, labeled(first)._replace(labels=LABELS[::-1], classes=("a",) * 20), first)
    las = laspy.read(second)
    np.testing.assert_array_equal(np.asarray(las.label), LABELS[::-1])
    names = list(las.point_format.extra_dimension_names)
    assert sorted(names) == ["amplitude", "confidence", "label", "normal"]
    assert [lookup[64] for lookup in las.header.vlrs.get("ClassificationLookupVlr")] == ["a"]


def test_long_records_stay_and_the_octree_of_copc_goes(tmp_path):
    las = laspy.create(point_format=6, file_version="1.4")
    las.x = las.y = las.z = np.arange(NUM_POINTS)
    records = [laspy.VLR(user, number, "", b"12") for number, user in ((1, "mine"), (2, "copc"))]
    las.header.vlrs.extend(records)
    las.evlrs = VLRList(records)
    las.write(tmp_path / "scan.las")
    write_labeled(tmp_path / "out.las", labeled(tmp_path / "scan.las"), tmp_path / "scan.las")
    new = laspy.read(tmp_path / "out.las")
    assert [record.record_data for record in new.evlrs] == [b"12"]
    assert not [record for record in new.header.vlrs if record.user_id == "copc"]
    assert [record for record in new.header.vlrs if record.user_id == "mine"]


def test_a_scan_of_other_length_is_refused(tmp_path):
    write_scan(tmp_path / "scan.las", 2)
    few = labeled(tmp_path / "scan.las")
    few = few._replace(cloud=few.cloud._replace(coords=few.cloud.coords[1:]))
    few = few._replace(labels=LABELS[1:], confidence=CONFIDENCE[1:])
    with pytest.raises(ValueError, match=r"scan\.las: 50 points, but 49 labels for .*; predict"):
        write_labeled(tmp_path / "out.las", few, tmp_path / "scan.las")
    assert not (tmp_path / "out.las").exists()


def cloud_of(coords):
    return CloudFile(np.array(coords, np.float64), None, None, None, None)


def test_missing_positions_are_refused(tmp_path):
    coords = np.full((NUM_POINTS, 3), np.nan)
    bad = LabeledCloud(cloud_of(coords), LABELS, CONFIDENCE, CLASSES)
    with pytest.raises(ValueError, match=r"a\.las: a point has no finite position.*; write \.ply"):
        write_labeled(tmp_path / "a.las", bad)


def test_more_classes_than_codes_are_refused(tmp_path):
    many = LabeledCloud(cloud_of([[0, 0, 0]]), np.zeros(1, int), np.ones(1), ("a",) * 193)
    with pytest.raises(ValueError, match=r"a\.laz: 193 classes, LAS has codes for 192; write"):
        write_labeled(tmp_path / "a.laz", many)
    write_labeled(tmp_path / "a.laz", many._replace(classes=("a",) * 192))


@pytest.mark.parametrize("extent", [1e-7, 1.0, 2147.0, 2148.0, 1e6])
def test_a_cloud_of_any_extent_fits_into_32_bits(tmp_path, extent):
    coords = [[-3.7, 0, 0], [-3.7 + extent, extent / 3, 0]]
    pair = LabeledCloud(cloud_of(coords), np.zeros(2, int), np.ones(2), ("a",))
    write_labeled(tmp_path / "a.las", pair)
    step = laspy.read(tmp_path / "a.las").header.scales[0]
    assert step == 1e-6 or extent / step > 2**31 / 10
    found = read_cloud(tmp_path / "a.las").coords
    np.testing.assert_allclose(found, coords, rtol=0, atol=0.51 * step)


def test_whole_numbers_under_the_name_of_a_label_are_labels(tmp_path):
    """Floats may be anything, and the classification counts only without such a dimension."""
    las = laspy.create(point_format=6, file_version="1.4")
    las.x = las.y = las.z = np.arange(3)
    las.classification = [5, 6, 7]
    las.add_extra_dim(laspy.ExtraBytesParams("segment", np.float32))
    las.segment = [0.5, 1, 2]
    las.write(tmp_path / "floats.las")
    np.testing.assert_array_equal(read_cloud(tmp_path / "floats.las").labels, [5, 6, 7])
    las.add_extra_dim(laspy.ExtraBytesParams("Label", np.uint8))
    las["Label"] = [0, 1, 2]
    las.write(tmp_path / "whole.las")
    np.testing.assert_array_equal(read_cloud(tmp_path / "whole.las").labels, [0, 1, 2])


def replaced(path, start, value):
    content = bytearray(path.read_bytes())
    content[start : start + len(value)] = value
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize("start", [26, 58, 0])
def test_header_text_that_is_not_ascii_is_read_and_written_again(tmp_path, suffix, start):
    """The system identifier, the software, and the user and description of a record."""
    source, path = tmp_path / f"scan{suffix}", tmp_path / f"out{suffix}"
    las = laspy.create(point_format=7, file_version="1.4")
    las.x = las.y = las.z = np.arange(NUM_POINTS)
    las.header.vlrs.append(laspy.VLR("Gruen", 1, "ein Gruen", b"12"))
    las.evlrs = VLRList([laspy.VLR("Gruen", 2, "ein Gruen", b"34")])
    las.write(source)
    if start:
        replaced(source, start, b"Gr\xfcn 1.0")
    else:
        text = source.read_bytes().replace(b"ein Gruen", b"ein Gr\xfcn\0")
        source.write_bytes(text.replace(b"Gruen", "Grün".encode()[:5]))
    write_labeled(path, labeled(source), source)
    assert not start or b"Gr\xfcn 1.0" in path.read_bytes()
    np.testing.assert_array_equal(read_cloud(path).labels, LABELS)
    written = laspy.read(path)
    assert [record.record_data for record in written.evlrs] == [b"34"]
    assert b"12" in [record.record_data_bytes() for record in written.vlrs]


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize("point_format", [3, 7])
@pytest.mark.parametrize("missing", ["legacy", "long"])
def test_one_of_the_two_counts_of_las_1_4_is_enough(tmp_path, suffix, point_format, missing):
    source, path = tmp_path / f"scan{suffix}", tmp_path / f"out{suffix}"
    header = laspy.LasHeader(point_format=point_format, version="1.4")
    las = laspy.LasData(header)
    las.x = las.y = las.z = np.arange(NUM_POINTS)
    las.write(source)
    count = NUM_POINTS
    replaced(source, 107, (0 if missing == "legacy" else count).to_bytes(4, "little"))
    replaced(source, 247, (0 if missing == "long" else count).to_bytes(8, "little"))
    assert len(read_cloud(source).coords) == NUM_POINTS
    write_labeled(path, labeled(source), source)
    np.testing.assert_array_equal(read_cloud(path).labels, LABELS)


class FullDisk(io.BytesIO):
    """Takes some bytes, then none."""

    def write(self, data):
        if self.tell() + memoryview(data).nbytes > 2000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("copied", [True, False])
def test_a_full_disk_is_an_error_of_writing(tmp_path, compress, copied):
    """Also within the encoder, which wraps it into an error of its own."""
    source = tmp_path / "scan.las"
    write_scan(source, 2)
    cloud = labeled(source)
    with pytest.raises(OSError, match=r"No space left|the LAZ encoder stopped"):
        if copied:
            labeled_las.copy_labeled_las(FullDisk(), cloud, source, compress=compress)
        else:
            labeled_las.write_labeled_las(FullDisk(), cloud, compress=compress)
