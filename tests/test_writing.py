"""Files are whole or not there, and a failed write is one line."""

import errno
import pathlib

import pytest

from mprm_jax.writing import FailedWriteError, explain_failed_write, whole_file, write_whole


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    write_whole(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "file", "\ud800")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_nothing_and_is_one_line(tmp_path):
    with pytest.raises(FailedWriteError) as error, whole_file(tmp_path / "file") as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(error.value).startswith(f"{tmp_path / 'file'}: cannot be written (No space left")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OSError, match="nowhere/file: cannot be written"):
        write_whole(tmp_path / "nowhere" / "file", "text")


def test_the_file_inside_is_the_one_that_is_named():
    outer, inner = map(explain_failed_write, (pathlib.Path("outer"), pathlib.Path("inner")))
    with pytest.raises(OSError) as error, outer, inner:
        raise OSError("3 requested and 2 written")
    assert str(error.value).startswith("inner: cannot be written (3 requested")
