"""Normals in files of every format: unit vectors of their points, or none."""

import laspy
import numpy as np
import pytest
from cloud_files import COORDS, check_cloud, vertices, write_ply
from numpy.lib import recfunctions
from scan_folders import write_folder, write_scan
from scannet_files import mesh, read_scene, write_mesh, write_scannet

from mprm_jax.evidence.folder import Folder
from mprm_jax.scans.cleaning import clean_cloud
from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.cloud import CloudFile, to_normals

GIVEN = np.array([[0, 0, 2], [3, 0, -4], [0, 0, 0], [np.nan, 1, 0]], np.float32)
EXPECTED = np.array([[0, 0, 1], [0.6, 0, -0.8], [0, 0, 0], [0, 0, 0]], np.float32)


def records(names, label=None):
    """The vertices of a cloud with a field for each part of the normals."""
    return recfunctions.append_fields(
        vertices(label=label), names, list(GIVEN.T), dtypes="<f4", usemask=False
    )


def write_pcd(path, fields, counts):
    values = np.column_stack([COORDS, GIVEN])
    lines = [" ".join(map(str, row)) for row in values]
    ones = len(fields.split())
    path.write_text(
        f"FIELDS {fields}\nSIZE {' 4' * ones}\nTYPE {' F' * ones}\nCOUNT {counts}\n"
        f"POINTS 4\nDATA ascii\n" + "\n".join(lines)
    )


def write_las(path, parts):
    """Parts are the names, types and values of extra dimensions."""
    las = laspy.create(point_format=0, file_version="1.2")
    las.header.scales = [1e-3] * 3
    las.x, las.y, las.z = COORDS.T
    las.add_extra_dims([laspy.ExtraBytesParams(name, kind) for name, kind, _ in parts])
    for name, _, values in parts:
        las[name] = values
    las.write(path)


def vector_records():
    plain = vertices()
    made = np.empty(4, [*plain.dtype.descr, ("Normals", "<f4", (3,))])
    for name in plain.dtype.names:
        made[name] = plain[name]
    made["Normals"] = GIVEN
    return made


def text(names, mark):
    rows = np.column_stack([COORDS, GIVEN])
    lines = [names, *(mark.join(f"{value:g}" for value in row) for row in rows)]
    return "\n".join(lines) + "\n"


WRITERS = {
    "ply": ("a.ply", lambda path: write_ply(path, records(["nx", "ny", "nz"]))),
    "ply text": ("a.ply", lambda path: write_ply(path, records(["nx", "ny", "nz"]), text=True)),
    "pcd": ("a.pcd", lambda path: write_pcd(path, "x y z normal_x normal_y normal_z", "1 " * 6)),
    "pcd vector": ("a.pcd", lambda path: write_pcd(path, "x y z normal", "1 1 1 3")),
    "npz": ("a.npz", lambda path: np.savez(path, xyz=COORDS, Normals=GIVEN)),
    "npz one": ("a.npz", lambda path: np.savez(path, coord=COORDS, normal=GIVEN)),
    "npy": ("a.npy", lambda path: np.save(path, records(["nx", "ny", "nz"]))),
    "npy vector": ("a.npy", lambda path: np.save(path, vector_records())),
    "text": ("a.txt", lambda path: path.write_text(text("//X Y Z Nx Ny Nz", " "))),
    "csv": ("a.csv", lambda path: path.write_text(text("x,y,z,NormalX,NormalY,NormalZ", ","))),
    "las": (
        "a.las",
        lambda path: write_las(
            path, [(f"Normal{axis}", "f4", GIVEN[:, i]) for i, axis in enumerate("XYZ")]
        ),
    ),
    "laz vector": ("a.laz", lambda path: write_las(path, [("normal", "3f4", GIVEN)])),
}


@pytest.mark.parametrize(("name", "write"), WRITERS.values(), ids=WRITERS)
def test_normals_of_a_file_have_length_one_or_zero(tmp_path, name, write):
    write(tmp_path / name)
    cloud = read_cloud(tmp_path / name)
    assert cloud.normals.dtype == np.float32
    np.testing.assert_allclose(cloud.normals, EXPECTED, atol=1e-7)  # rounding of float32
    np.testing.assert_allclose(cloud.coords, COORDS, atol=1e-9)  # whole millimeters in LAS
    assert not any("normals" in note.text for note in cloud.notes)


