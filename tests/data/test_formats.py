"""Every file format users have gives the same cloud, and broken files one clear line."""

import os
import struct
from pathlib import Path

import laspy
import numpy as np
import pytest
from numpy.lib.recfunctions import repack_fields
from plyfile import PlyData, PlyElement

from mprm_jax.data.formats import read_cloud
from mprm_jax.data.formats.lzf import lzf_decompress

REAL_SCANS = Path(
    os.environ.get("MPRM_REAL_SCANS", Path(__file__).parents[2].parent / "shared" / "data")
)
needs_real_scans = pytest.mark.skipif(
    not REAL_SCANS.is_dir(), reason="set MPRM_REAL_SCANS to a folder of real scans"
)

COORDS = np.array([[0, 0, 0], [1.5, 0, 0.25], [0, 2, -1], [3, 3, 3]], np.float32)
COLORS = np.array([[0, 0, 0], [255, 128, 1], [10, 20, 30], [200, 100, 50]], np.uint8)
LABELS = np.array([0, 3, 255, 1], np.int32)
FACES = np.array([[0, 1, 2], [1, 2, 3]], np.int32)


def vertices(color_type="u1", label=None):
    """Gives the records of a PLY vertex element."""
    fields = [(name, "<f4") for name in "xyz"]
    fields += [(name, color_type) for name in ("red", "green", "blue")]
    records = np.empty(len(COORDS), fields + ([(label, "<u2")] if label else []))
    for i, name in enumerate("xyz"):
        records[name] = COORDS[:, i]
    for i, name in enumerate(("red", "green", "blue")):
        records[name] = COLORS[:, i] if color_type == "u1" else COLORS[:, i] / 255
    if label:
        records[label] = LABELS
    return records


def write_ply(path, records, polygons=(), text=False):
    elements = [PlyElement.describe(records, "vertex")]
    if len(polygons):
        faces = np.empty(len(polygons), [("vertex_indices", object)])
        faces["vertex_indices"] = [np.array(polygon, np.int32) for polygon in polygons]
        elements.append(PlyElement.describe(faces, "face"))
    PlyData(elements, text=text, byte_order="<").write(path)


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


def check(cloud, colors=True, labels=True):
    np.testing.assert_array_equal(cloud.coords, COORDS)
    assert cloud.coords.dtype == np.float64
    assert (cloud.colors is not None) == colors
    if colors:
        assert cloud.colors.dtype == np.uint8
        np.testing.assert_array_equal(cloud.colors, COLORS)
    assert (cloud.labels is not None) == labels
    if labels:
        assert cloud.labels.dtype == np.int32
        np.testing.assert_array_equal(cloud.labels, LABELS)


# PLY


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("color_type", ["u1", "<f4"])
def test_ply_gives_coordinates_colors_labels_and_faces(tmp_path, text, color_type):
    write_ply(tmp_path / "a.ply", vertices(color_type, "label"), FACES, text)
    cloud = read_cloud(tmp_path / "a.ply")
    check(cloud)
    np.testing.assert_array_equal(cloud.faces, FACES)
    assert cloud.faces.dtype == np.int32
    assert cloud.label_name == "label"


def test_ply_without_faces_is_a_cloud(tmp_path):
    write_ply(tmp_path / "a.ply", vertices())
    cloud = read_cloud(tmp_path / "a.ply")
    check(cloud, labels=False)
    assert cloud.faces is None


def test_ply_polygons_become_triangles(tmp_path):
    write_ply(tmp_path / "a.ply", vertices(), [[0, 1, 2], [0, 1, 3, 2]])
    expected = [[0, 1, 2], [0, 1, 3], [0, 3, 2]]
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.ply").faces, expected)


def test_cloudcompare_prefix_of_a_label_is_understood(tmp_path):
    write_ply(tmp_path / "a.ply", vertices(label="scalar_Label"))
    check(read_cloud(tmp_path / "a.ply"))


def test_truncated_ply_is_one_line(tmp_path):
    path = tmp_path / "a.ply"
    write_ply(path, vertices(), FACES)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"a\.ply: not a readable PLY file .* export it again"):
        read_cloud(path)


def test_ply_faces_beyond_the_vertices_are_refused(tmp_path):
    write_ply(tmp_path / "a.ply", vertices(), [[0, 1, 9]])
    with pytest.raises(ValueError, match=r"a\.ply: a face names vertex 9 of 4; export"):
        read_cloud(tmp_path / "a.ply")


def test_cloud_without_z_is_refused(tmp_path):
    write_ply(tmp_path / "a.ply", repack_fields(vertices()[["x", "y", "red"]]))
    with pytest.raises(ValueError, match=r"a\.ply: no column z among x, y, red; export"):
        read_cloud(tmp_path / "a.ply")


# LAS


