"""Counts that cannot be true are told from the size of the file, before memory is taken."""

import io
import pathlib
import struct
import tracemalloc
import zipfile

import laspy
import numpy as np
import pytest

from mprm_jax.errors import UserError
from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.pointcept import Pointcept
from mprm_jax.store.prepare import check_files

HUGE = 10**12
POINTS = np.random.default_rng(0).uniform(0, 3, (50, 3))
MEGABYTES = 8  # imports and small buffers; what the files promise is a thousand times as much


def refused(path, reason):
    """Asserts that a file is refused in one line, without taking the memory that it promises."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=reason) as error:
            read_cloud(path)
        assert tracemalloc.get_traced_memory()[1] < MEGABYTES << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize("count", [HUGE, 10**9, 2**63])
def test_ply_rows(tmp_path, order, count):
    path = tmp_path / "a.ply"
    header = f"ply\nformat {order} 1.0\nelement vertex {count}\nproperty float x\nend_header\n"
    path.write_bytes(header.encode() + b"1 2 3 4\n" * 50)
    refused(path, r"a\.ply: not a readable PLY file .*promises at least .*cut off")
    with pytest.raises(ValueError, match="cut off: export or download"):
        check_files([str(path)])


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
def test_ply_elements_without_properties(tmp_path, order):
    header = f"ply\nformat {order} 1.0\nelement nothing {HUGE}\nelement vertex 1\n"
    header += "property float x\nproperty float y\nproperty float z\nend_header\n"
    (tmp_path / "a.ply").write_bytes(header.encode() + b"1 2 3 456789 123\n")
    if order == "ascii":
        refused(tmp_path / "a.ply", "cut off")
    else:
        assert len(read_cloud(tmp_path / "a.ply").coords) == 1


def test_ply_lists(tmp_path):
    header = "ply\nformat binary_little_endian 1.0\nelement face 3\n"
    header += "property list uint double vertex_indices\nelement vertex 0\nend_header\n"
    (tmp_path / "a.ply").write_bytes(header.encode() + struct.pack("<I", 2**32 - 1) * 40)
    refused(tmp_path / "a.ply", "rows of element face go beyond the file")


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("count", [HUGE, 2**31])
def test_pcd_points(tmp_path, encoding, count):
    header = f"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS {count}\nDATA {encoding}\n"
    (tmp_path / "a.pcd").write_bytes(header.encode() + b"1 2 3\n" * 50)
    refused(tmp_path / "a.pcd", r"a\.pcd: broken PCD file .*; copy or export it again")


def test_pcd_vectors_and_compressed_sizes(tmp_path):
    header = f"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 {HUGE}\nPOINTS 1\nDATA "
    for encoding in ("ascii", "binary", "binary_compressed"):
        (tmp_path / "a.pcd").write_bytes(f"{header}{encoding}\n".encode() + b"1 2 3\n" * 50)
        refused(tmp_path / "a.pcd", r"a\.pcd: broken PCD file")
    header = header.replace(str(HUGE), "1").replace("POINTS 1", f"POINTS {2**28}")
    # Matches of 264 bytes each; the header promises 3 GB.
    packed = b"\0a" + b"\xe0\xff\0" * 1000
    body = struct.pack("<II", len(packed), 12 * 2**28 % 2**32) + packed
    (tmp_path / "a.pcd").write_bytes(f"{header}binary_compressed\n".encode() + body)
    refused(tmp_path / "a.pcd", r"a\.pcd: broken PCD file")


def las_bytes(suffix, point_format=7):
    version = "1.4" if point_format > 5 else "1.2"
    las = laspy.create(point_format=point_format, file_version=version)
    las.x, las.y, las.z = POINTS.T
    stream = io.BytesIO()
    las.write(stream, do_compress=suffix == ".laz")
    return bytearray(stream.getvalue())


HEADER_FIELDS = {  # start, bytes and value of what is changed
    "points of 1.2": (2, 107, 4, 2**32 - 1),
    "points of 1.4": (7, 247, 8, HUGE),
    "a few points too many": (7, 247, 8, 10**9),
    "records": (7, 100, 4, 2**32 - 1),
    "long records": (7, 243, 4, 2**32 - 1),
    "place of the points": (7, 96, 4, 2**32 - 1),
    "size of a point": (7, 105, 2, 0),
    "version": (7, 25, 1, 9),
    "date": (7, 90, 4, 0x270F_FFFF),
}


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize(
    ("point_format", "start", "size", "value"), HEADER_FIELDS.values(), ids=HEADER_FIELDS
)
def test_las_header_fields(tmp_path, suffix, point_format, start, size, value):
    content = las_bytes(suffix, point_format)
    content[start : start + size] = value.to_bytes(size, "little")
    (tmp_path / f"a{suffix}").write_bytes(content)
    refused(tmp_path / f"a{suffix}", r"not a readable LAS/LAZ file \(.*\); copy or export it again")


LAZ_FIELDS = {
    "its place": lambda content, start, table: struct.pack_into("<q", content, start, 2**40),
    "its place, before the points": lambda c, start, table: struct.pack_into("<q", c, start, 3),
    "written last, and missing": lambda c, start, table: struct.pack_into("<q", c, start, -1),
    "its chunks": lambda c, start, table: struct.pack_into("<I", c, table + 4, 2**32 - 1),
    "no chunk": lambda c, start, table: struct.pack_into("<I", c, table + 4, 0),
    "two chunks": lambda c, start, table: struct.pack_into("<I", c, table + 4, 2),
}


def test_a_wild_chunk_size_of_a_laz_takes_no_memory(tmp_path):
    """One chunk may be larger than there are points; the decoder would take all of it, or abort."""
    content = las_bytes(".laz")
    old = struct.pack("<I", 50_000)
    assert content.count(old) == 1
    (tmp_path / "a.laz").write_bytes(content.replace(old, struct.pack("<I", 2**32 - 2)))
    np.testing.assert_allclose(read_cloud(tmp_path / "a.laz").coords, POINTS, atol=0.006)
    (tmp_path / "b.laz").write_bytes(content.replace(old, struct.pack("<I", 0)))
    refused(tmp_path / "b.laz", r"not a readable LAS/LAZ file")


@pytest.mark.parametrize("change", LAZ_FIELDS.values(), ids=LAZ_FIELDS)
@pytest.mark.parametrize("point_format", [2, 7])
def test_the_table_of_chunks_of_a_laz(tmp_path, change, point_format):
    content = las_bytes(".laz", point_format)
    (start,) = struct.unpack_from("<I", content, 96)
    (table,) = struct.unpack_from("<q", content, start)
    change(content, start, table)
    (tmp_path / "a.laz").write_bytes(content)
    refused(tmp_path / "a.laz", r"not a readable LAS/LAZ file \(.*\); copy or export it again")


def npy_bytes(shape, version=(1, 0), length=None):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", length or len(header))
    return b"\x93NUMPY" + bytes(version) + size + header.encode() + POINTS.tobytes()


NPY = {
    "many rows": npy_bytes((HUGE, 3)),
    "more rows than integers": npy_bytes((2**62, 3)),
    "a negative length": npy_bytes((-50, 3)),
    "a long header": npy_bytes((50, 3), (2, 0), 2**32 - 1),
    "a cut header": npy_bytes((50, 3))[:40],
    "no header": b"\x93NUMPY\1\0\2\0{(" + bytes(100),
    "an open bracket": npy_bytes((50, 3)).replace(b"(50, 3)", b"((50, 3"),
    "an unknown version": npy_bytes((50, 3), (9, 9)),
}


@pytest.mark.parametrize("content", NPY.values(), ids=NPY)
def test_shapes_of_npy_alone_in_archives_and_for_pointcept(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    refused(tmp_path / "a.npy", r"a\.npy: not a readable NumPy file.*; save plain number arrays")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("xyz.npy", content)
    refused(tmp_path / "a.npz", r"a\.npz: not a readable NumPy file.*; save plain number arrays")
    scene = tmp_path / "train" / "a"
    scene.mkdir(parents=True)
    (scene / "coord.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"coord\.npy: not a readable NumPy array"):
        Pointcept(tmp_path, classes=("wall",)).read("train", "a")


def test_an_archive_that_unpacks_to_a_thousand_times_its_size(tmp_path):
    path = tmp_path / "a.npz"
    content = npy_bytes((4_000_000, 3))[: -POINTS.nbytes] + bytes(4_000_000 * 3 * 8)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xyz.npy", content)
    refused(path, r"a\.npz: not a readable NumPy file.* bytes would unpack to ")


def change(content, old, new):
    assert old in content
    return content.replace(old, new)


DAMAGE = {
    "data": lambda content: content[:200] + b"\xff\xfe" + content[202:],
    "the list of members": lambda content: change(content, b"PK\1\2", b"PK\1\3"),
    "the place of the list": lambda content: content[:-6] + b"\xff\xff\xff\x7f\0\0",
    "encryption": lambda content: change(content, b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"),
    "an unknown compression": lambda content: change(content, b"\x14\0\0\0\x08", b"\x14\0\0\0\x63"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_archives_are_one_line(tmp_path, damage):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xyz.npy", npy_bytes((50, 3)))
    path.write_bytes(damage(path.read_bytes()))
    refused(path, r"a\.npz: not a readable")


def test_python_objects_beside_the_arrays_are_not_opened(tmp_path):
    np.savez(tmp_path / "a.npz", xyz=POINTS, meta=np.array([{"camera": 1}], object))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.npz").coords, POINTS)


def test_other_arrays_that_are_broken_do_not_count(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("xyz.npy", npy_bytes((50, 3)))
        archive.writestr("features.npy", npy_bytes((HUGE, 3)))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.npz").coords, POINTS)


def test_a_file_too_large_for_the_memory_is_one_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    np.save(tmp_path / "a.npy", POINTS)
    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(ValueError, match=r"a\.npy: too large for the memory; cut the scan"):
        read_cloud(pathlib.Path(tmp_path / "a.npy"))