def test_normals_take_nothing_from_colors_and_labels(tmp_path):
    write_ply(tmp_path / "a.ply", records(["nx", "ny", "nz"], label="label"))
    check_cloud(read_cloud(tmp_path / "a.ply"))


@pytest.mark.parametrize(
    "normals",
    [np.ones((3, 3)), np.ones((4, 2)), np.ones(4), np.ones((4, 3), np.uint8)],
    ids=["too few", "two columns", "a flag", "unsigned"],
)
def test_normals_of_the_wrong_shape_are_one_warning(tmp_path, normals):
    np.savez(tmp_path / "a.npz", xyz=COORDS, normals=normals)
    cloud = read_cloud(tmp_path / "a.npz")
    assert cloud.normals is None
    assert [(note.warns, note.text.count("normals")) for note in cloud.notes] == [(True, 1)]
    np.testing.assert_array_equal(cloud.coords, COORDS)


def test_zeros_alone_are_no_normals(tmp_path):
    np.savez(tmp_path / "a.npz", xyz=COORDS, normals=0 * COORDS)
    cloud = read_cloud(tmp_path / "a.npz")
    assert (cloud.normals, cloud.notes) == (None, ())


def test_two_of_three_columns_are_no_normals(tmp_path):
    (tmp_path / "a.txt").write_text("x y z nx ny\n0 0 0 1 0\n1 1 1 0 1\n")
    assert read_cloud(tmp_path / "a.txt").normals is None


def test_normals_of_any_size_keep_their_direction():
    sizes = np.array([[1e300], [1e-300], [1.0], [5e-324]])
    normals, _ = to_normals(np.tile([[0.0, 3, 4]], (4, 1)) * sizes, 4)
    np.testing.assert_allclose(normals[:3], [[0, 0.6, 0.8]] * 3, atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)


def test_infinite_normals_are_none_of_their_point():
    normals, _ = to_normals(np.array([[np.inf, 0, 0], [0, -np.inf, np.nan], [0, 7, 0]]), 3)
    np.testing.assert_array_equal(normals, [[0, 0, 0], [0, 0, 0], [0, 1, 0]])


def test_normals_of_bytes_are_signed():
    normals, _ = to_normals(np.array([[0, 0, -128], [127, 0, 0]], np.int8), 2)
    np.testing.assert_array_equal(normals, [[0, 0, -1], [1, 0, 0]])


def test_cleaning_keeps_points_and_normals_together():
    coords = np.array([[0.0, 0, 0], [np.nan, 0, 0], [1, 1, 1], [0, 0, 0], [2, 2, 2]])
    normals = np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, 0, -1]])
    clean, rows = clean_cloud("a.ply", CloudFile(coords, None, None, None, None, (), normals))
    np.testing.assert_array_equal(rows, [0, 2, 4])
    np.testing.assert_array_equal(clean.normals, normals[rows])


def test_a_scan_of_a_folder_has_its_normals_whatever_its_unit(tmp_path):
    write_folder(tmp_path)
    normals = np.float32([[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    coords = np.array([[0, 0, 0], [1500, 2000, 250], [np.nan, 0, 0], [3000, 4000, 2000]])
    write_scan(tmp_path / "office.npz", coords, normals=normals)
    scene = Folder(tmp_path, scale=0.001).read("train", "office")
    np.testing.assert_array_equal(scene.coords[1], [1.5, 2, 0.25])
    np.testing.assert_array_equal(scene.normals, normals[[0, 1, 3]])


def test_scannet_meshes_have_normals_only_if_they_are_there(tmp_path):
    write_scannet(tmp_path)
    assert read_scene(tmp_path).normals is None
    write_mesh(mesh(tmp_path), normals=True)
    np.testing.assert_array_equal(read_scene(tmp_path).normals, [[0, 0, 1]] * 6)
