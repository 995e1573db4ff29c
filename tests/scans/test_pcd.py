"""PCD scans of all encodings and of careless writers, and the codec of the compressed one."""

import struct

import numpy as np
import pytest
from cloud_files import COLORS, COORDS, LABELS, REAL_SCANS, check_cloud, needs_real_scans

from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.pcd import lzf_decompress


def write_pcd(path, encoding, fields="x y z rgb label", kinds="F F F F U", body=None, points=4):
    count = len(fields.split())
    header = (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {fields}\nSIZE {' '.join(['4'] * count)}\n"
        f"TYPE {kinds}\nCOUNT {' '.join(['1'] * count)}\nWIDTH {points // 2}\nHEIGHT 2\n"
        f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {encoding}\n"
    )
    path.write_bytes(header.encode() + body)


def pcd_columns():
    rgb = (COLORS.astype(np.uint32) * np.array([1 << 16, 1 << 8, 1], np.uint32)).sum(axis=1)
    columns = [COORDS[:, i].astype("<f4") for i in range(3)]
    return [*columns, rgb.astype("<u4").view("<f4"), LABELS.astype("<u4")]


def literals(data):
    """Compresses by not compressing: LZF tokens of at most 32 literal bytes."""
    chunks = [data[i : i + 32] for i in range(0, len(data), 32)]
    return b"".join(bytes([len(chunk) - 1]) + chunk for chunk in chunks)


def ascii_body():
    rows = zip(COORDS, pcd_columns()[3].astype(np.float64), LABELS, strict=True)
    return "\n".join(f"{x} {y} {z}  {rgb!r} {label} " for (x, y, z), rgb, label in rows).encode()


def test_ascii_pcd_allows_blanks_behind_numbers(tmp_path):
    body = ascii_body().replace(b"np.float64(", b"").replace(b")", b"")
    write_pcd(tmp_path / "a.pcd", "ascii", body=body)
    check_cloud(read_cloud(tmp_path / "a.pcd"))


def test_ascii_pcd_with_integer_rgb(tmp_path):
    rgb = pcd_columns()[3].view("<u4")
    rows = zip(COORDS, rgb, LABELS, strict=True)
    body = "\n".join(f"{x} {y} {z} {c} {label}" for (x, y, z), c, label in rows).encode()
    write_pcd(tmp_path / "a.pcd", "ascii", kinds="F F F U U", body=body)
    check_cloud(read_cloud(tmp_path / "a.pcd"))


def test_binary_pcd_keeps_points_one_after_the_other(tmp_path):
    body = np.rec.fromarrays(pcd_columns()).tobytes()
    write_pcd(tmp_path / "a.pcd", "binary", body=body)
    check_cloud(read_cloud(tmp_path / "a.pcd"))


def test_compressed_pcd_keeps_fields_one_after_the_other(tmp_path):
    data = b"".join(column.tobytes() for column in pcd_columns())
    packed = literals(data)
    body = struct.pack("<II", len(packed), len(data)) + packed
    write_pcd(tmp_path / "a.pcd", "binary_compressed", body=body)
    check_cloud(read_cloud(tmp_path / "a.pcd"))


def test_opaque_rgba_that_looks_like_nan_keeps_its_colors(tmp_path):
    columns = pcd_columns()
    columns[3] = (columns[3].view("<u4") | np.uint32(0xFF000000)).view("<f4")
    body = np.rec.fromarrays(columns).tobytes()
    write_pcd(tmp_path / "a.pcd", "binary", fields="x y z rgba label", body=body)
    check_cloud(read_cloud(tmp_path / "a.pcd"))


def test_old_pcd_header_without_count_points_and_version(tmp_path):
    header = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 4\nDATA ascii\n"
    body = "\n".join(" ".join(map(str, row)) for row in COORDS)
    (tmp_path / "a.pcd").write_text(header + body)
    check_cloud(read_cloud(tmp_path / "a.pcd"), colors=False, labels=False)


def test_pcd_padding_fields_are_skipped(tmp_path):
    x, y, z, *_ = pcd_columns()
    body = np.rec.fromarrays([x, y, z, x, y]).tobytes()
    write_pcd(tmp_path / "a.pcd", "binary", "x y z _ _", "F F F U U", body)
    check_cloud(read_cloud(tmp_path / "a.pcd"), colors=False, labels=False)


def test_missing_pixels_of_an_organized_pcd_stay_in_the_file_view(tmp_path):
    columns = pcd_columns()
    columns[0] = columns[0].copy()
    columns[0][1] = np.nan
    write_pcd(tmp_path / "a.pcd", "binary", body=np.rec.fromarrays(columns).tobytes())
    assert np.isnan(read_cloud(tmp_path / "a.pcd").coords[1, 0])


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_truncated_pcd_is_one_line(tmp_path, encoding):
    body = struct.pack("<II", 50, 80) + b"12" if encoding == "binary_compressed" else b"1 2 3 4 5\n"
    write_pcd(tmp_path / "a.pcd", encoding, body=body)
    with pytest.raises(ValueError, match=r"a\.pcd: broken PCD file .* export it again"):
        read_cloud(tmp_path / "a.pcd")


def test_pcd_header_without_types_names_the_line(tmp_path):
    (tmp_path / "a.pcd").write_text("FIELDS x y z\nSIZE 4 4 4\nPOINTS 0\nDATA ascii\n")
    with pytest.raises(ValueError, match=r"a\.pcd: the PCD header has no line TYPE; export"):
        read_cloud(tmp_path / "a.pcd")


