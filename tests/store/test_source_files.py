"""Files are looked at before they are read: headers of any length, tables that scenes share."""

import pathlib

import pytest
from cloud_files import vertices, write_ply

from mprm_jax.store.prepare import check_files, stamp_files


@pytest.fixture
def scan(tmp_path):
    write_ply(tmp_path / "scan.ply", vertices())
    return tmp_path / "scan.ply"


def test_a_long_header_is_read_to_its_end(scan):
    first, rest = scan.read_bytes().split(b"\n", 1)
    whole = first + b"\n" + b"comment element vertex 999999\n" * 3000 + rest
    scan.write_bytes(whole)
    check_files([str(scan)])
    scan.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match="it was cut off"):
        check_files([str(scan)])


def test_an_end_of_the_header_with_blanks_is_one(scan):
    scan.write_bytes(scan.read_bytes().replace(b"end_header\n", b"end_header \r\n"))
    check_files([str(scan)])


@pytest.mark.parametrize("text", [b"", b"\n" * 100, b"format", b"comment " + b"x" * (1 << 25)])
def test_a_header_without_an_end_is_one_line(scan, text):
    scan.write_bytes(b"ply\n" + text)
    with pytest.raises(ValueError, match=r"scan\.ply: no PLY header: .*: export or download"):
        check_files([str(scan)])


def test_a_table_that_scenes_share_is_read_once(scan, monkeypatch):
    reads, read = [], pathlib.Path.read_bytes
    monkeypatch.setattr(
        pathlib.Path, "read_bytes", lambda path: (reads.append(path), read(path))[1]
    )
    stamps = [stamp_files([str(scan)]) for _ in range(3)]
    assert stamps[0] == stamps[1] == stamps[2] and len(reads) == 1
