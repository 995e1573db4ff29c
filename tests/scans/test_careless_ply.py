"""PLY files of careless writers: every header that says what is meant, numbers as they are."""

import numpy as np
import pytest
from cloud_files import COLORS, COORDS, FACES, LABELS, check_cloud

from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.cloud import NO_LABEL
from mprm_jax.store.prepare import check_files

PROPERTIES = [f"property float {axis}" for axis in "xyz"] + [
    f"property uchar {color}" for color in ("red", "green", "blue")
]
LABEL = "property uchar label"


def rows_of(*columns):
    return [" ".join(f"{value:g}" for value in row) for row in np.column_stack(columns)]


def write(path, *after, rows=None, properties=PROPERTIES, order="ascii", body=b"", newline="\n"):
    """Writes a PLY whose header has some lines more, behind its properties."""
    lines = ["ply", f"format {order} 1.0", f"element vertex {len(COORDS)}", *properties, *after]
    if not after or not after[-1].startswith("end_header"):
        lines.append("end_header")
    if order == "ascii":
        lines += rows_of(COORDS, COLORS) if rows is None else rows
    path.write_bytes(newline.join([*lines, ""]).encode() + body)


def binary_body(sign):
    kinds = [(f"c{i}", f"{sign}f4") for i in range(3)] + [(f"c{i}", "u1") for i in range(3, 6)]
    return np.rec.fromarrays([*COORDS.T, *COLORS.T], dtype=kinds).tobytes()


CARELESS = {
    "a blank behind end_header": ["end_header \t"],
    "obj_info last": ["obj_info num_cols 512"],
    "a comment in Latin and Chinese": ["comment TextureFile Büro 办公室.png"],
    "a header of 40 KB": [f"comment camera {i} {'0.123456789 ' * 10}" for i in range(300)],
    "empty lines": ["", " "],
}


@pytest.mark.parametrize("after", CARELESS.values(), ids=CARELESS)
@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_careless_headers_are_read_and_pass_the_first_look(tmp_path, after, order):
    path = tmp_path / "a.ply"
    body = b"" if order == "ascii" else binary_body("<" if "little" in order else ">")
    write(path, *after, order=order, body=body)
    check_cloud(read_cloud(path), labels=False)
    check_files([str(path)])


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
def test_line_ends_of_any_system(tmp_path, newline, order):
    body = b"" if order == "ascii" else binary_body("<")
    write(tmp_path / "a.ply", order=order, body=body, newline=newline)
    check_cloud(read_cloud(tmp_path / "a.ply"), labels=False)
    check_files([str(tmp_path / "a.ply")])


def test_a_comment_that_is_no_utf8(tmp_path):
    write(tmp_path / "a.ply", "comment X")
    path = tmp_path / "a.ply"
    path.write_bytes(path.read_bytes().replace(b"comment X", b"comment B\xfcro"))
    check_cloud(read_cloud(path), labels=False)


def test_blank_lines_between_rows_are_no_rows(tmp_path):
    rows = [line for row in rows_of(COORDS, COLORS) for line in (row, "", " ")]
    write(tmp_path / "a.ply", rows=rows)
    check_cloud(read_cloud(tmp_path / "a.ply"), labels=False)


def test_a_label_of_minus_one_under_uchar_is_minus_one(tmp_path):
    labels = np.array([-1, 0, 255, 300])
    write(tmp_path / "a.ply", properties=[*PROPERTIES, LABEL], rows=rows_of(COORDS, COLORS, labels))
    cloud = read_cloud(tmp_path / "a.ply")
    np.testing.assert_array_equal(cloud.labels, labels)
    np.testing.assert_array_equal(cloud.colors, COLORS)


def test_a_color_of_256_is_clipped_with_a_warning(tmp_path):
    colors = COLORS.astype(int)
    colors[1, 0] = 256
    write(tmp_path / "a.ply", rows=rows_of(COORDS, colors))
    cloud = read_cloud(tmp_path / "a.ply")
    np.testing.assert_array_equal(cloud.colors, COLORS)
    assert [note.count for note in cloud.notes if note.warns] == [1]


def test_whole_numbers_written_as_floats_are_whole(tmp_path):
    rows = [" ".join(map(str, row)) for row in np.column_stack([COORDS, COLORS.astype(float)])]
    write(tmp_path / "a.ply", rows=rows)
    cloud = read_cloud(tmp_path / "a.ply")
    check_cloud(cloud, labels=False)
    assert cloud.notes == ()


def test_coordinates_far_from_zero_keep_their_digits_under_float(tmp_path):
    far = COORDS + np.array([431234.123, 5412345.5, 0.7])
    rows = [" ".join(map(repr, map(float, row))) for row in far]
    write(tmp_path / "a.ply", properties=PROPERTIES[:3], rows=rows)
    # float32 near 0, double far from it
    np.testing.assert_allclose(read_cloud(tmp_path / "a.ply").coords, far, rtol=0, atol=1e-6)


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
def test_of_two_properties_of_one_name_the_first_counts(tmp_path, order):
    properties = [*PROPERTIES, LABEL, LABEL]
    two = np.stack([LABELS % 7, LABELS % 5], axis=1)
    pad = np.concatenate([np.frombuffer(binary_body("<"), np.uint8).reshape(4, 15), two], axis=1)
    body = b"" if order == "ascii" else pad.astype(np.uint8).tobytes()
    rows = rows_of(COORDS, COLORS, two)
    write(tmp_path / "a.ply", properties=properties, rows=rows, order=order, body=body)
    cloud = read_cloud(tmp_path / "a.ply")
    np.testing.assert_array_equal(cloud.labels, LABELS % 7)
    assert any(note.warns and "'label'" in note.text for note in cloud.notes)


