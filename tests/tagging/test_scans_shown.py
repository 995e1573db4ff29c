import numpy as np
import pytest
from fake_source import FakeSource, box_room, mesh_room

from mprm_jax.config import DataConfig
from mprm_jax.errors import UserError
from mprm_jax.scans.scene import Scene
from mprm_jax.tagging.scans_shown import ShownScans, detail_order, points_of_ball, show_scan

DATA = DataConfig()


def cloud(count, seed=0, size=(6.0, 4.0, 2.0)):
    return (np.random.default_rng(seed).uniform(size=(count, 3)) * size).astype(np.float32)


def shelf(tmp_path, scenes, **settings):
    return ShownScans(FakeSource(tmp_path / "source", scenes), DATA, **settings)


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_the_order_holds_every_point_once(count):
    assert sorted(detail_order(cloud(count))) == list(range(count))


def test_points_in_one_place_have_an_order_too():
    assert sorted(detail_order(np.zeros((50, 3), np.float32))) == list(range(50))


def test_every_start_of_the_order_covers_the_cloud_evenly():
    """Also where a scanner stood near: half of the points lie in a tenth of a meter."""
    coords = np.concatenate([cloud(20_000), cloud(20_000, seed=1, size=(0.1, 0.1, 0.1))])
    ordered = coords[detail_order(coords)]
    for count in (200, 1000, 5000):
        some = ordered[:count]
        cells = np.unique(np.floor(some), axis=0)
        assert len(cells) >= 0.98 * 6 * 4 * 2
        assert np.mean(np.all(some < 0.1, axis=1)) < 0.1


def test_the_order_is_the_same_every_time():
    np.testing.assert_array_equal(detail_order(cloud(500)), detail_order(cloud(500)))


def test_shown_points_are_those_of_the_scan():
    scene = box_room()
    shown = show_scan(scene, 3, DATA)
    np.testing.assert_allclose(shown.coords + shown.origin, scene.coords[shown.rows], atol=1e-6)
    np.testing.assert_array_equal(shown.colors, scene.colors[shown.rows])
    assert sorted(shown.rows) == list(range(len(scene.coords)))


def test_far_coordinates_keep_tenths_of_a_millimeter():
    scene = box_room()
    far = scene._replace(coords=scene.coords + np.array([500_000.25, 4_000_000.5, 80.0]))
    shown = show_scan(far, 3, DATA)
    np.testing.assert_allclose(shown.coords + shown.origin, far.coords[shown.rows], atol=1e-5)
    assert np.abs(shown.coords).max() < 10


def test_meshes_are_covered_with_samples_that_know_their_vertex():
    scene = mesh_room()
    shown = show_scan(scene, 3, DATA)
    assert len(shown.coords) > 10_000
    assert shown.num_points == len(scene.coords)
    assert shown.rows.max() < len(scene.coords)
    on_floor = np.abs(shown.coords[:, 2]) < 1e-6
    np.testing.assert_array_equal(shown.colors[~on_floor][0], [0, 100, 0])


def test_scans_without_colors_are_gray():
    shown = show_scan(box_room()._replace(colors=None), 3, DATA)
    assert not shown.has_colors
    assert (shown.colors == shown.colors[0]).all()


def test_no_ball_is_empty_and_all_lie_on_the_grid():
    shown = show_scan(box_room(size=(5.0, 5.0, 2.5)), 3, DATA)
    for center, radius in zip(*shown.grid, strict=True):
        assert len(points_of_ball(shown, center, radius)) > 0
    assert 0 < len(shown.grid.centers) <= 3 * 3 * 2


def test_a_scan_of_another_unit_is_told_instead_of_a_million_balls():
    scene = box_room()
    with pytest.raises(UserError, match=r"data\.scale"):
        show_scan(scene._replace(coords=scene.coords * 1000), 3, DATA)


def test_points_of_a_ball_are_in_it():
    shown = show_scan(box_room(), 3, DATA)
    center = np.array([1.0, 1.0, 0.5])
    rows = points_of_ball(shown, center, 1.0)
    inside = np.linalg.norm(shown.coords - center[None].astype(np.float32), axis=1) < 1.0
    np.testing.assert_array_equal(np.flatnonzero(inside), rows)


def test_old_scans_are_dropped_when_the_memory_is_full(tmp_path):
    scenes = {f"train/{name}": box_room() for name in "abc"}
    size = show_scan(box_room(), 3, DATA).num_bytes
    scans = shelf(tmp_path, scenes, memory=int(2.5 * size))
    source = scans._source
    for index in (0, 1, 2):
        scans.open(index)
    assert source.num_reads == 3
    scans.open(2)
    scans.open(1)
    assert source.num_reads == 3
    scans.open(0)
    assert source.num_reads == 4


def test_the_next_scan_is_read_ahead(tmp_path):
    scans = shelf(tmp_path, {f"train/{name}": box_room() for name in "ab"})
    scans.read_ahead(1).join()
    assert scans._source.num_reads == 1
    scans.open(1)
    assert scans._source.num_reads == 1
    assert scans.read_ahead(2) is None


def test_nothing_is_read_ahead_in_place_of_the_scan_that_is_looked_at(tmp_path):
    scans = shelf(tmp_path, {f"train/{name}": box_room() for name in "ab"}, memory=1000)
    scans.open(0)
    assert scans.read_ahead(1) is None


def test_a_broken_scan_read_ahead_disturbs_nobody(tmp_path):
    scans = shelf(tmp_path, {"train/a": Scene(np.zeros((0, 3)), None, None, None, None)})
    scans.read_ahead(0).join()
    assert "no points" in scans.broken[0]


def test_a_scan_larger_than_the_memory_is_shown_still(tmp_path):
    scans = shelf(tmp_path, {"train/a": box_room()}, memory=1)
    assert scans.open(0) is scans.open(0)


def test_a_scan_that_cannot_be_read_is_remembered_until_it_can(tmp_path):
    source = FakeSource(tmp_path / "source", {"train/a": box_room()})
    scans = ShownScans(source, DATA)
    source.scenes = {"train/a": Scene(np.zeros((0, 3)), None, None, None, None)}
    with pytest.raises(UserError, match="no points"):
        scans.open(0)
    assert "no points" in scans.broken[0]
    source.scenes = {"train/a": box_room()}
    scans.open(0)
    assert not scans.broken


def test_the_grid_is_that_of_the_scan_with_any_voxel_size():
    coords = np.random.default_rng(0).uniform(0, (5, 4, 2.5), (4000, 3))
    scene = Scene(coords, None, None, None, None)
    grids = [
        show_scan(scene, 3, DataConfig(voxel_size=voxel_size)).grid for voxel_size in (0.04, 0.16)
    ]
    np.testing.assert_array_equal(grids[0].centers, grids[1].centers)