def test_pcd_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "a.pcd").write_text("ply\nformat ascii 1.0\n")
    with pytest.raises(ValueError, match=r"a\.pcd: no DATA line, so not a PCD file; check"):
        read_cloud(tmp_path / "a.pcd")


def test_lzf_match_may_run_into_itself():
    # Literal "ab", then a match of 5 bytes at distance 2.
    assert lzf_decompress(bytes([1]) + b"ab" + bytes([3 << 5, 1]), 7) == b"abababa"


def test_lzf_long_match_takes_one_more_byte():
    assert lzf_decompress(bytes([0]) + b"a" + bytes([7 << 5, 11, 0]), 21) == b"a" * 21


def test_lzf_refuses_a_match_before_the_start():
    with pytest.raises(ValueError, match="middle of a token"):
        lzf_decompress(bytes([0]) + b"a" + bytes([1 << 5, 4]), 4)


@pytest.mark.parametrize("kind", ["F", "U", "I"])
def test_ascii_colors_are_whole_numbers_from_1_on_whatever_their_type(tmp_path, kind):
    rgb = pcd_columns()[3].view("<u4").astype(np.int64)
    rgb[1:] |= 0xFF << 24  # opaque
    if kind == "I":
        rgb = np.where(rgb >= 2**31, rgb - 2**32, rgb)
    rows = zip(COORDS, rgb, LABELS, strict=True)
    body = "\n".join(f"{x} {y} {z} {c} {label}" for (x, y, z), c, label in rows).encode()
    fields = "x y z rgba label"
    write_pcd(tmp_path / "a.pcd", "ascii", fields, f"F F F {kind} U", body=body)
    check_cloud(read_cloud(tmp_path / "a.pcd"))


def test_a_gray_that_lost_its_last_digits_is_found_again(tmp_path):
    rows = ["0 0 0 4.2108e+06", "1 0 0 0", "0 1 0 8.4215E+06", "0 0 1 16711680"]
    write_pcd(tmp_path / "a.pcd", "ascii", "x y z rgb", "F F F F", "\n".join(rows).encode())
    found = read_cloud(tmp_path / "a.pcd").colors
    np.testing.assert_array_equal(found, [[64] * 3, [0] * 3, [128] * 3, [255, 0, 0]])


def test_blank_lines_of_an_ascii_pcd_are_no_points(tmp_path):
    body = ascii_body().replace(b"np.float64(", b"").replace(b")", b"")
    write_pcd(tmp_path / "a.pcd", "ascii", body=b"\n" + body.replace(b"\n", b"\n\n  \n"))
    check_cloud(read_cloud(tmp_path / "a.pcd"))


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_of_two_fields_of_one_name_the_first_counts(tmp_path, encoding):
    columns = [*pcd_columns()[:3], pcd_columns()[4], np.arange(4).astype("<u4")]
    body = np.rec.fromarrays(columns).tobytes()
    if encoding == "ascii":
        body = "\n".join(" ".join(map(str, row)) for row in zip(*columns, strict=True)).encode()
    write_pcd(tmp_path / "a.pcd", encoding, "x y z label Label", "F F F U U", body)
    cloud = read_cloud(tmp_path / "a.pcd")
    check_cloud(cloud, colors=False)
    assert cloud.notes[0].warns and "'label'" in cloud.notes[0].text


def test_a_label_of_minus_one_under_unsigned_is_minus_one(tmp_path):
    write_pcd(tmp_path / "a.pcd", "ascii", "x y z label", "F F F U", b"0 0 0 -1\n1 0 0 2\n" * 2)
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.pcd").labels, [-1, 2, -1, 2])


@pytest.mark.parametrize("size", ["3", "16", "-4", "4.0", "99999999999"])
def test_a_size_that_no_number_has_is_one_line(tmp_path, size):
    write_pcd(tmp_path / "a.pcd", "ascii", body=ascii_body())
    path = tmp_path / "a.pcd"
    path.write_bytes(path.read_bytes().replace(b"SIZE 4", f"SIZE {size}".encode()))
    with pytest.raises(ValueError, match=rf"a\.pcd: broken PCD .*TYPE F of SIZE {size}.*export it"):
        read_cloud(path)


@needs_real_scans
def test_ascii_pcd_holds_the_points_of_its_npz():
    cloud = read_cloud(next((REAL_SCANS / "covered").glob("*.pcd")))
    assert cloud.coords.shape == (58108, 3)
    assert cloud.label_name == "label"
    first = np.all(cloud.coords == cloud.coords[0], axis=1)
    assert first.sum() > 10000  # the padding the data set's notes tell of


@needs_real_scans
def test_kinect_frame_has_colors_and_missing_pixels():
    cloud = read_cloud(REAL_SCANS / "pcl" / "region_growing_rgb_tutorial.pcd")
    assert cloud.coords.shape == (640 * 480, 3)
    assert 0 < np.isnan(cloud.coords[:, 2]).mean() < 0.5
    real = cloud.colors[np.isfinite(cloud.coords[:, 2])]
    assert real.std(axis=0).min() > 10  # a picture, not one color


@needs_real_scans
def test_compressed_room_has_the_size_of_a_room():
    cloud = read_cloud(REAL_SCANS / "pcl" / "room_scan1.pcd")
    assert cloud.coords.shape == (112586, 3)
    assert cloud.colors is None
    assert np.all(np.ptp(cloud.coords, axis=0) < 30)