def test_nan_under_a_label_is_no_label_and_counted(tmp_path):
    labels = np.array([np.nan, 0, 2, np.nan])
    write(
        tmp_path / "a.ply",
        properties=[*PROPERTIES, "property float scalar_Label"],
        rows=rows_of(COORDS, COLORS, labels),
    )
    cloud = read_cloud(tmp_path / "a.ply")
    np.testing.assert_array_equal(cloud.labels, [NO_LABEL, 0, 2, NO_LABEL])
    assert cloud.labels.dtype == np.int32
    assert [note.count for note in cloud.notes] == [2]


def test_a_splat_has_the_colors_of_its_harmonics(tmp_path):
    harmonics = (COLORS / 255 - 0.5) / 0.28209479177387814
    harmonics[0] = -9  # darker than black
    names = [f"property float f_dc_{i}" for i in range(3)]
    write(
        tmp_path / "a.ply",
        properties=[*PROPERTIES[:3], *names],
        rows=[" ".join(map(str, row)) for row in np.column_stack([COORDS, harmonics])],
    )
    cloud = read_cloud(tmp_path / "a.ply")
    check_cloud(cloud, labels=False)
    assert "harmonics" in cloud.notes[0].text


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize("polygons", [FACES.tolist(), [[0, 1, 2], [0, 1, 3, 2], [1, 2], [3, 2, 1]]])
def test_elements_around_and_lists_of_any_length(tmp_path, order, polygons):
    """An element that nobody knows comes first, and each face has a number besides its corners."""
    lines = ["ply", f"format {order} 1.0", "element camera 2", "property double f", "element"]
    lines[-1:] = ["property list ushort short pixels", f"element vertex {len(COORDS)}"]
    lines += [*PROPERTIES[:3], f"element face {len(polygons)}"]
    lines += ["property uint area", "property list uchar uint vertex_index", "end_header"]
    if order == "ascii":
        lines += ["1.5 0", "2.5 3 7 8 9", *rows_of(COORDS)]
        lines += [" ".join(map(str, (9, len(p), *p))) for p in polygons]
        body = b""
    else:
        body = np.float64(1.5).tobytes() + b"\0\0" + np.float64(2.5).tobytes() + b"\3\0abcdef"
        body += COORDS.astype("<f4").tobytes()
        for p in polygons:
            body += b"\t\0\0\0" + bytes([len(p)]) + np.array(p, "<u4").tobytes()
    (tmp_path / "a.ply").write_bytes("\n".join([*lines, ""]).encode() + body)
    fans = [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]
    cloud = read_cloud(tmp_path / "a.ply")
    np.testing.assert_array_equal(cloud.faces, fans)
    np.testing.assert_array_equal(cloud.coords, COORDS)


BROKEN = {
    "an unknown type": (["property quaternion q"], "'property quaternion q'"),
    "a list of float length": (["property list float int l"], "'property list float int l'"),
    "no count": (["element face many", "property int x"], "'element face many'"),
    "an element twice": (["element vertex 1", "property int x"], "two elements of one name"),
    "no end": (["end_headers"], "end_header is missing"),
}


@pytest.mark.parametrize(("after", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_headers_are_named_by_reader_and_first_look(tmp_path, after, reason):
    path = tmp_path / "a.ply"
    lines = ["ply", "format ascii 1.0", "element vertex 4", *PROPERTIES[:3], *after]
    end = [] if reason.startswith("end") else ["end_header"]
    path.write_text("\n".join([*lines, *end, *rows_of(COORDS), ""]))
    for look in (read_cloud, lambda path: check_files([str(path)])):
        with pytest.raises(ValueError, match=r"a\.ply: .*" + reason) as error:
            look(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "i2", "u4"])
def test_lengths_of_lists_of_any_type_and_order(tmp_path, order, kind):
    name = {"<": "binary_little_endian", ">": "binary_big_endian"}[order]
    count = {"u1": "uchar", "i2": "short", "u4": "uint"}[kind]
    polygons = [[0, 1, 2], [0, 1, 3, 2]]
    lines = ["element face 2", f"property list {count} uchar vertex_indices"]
    body = binary_body(order)
    for polygon in polygons:
        body += np.array(len(polygon), order + kind).tobytes() + bytes(polygon)
    write(tmp_path / "a.ply", *lines, order=name, body=body)
    found = read_cloud(tmp_path / "a.ply").faces
    np.testing.assert_array_equal(found, [[0, 1, 2], [0, 1, 3], [0, 3, 2]])
