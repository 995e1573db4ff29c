"""Every file format users have gives the same cloud, and broken files one clear line."""

import laspy
import numpy as np
import pytest
from cloud_files import COLORS, COORDS, FACES, LABELS, check_cloud, vertices, write_ply
from numpy.lib.recfunctions import repack_fields

from mprm_jax.scans.formats import READERS, read_cloud
from mprm_jax.scans.formats.cloud import NO_LABEL


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("color_type", ["u1", "<f4"])
def test_ply_gives_coordinates_colors_labels_and_faces(tmp_path, text, color_type):
    write_ply(tmp_path / "a.ply", vertices(color_type, "label"), FACES, text)
    cloud = read_cloud(tmp_path / "a.ply")
    check_cloud(cloud)
    np.testing.assert_array_equal(cloud.faces, FACES)
    assert cloud.faces.dtype == np.int32
    assert cloud.label_name == "label"


def test_ply_without_faces_is_a_cloud(tmp_path):
    write_ply(tmp_path / "a.ply", vertices())
    cloud = read_cloud(tmp_path / "a.ply")
    check_cloud(cloud, labels=False)
    assert cloud.faces is None


def test_ply_polygons_become_triangles(tmp_path):
    write_ply(tmp_path / "a.ply", vertices(), [[0, 1, 2], [0, 1, 3, 2]])
    expected = [[0, 1, 2], [0, 1, 3], [0, 3, 2]]
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.ply").faces, expected)


def test_cloudcompare_prefix_of_a_label_is_understood(tmp_path):
    write_ply(tmp_path / "a.ply", vertices(label="scalar_Label"))
    check_cloud(read_cloud(tmp_path / "a.ply"))


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


@pytest.mark.parametrize(
    "keys",
    [("xyz", "rgb", "label"), ("coord", "color", "segment"), ("points", "colors", "labels")],
)
def test_npz_arrays_are_found_by_name(tmp_path, keys):
    np.savez(tmp_path / "a.npz", **dict(zip(keys, (COORDS, COLORS, LABELS[:, None]), strict=True)))
    check_cloud(read_cloud(tmp_path / "a.npz"))


def test_npy_table_has_the_columns_of_a_text_file(tmp_path):
    np.save(tmp_path / "a.npy", np.column_stack([COORDS, COLORS, LABELS]))
    check_cloud(read_cloud(tmp_path / "a.npy"))


def test_npy_records_are_found_by_name(tmp_path):
    np.save(tmp_path / "a.npy", vertices(label="label"))
    check_cloud(read_cloud(tmp_path / "a.npy"))


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


@pytest.mark.parametrize("suffix", READERS)
def test_an_empty_file_is_one_line(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"a\{suffix}: the file is empty; export it again"):
        read_cloud(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".txt", ".pcd"])
def test_nan_under_a_label_is_no_label_in_every_format(tmp_path, suffix):
    labels, path = np.array([np.nan, 2, 0, np.nan]), tmp_path / f"a{suffix}"
    table = np.column_stack([COORDS, COLORS, labels])
    if suffix == ".npz":
        np.savez(path, xyz=COORDS, label=labels)
    elif suffix == ".npy":
        np.save(path, table)
    elif suffix == ".txt":
        np.savetxt(path, table)
    else:
        header = "FIELDS x y z label\nSIZE 4 4 4 4\nTYPE F F F F\nPOINTS 4\nDATA ascii"
        np.savetxt(path, table[:, [0, 1, 2, 6]], header=header, comments="")
    cloud = read_cloud(path)
    np.testing.assert_array_equal(cloud.labels, [NO_LABEL, 2, 0, NO_LABEL])
    assert [note.count for note in cloud.notes if "NaN" in note.text] == [2]


def test_of_two_arrays_of_one_name_the_first_counts(tmp_path):
    np.savez(tmp_path / "a.npz", xyz=COORDS, Label=LABELS, label=LABELS * 2)
    cloud = read_cloud(tmp_path / "a.npz")
    check_cloud(cloud, colors=False)
    assert cloud.notes[0].warns and "'label'" in cloud.notes[0].text