def write_las(path, point_format=2, scale_colors=256):
    las = laspy.create(point_format=point_format, file_version="1.2")
    las.header.scales = [1e-3] * 3
    las.x, las.y, las.z = COORDS.T
    if point_format == 2:
        las.red, las.green, las.blue = COLORS.T.astype(np.uint16) * scale_colors
        las.classification = LABELS % 32
    las.write(path)


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize("scale_colors", [256, 1])
def test_las_colors_may_have_16_or_8_bits(tmp_path, suffix, scale_colors):
    write_las(tmp_path / f"a{suffix}", scale_colors=scale_colors)
    cloud = read_cloud(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(cloud.colors, COLORS)
    np.testing.assert_array_equal(cloud.labels, LABELS % 32)
    np.testing.assert_allclose(cloud.coords, COORDS, atol=1e-9)  # float64 of whole millimeters


def test_las_without_colors_and_classes_has_neither(tmp_path):
    write_las(tmp_path / "a.las", point_format=0)
    cloud = read_cloud(tmp_path / "a.las")
    assert cloud.colors is None
    assert cloud.labels is None


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize("keep", [10, 100, -5])
def test_truncated_las_is_one_line(tmp_path, suffix, keep):
    path = tmp_path / f"a{suffix}"
    write_las(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf"a{suffix}: .* again\.$"):
        read_cloud(path)


# PCD


def ascii_body():
    rows = zip(COORDS, pcd_columns()[3].astype(np.float64), LABELS, strict=True)
    return "\n".join(f"{x} {y} {z}  {rgb!r} {label} " for (x, y, z), rgb, label in rows).encode()


def test_ascii_pcd_allows_blanks_behind_numbers(tmp_path):
    body = ascii_body().replace(b"np.float64(", b"").replace(b")", b"")
    write_pcd(tmp_path / "a.pcd", "ascii", body=body)
    check(read_cloud(tmp_path / "a.pcd"))


def test_ascii_pcd_with_integer_rgb(tmp_path):
    rgb = pcd_columns()[3].view("<u4")
    rows = zip(COORDS, rgb, LABELS, strict=True)
    body = "\n".join(f"{x} {y} {z} {c} {label}" for (x, y, z), c, label in rows).encode()
    write_pcd(tmp_path / "a.pcd", "ascii", kinds="F F F U U", body=body)
    check(read_cloud(tmp_path / "a.pcd"))


def test_binary_pcd_keeps_points_one_after_the_other(tmp_path):
    body = np.rec.fromarrays(pcd_columns()).tobytes()
    write_pcd(tmp_path / "a.pcd", "binary", body=body)
    check(read_cloud(tmp_path / "a.pcd"))


def test_compressed_pcd_keeps_fields_one_after_the_other(tmp_path):
    data = b"".join(column.tobytes() for column in pcd_columns())
    packed = literals(data)
    body = struct.pack("<II", len(packed), len(data)) + packed
    write_pcd(tmp_path / "a.pcd", "binary_compressed", body=body)
    check(read_cloud(tmp_path / "a.pcd"))


def test_opaque_rgba_that_looks_like_nan_keeps_its_colors(tmp_path):
    columns = pcd_columns()
    columns[3] = (columns[3].view("<u4") | np.uint32(0xFF000000)).view("<f4")
    body = np.rec.fromarrays(columns).tobytes()
    write_pcd(tmp_path / "a.pcd", "binary", fields="x y z rgba label", body=body)
    check(read_cloud(tmp_path / "a.pcd"))


def test_old_pcd_header_without_count_points_and_version(tmp_path):
    header = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 4\nDATA ascii\n"
    body = "\n".join(" ".join(map(str, row)) for row in COORDS)
    (tmp_path / "a.pcd").write_text(header + body)
    check(read_cloud(tmp_path / "a.pcd"), colors=False, labels=False)


def test_pcd_padding_fields_are_skipped(tmp_path):
    x, y, z, *_ = pcd_columns()
    body = np.rec.fromarrays([x, y, z, x, y]).tobytes()
    write_pcd(tmp_path / "a.pcd", "binary", "x y z _ _", "F F F U U", body)
    check(read_cloud(tmp_path / "a.pcd"), colors=False, labels=False)


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


# LZF


def test_lzf_match_may_run_into_itself():
    # Literal "ab", then a match of 5 bytes at distance 2.
    assert lzf_decompress(bytes([1]) + b"ab" + bytes([3 << 5, 1]), 7) == b"abababa"


def test_lzf_long_match_takes_one_more_byte():
    assert lzf_decompress(bytes([0]) + b"a" + bytes([7 << 5, 11, 0]), 21) == b"a" * 21


def test_lzf_refuses_a_match_before_the_start():
    with pytest.raises(ValueError, match="middle of a token"):
        lzf_decompress(bytes([0]) + b"a" + bytes([1 << 5, 4]), 4)


# Text


def rows_of(separator, *columns):
    return "\n".join(separator.join(f"{v:g}" for v in row) for row in np.column_stack(columns))


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", ";"])
def test_seven_columns_are_coordinates_colors_and_a_label(tmp_path, separator):
    (tmp_path / "a.txt").write_text(rows_of(separator, COORDS, COLORS, LABELS) + "\n\n")
    check(read_cloud(tmp_path / "a.txt"))


def test_three_columns_are_coordinates(tmp_path):
    (tmp_path / "a.xyz").write_text(rows_of(" ", COORDS))
    check(read_cloud(tmp_path / "a.xyz"), colors=False, labels=False)


def test_six_columns_with_colors_up_to_one(tmp_path):
    (tmp_path / "a.xyz").write_text(rows_of(" ", COORDS, np.round(COLORS / 255, 5)))
    check(read_cloud(tmp_path / "a.xyz"), labels=False)


def test_a_fourth_column_of_fractions_is_no_label(tmp_path):
    (tmp_path / "a.xyz").write_text(rows_of(" ", COORDS, LABELS / 10))
    check(read_cloud(tmp_path / "a.xyz"), colors=False, labels=False)


@pytest.mark.parametrize(
    ("header", "separator"),
    [("label,x,y,z,R,G,B", ","), ("# label x y z r g b", " "), ("//Label;X;Y;Z;R;G;B", ";")],
)
def test_a_header_names_the_columns(tmp_path, header, separator):
    body = rows_of(separator, LABELS, COORDS, COLORS)
    (tmp_path / "a.csv").write_text(f"\ufeff{header}\n{body}\n", encoding="utf-8")
    check(read_cloud(tmp_path / "a.csv"))


def test_five_columns_need_a_header(tmp_path):
    (tmp_path / "a.xyz").write_text(rows_of(" ", COORDS, COORDS[:, :2]))
    with pytest.raises(ValueError, match=r"a\.xyz: 5 columns without names; add a first line"):
        read_cloud(tmp_path / "a.xyz")


def test_a_broken_text_line_is_named(tmp_path):
    (tmp_path / "a.xyz").write_text("1 2 3\n4 5\n7 8 9\n")
    with pytest.raises(ValueError, match=r"a\.xyz: broken table .*row 2.*correct the line"):
        read_cloud(tmp_path / "a.xyz")


def test_prose_is_no_cloud(tmp_path):
    (tmp_path / "a.txt").write_text("These scans were made in May.\n")
    with pytest.raises(ValueError, match=r"a\.txt: no line of at least three numbers.*export"):
        read_cloud(tmp_path / "a.txt")


def test_impossible_colors_are_refused(tmp_path):
    (tmp_path / "a.xyz").write_text(rows_of(" ", COORDS, COLORS.astype(int) - 1))
    with pytest.raises(ValueError, match=r"a\.xyz: colors outside 0\.\.255; export"):
        read_cloud(tmp_path / "a.xyz")


def test_fractional_labels_are_refused(tmp_path):
    (tmp_path / "a.xyz").write_text("x y z label\n" + rows_of(" ", COORDS, LABELS / 2))
    with pytest.raises(ValueError, match=r"a\.xyz: label 1\.5 is not a whole number; rename"):
        read_cloud(tmp_path / "a.xyz")


# NumPy


@pytest.mark.parametrize(
    "keys",
    [("xyz", "rgb", "label"), ("coord", "color", "segment"), ("points", "colors", "labels")],
)
def test_npz_arrays_are_found_by_name(tmp_path, keys):
    np.savez(tmp_path / "a.npz", **dict(zip(keys, (COORDS, COLORS, LABELS[:, None]), strict=True)))
    check(read_cloud(tmp_path / "a.npz"))


def test_npy_table_has_the_columns_of_a_text_file(tmp_path):
    np.save(tmp_path / "a.npy", np.column_stack([COORDS, COLORS, LABELS]))
    check(read_cloud(tmp_path / "a.npy"))


def test_npy_records_are_found_by_name(tmp_path):
    np.save(tmp_path / "a.npy", vertices(label="label"))
    check(read_cloud(tmp_path / "a.npy"))


def test_npz_lengths_must_agree(tmp_path):
    np.savez(tmp_path / "a.npz", xyz=COORDS, label=LABELS[:3])
    with pytest.raises(ValueError, match=r"a\.npz: 4 points but 3 labels; save them together"):
        read_cloud(tmp_path / "a.npz")


def test_npz_without_coordinates_names_the_keys(tmp_path):
    np.savez(tmp_path / "a.npz", cloud=COORDS)
    with pytest.raises(ValueError, match=r"a\.npz: none of xyz, .* among cloud; save"):
        read_cloud(tmp_path / "a.npz")


def test_python_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", xyz=np.array([{}, {}, {}], object))
    with pytest.raises(ValueError, match=r"a\.npz: not a readable NumPy file.*plain number"):
        read_cloud(tmp_path / "a.npz")


# Any file


def test_unknown_suffix_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"a\.e57: unknown format '\.e57'; convert .*\.ply"):
        read_cloud(tmp_path / "a.e57")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.ply: no such file; check the path"):
        read_cloud(tmp_path / "a.ply")


def test_a_file_without_points_is_refused(tmp_path):
    write_ply(tmp_path / "a.ply", vertices()[:0])
    with pytest.raises(ValueError, match=r"a\.ply: the file holds no points; export"):
        read_cloud(tmp_path / "a.ply")


# Real scans


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
