"""Data sets are opened by kind and path."""

import re

import numpy as np
import pytest
from scan_folders import COORDS, write_folder

from mprm_jax.store.datasets import open_source


@pytest.fixture
def root(tmp_path):
    """Two scans and tags of one, which a test may overwrite."""
    write_folder(tmp_path)
    return tmp_path


def test_a_specification_opens_its_reader(root):
    source = open_source(f"folder:{root}", scale=0.5)
    assert source.name == "folder"
    np.testing.assert_array_equal(source.read("train", "office").coords, COORDS / 2)


@pytest.mark.parametrize("kind", ["scannet", "s3dis", "pointcept"])
def test_each_kind_looks_for_its_own_layout(root, kind):
    with pytest.raises(FileNotFoundError, match=rf"--data {kind}:/path"):
        open_source(f"{kind}:{root}")


@pytest.mark.parametrize("spec", ["scans:/data", "/data", "folder:", "C:\\data"])
def test_an_unknown_specification_names_the_valid_ones(spec):
    with pytest.raises(
        ValueError, match=r"unknown data set; valid are rooms, scannet:PATH, .*folder:PATH"
    ):
        open_source(spec)


def test_a_bare_folder_names_what_to_write(root):
    with pytest.raises(ValueError, match=rf"--data folder:{re.escape(str(root))}\.$"):
        open_source(str(root))


def test_a_missing_path_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; check the path"):
        open_source(f"folder:{tmp_path / 'nowhere'}")


def test_a_scale_belongs_to_folders_only(root):
    with pytest.raises(ValueError, match=r"scannet is in meters; leave data\.scale at 1"):
        open_source(f"scannet:{root}", scale=0.001)
