"""A header that promises fewer points than the file holds: a warning says that the rest is cut."""

import struct

import laspy
import numpy as np
import pytest

from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.notes import MORE_POINTS

POINTS = np.random.default_rng(0).uniform(0, 3, (60, 3)).round(2)
TEXT = "".join(f"{x} {y} {z}\n" for x, y, z in POINTS).encode()
BINARY = POINTS.astype("<f4").tobytes()


def ply(order, count, body):
    axes = "".join(f"property float {axis}\n" for axis in "xyz")
    return f"ply\nformat {order} 1.0\nelement vertex {count}\n{axes}end_header\n".encode() + body


def pcd(encoding, count, body):
    header = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
    return f"{header}WIDTH {count}\nHEIGHT 1\nPOINTS {count}\nDATA {encoding}\n".encode() + body


def las(path, count):
    """A file of 60 points whose header says `count`."""
    cloud = laspy.LasData(laspy.LasHeader(point_format=0, version="1.2"))
    cloud.x, cloud.y, cloud.z = POINTS.T
    cloud.write(path)
    data = bytearray(path.read_bytes())
    data[107:111] = struct.pack("<I", count)
    path.write_bytes(data)


FILES = {
    "ascii.ply": lambda count: ply("ascii", count, TEXT),
    "binary.ply": lambda count: ply("binary_little_endian", count, BINARY),
    "ascii.pcd": lambda count: pcd("ascii", count, TEXT),
    "binary.pcd": lambda count: pcd("binary", count, BINARY),
}


@pytest.mark.parametrize("count", [60, 20])
@pytest.mark.parametrize("name", [*FILES, "a.las"])
def test_points_beyond_the_promise_are_a_warning(tmp_path, name, count):
    path = tmp_path / name
    if name == "a.las":
        las(path, count)
    else:
        path.write_bytes(FILES[name](count))
    cloud = read_cloud(path)
    np.testing.assert_allclose(cloud.coords, POINTS[:count], atol=0.01)
    assert (MORE_POINTS in cloud.notes) == (count < 60)


@pytest.mark.parametrize("end", [b"\n", b"\n\n  \n", b""])
def test_blank_lines_at_the_end_are_no_points(tmp_path, end):
    for name in ("ascii.ply", "ascii.pcd"):
        (tmp_path / name).write_bytes(FILES[name](60) + end)
        assert MORE_POINTS not in read_cloud(tmp_path / name).notes
