"""The released archive: what it holds, what is refused, and training from it without labels."""

import numpy as np
import pytest
from fake_source import FakeSource, box_room

from mprm_jax.config import DataConfig
from mprm_jax.errors import UserError
from mprm_jax.evidence.archive import ArchiveTags, archive_files, count_grid_seeds, read_archive
from mprm_jax.scans.scannet import CLASSES
from mprm_jax.store.prepare import prepare

DATA = DataConfig(voxel_size=0.16, sphere_radius=1.0)


def write_archive(path, centers, tags, unannotated=1.0):
    """One file in the released form."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bits = np.concatenate([np.full((len(centers), 1), unannotated), tags], axis=1)
    np.save(path, np.concatenate([centers, bits], axis=1))


def some_tags(num_balls):
    tags = np.zeros((num_balls, len(CLASSES)))
    tags[:, 0] = 1
    tags[0, 19] = 1
    return tags


def test_columns_are_center_unannotated_and_classes(tmp_path):
    path = tmp_path / "scene0000_00.npy"
    write_archive(path, np.array([[0, 1, 2], [3, 4, 5.5]]), some_tags(2))
    labels = read_archive(path)
    np.testing.assert_array_equal(labels.centers, [[0, 1, 2], [3, 4, 5.5]])
    assert labels.unannotated.all()
    assert np.flatnonzero(labels.tags[0]).tolist() == [0, 19]
    assert np.flatnonzero(labels.tags[1]).tolist() == [0]


def test_the_full_grid_is_found_from_the_filled_balls():
    axes = np.meshgrid([-0.01, 2.1, 4.2], [0, 2.5], [0.0, 2.2], indexing="ij")
    grid = np.stack(axes, axis=-1).reshape(-1, 3)
    assert count_grid_seeds(grid) == 12
    assert count_grid_seeds(np.delete(grid, [1, 6], axis=0)) == 12


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((3, 21)), "expected \\(n, 24\\)"),
        (np.zeros((0, 24)), "expected \\(n, 24\\)"),
        (np.full((2, 24), 0.5), "must be 0 or 1"),
        (np.full((2, 24), np.nan), "not all finite"),
        (np.full((2, 24), "a"), "not all finite"),
    ],
)
def test_other_arrays_are_refused(tmp_path, rows, message):
    np.save(tmp_path / "scene.npy", rows)
    with pytest.raises(ValueError, match=message):
        read_archive(tmp_path / "scene.npy")


def test_pickles_and_cut_files_are_refused(tmp_path):
    np.save(tmp_path / "pickle.npy", np.array([{}, None], object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00")
    for name in ("pickle.npy", "cut.npy"):
        with pytest.raises(ValueError, match="not an array file"):
            read_archive(tmp_path / name)


def test_a_folder_without_arrays_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="unpack"):
        archive_files(tmp_path)


def unlabeled_source(tmp_path):
    room = box_room()._replace(labels=None)
    scenes = {"train/a": room, "test/t": room}
    return FakeSource(tmp_path / "scans", scenes, classes=CLASSES)


def test_scans_without_point_labels_get_their_tags_from_the_archive(tmp_path):
    centers = np.array([[0.1, 0, 0], [3, 2.5, 0]])
    write_archive(tmp_path / "tags" / "a.npy", centers, some_tags(2))
    source = ArchiveTags(unlabeled_source(tmp_path), tmp_path / "tags", 1.0)
    store = prepare(source, tmp_path / "store", DATA, tags="archive:tags", workers=0).store
    weak = store.weak_labels("train", "a")
    np.testing.assert_allclose(weak.centers, centers, rtol=1e-6)
    np.testing.assert_array_equal(weak.radii, [1, 1])
    assert weak.tags[0, 19]
    assert len(store.weak_labels("test", "t").centers) == 0
    assert store.manifest.settings.tags == "archive:tags"


def test_a_training_scan_missing_in_the_archive_is_broken(tmp_path):
    write_archive(tmp_path / "tags" / "other.npy", np.zeros((1, 3)), some_tags(1))
    source = ArchiveTags(unlabeled_source(tmp_path), tmp_path / "tags", 1.0)
    with pytest.raises(ValueError, match=r"a\.npy: missing"):
        prepare(source, tmp_path / "store", DATA, workers=0)


def test_other_classes_than_the_archive_s_are_refused(tmp_path):
    source = FakeSource(tmp_path / "scans", {"train/a": box_room()})
    with pytest.raises(ValueError, match="20 ScanNet classes"):
        ArchiveTags(source, tmp_path, 1.0)


def test_an_archive_of_arrays_in_place_of_one_is_refused(tmp_path):
    np.savez(tmp_path / "scene.npz", np.zeros((2, 24)))
    (tmp_path / "scene.npz").rename(tmp_path / "scene.npy")
    with pytest.raises(UserError, match=r"not an array file \(.*\); unpack"):
        read_archive(tmp_path / "scene.npy")


def test_names_of_an_archive_compare_in_one_unicode_form(tmp_path):
    np.save(tmp_path / "bu\u0308ro.npy", np.zeros((2, 24)))
    assert list(archive_files(tmp_path)) == ["b\u00fcro"]
