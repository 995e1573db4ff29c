"""What a camera sees, what is lost and what is kept, beside naive loops; the content is as ever."""

import hashlib

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from mprm_jax.rooms.generate import scan_scene, write_scan
from mprm_jax.rooms.materials import smooth_noise
from mprm_jax.rooms.mesh import Mesh, have_area
from mprm_jax.rooms.scan import Habit, holes, kept, seen

# Of version 2: vertices, faces, and what `_content` gives. Points count by tenths of a millimeter:
# another processor may differ in their last bits.
CONTENT = {
    0: (12322, 14621, "b832326cf814cd0b"),
    3: (10759, 13598, "21365289d3ed6e5c"),
    6: (8375, 10692, "2115111aad4cbbc6"),
}


def _content(scan):
    whole = np.round(scan.points.astype(float) * 1e4).astype(np.int32)
    arrays = (whole, scan.colors, scan.faces, scan.segments.astype(np.int32))
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays))
    digest.update(repr(scan.groups).encode())
    return len(scan.points), len(scan.faces), digest.hexdigest()[:16]


@pytest.mark.parametrize("index", CONTENT)
def test_the_content_of_this_version_is_as_it_was(index):
    assert _content(scan_scene("tiny", 0, index)) == CONTENT[index]


def test_a_mesh_is_written_as_another_writer_does(tmp_path):
    scan = scan_scene("tiny", 0, 0)
    write_scan(tmp_path, "ours", scan, annotated=False)
    fields = [(axis, "<f4") for axis in "xyz"]
    fields += [(color, "u1") for color in ("red", "green", "blue", "alpha")]
    rows = zip(*scan.points.T, *scan.colors.T, np.full(len(scan.points), 255), strict=True)
    faces = np.empty(len(scan.faces), [("vertex_indices", "<i4", (3,))])
    faces["vertex_indices"] = scan.faces
    elements = [PlyElement.describe(np.array(list(rows), fields), "vertex")]
    elements.append(PlyElement.describe(faces, "face"))
    PlyData(elements, byte_order="<").write(str(tmp_path / "theirs.ply"))
    ours = tmp_path / "ours_vh_clean_2.ply"
    assert ours.read_bytes() == (tmp_path / "theirs.ply").read_bytes()


def _wall_and_screen(rng):
    """A wall, a smaller screen before a part of it, and points anywhere, all facing anyhow."""
    wall = np.column_stack([rng.uniform(-2, 2, 900), np.full(900, 2.0), rng.uniform(0, 2.4, 900)])
    screen = np.column_stack(
        [rng.uniform(-0.5, 0.5, 300), np.full(300, 1.0), rng.uniform(1, 2, 300)]
    )
    points = np.concatenate([wall, screen, rng.uniform(-3, 3, (300, 3))])
    normals = np.concatenate([np.tile([0.0, -1, 0], (1200, 1)), rng.normal(size=(300, 3))])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(points, normals, np.zeros((0, 3), int), np.zeros(1500, int))


def _seen_by_loops(mesh, thin, cameras, habit):
    """One vertex after the other, each against all others in its cells of the depth maps."""
    found = np.zeros(len(mesh.points), bool)
    for camera in cameras:
        view = mesh.points - camera
        distance = np.linalg.norm(view, axis=1)
        up, around = np.arcsin(view[:, 2] / distance), np.arctan2(view[:, 1], view[:, 0])
        for i in range(len(view)):
            facing = -view[i] @ mesh.normals[i] / distance[i]
            facing = abs(facing) if thin[i] else facing
            turn = abs((around[i] - habit.away + np.pi) % (2 * np.pi) - np.pi)
            looked = up[i] < habit.highest and turn >= habit.blind and mesh.points[i, 2] < habit.top
            if not looked or facing <= 0.15 or distance[i] >= habit.reach:
                continue
            nearest = []
            for degrees, drawn in ((6.0, distance < 1.3), (2.2, distance < np.inf)):
                cell = np.radians(degrees)
                same = np.floor((up + np.pi / 2) / cell) == np.floor((up[i] + np.pi / 2) / cell)
                same &= np.floor((around + np.pi) / cell) == np.floor((around[i] + np.pi) / cell)
                slant = min(distance[i] * cell * np.sqrt(1 - facing**2) / facing, 0.6)
                nearest.append(distance[same & drawn].min(initial=np.inf) + 0.06 + slant)
            found[i] |= distance[i] <= min(nearest)
    return found


@pytest.mark.parametrize("habit", [
    Habit(0.6, np.inf, 0.0, 0.0, 5.5, np.inf),
    Habit(0.3, 1.8, 1.2, 0.6, 2.4, 2.0),
], ids=["thorough", "hasty"])  # fmt: skip
def test_what_is_seen_matches_the_naive_loop(habit):
    rng = np.random.default_rng(0)
    mesh, thin = _wall_and_screen(rng), rng.random(1500) < 0.3
    cameras = np.array([[0.1, -0.8, 1.4], [-1.1, -0.3, 1.6]])
    found = seen(mesh, thin, cameras, habit)
    np.testing.assert_array_equal(found, _seen_by_loops(mesh, thin, cameras, habit))
    assert 0 < found.sum() < len(found)


def test_a_wall_behind_a_screen_is_hidden():
    mesh = _wall_and_screen(np.random.default_rng(0))
    habit = Habit(0.6, np.inf, 0.0, 0.0, 5.5, np.inf)
    found = seen(mesh, np.zeros(1500, bool), np.array([[0.0, -0.5, 1.5]]), habit)
    x, y, z = mesh.points[:1200].T
    behind = (y == 2) & (np.abs(x) < 0.6) & (np.abs(z - 1.5) < 0.4)
    beside = (y == 2) & (np.abs(x) > 1.2)
    # The screen is made of points, with a few gaps between them.
    assert found[:1200][behind].mean() < 0.5
    assert found[:1200][beside].mean() > 0.9


def test_surfaces_that_hide_nothing_lose_only_patches():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 3, (4000, 3))
    glass = np.where(points[:, 0] < 1.5, 0.6, 0.0)
    lost = holes(points, glass, np.random.default_rng(1))
    expected = 0.5 + 0.5 * np.tanh(1.3 * smooth_noise(points / 0.5, np.random.default_rng(1)))
    assert lost[expected < 1.05 * glass].all()
    assert lost[glass > 0].mean() > 2 * lost[glass == 0].mean() > 0


def test_noise_of_many_points_is_that_of_each_of_them():
    points = np.random.default_rng(0).normal(size=(20_000, 3))
    whole = smooth_noise(points, np.random.default_rng(1))
    rows = [0, 8191, 8192, 19_999]
    part = smooth_noise(points[rows], np.random.default_rng(1))
    np.testing.assert_allclose(whole[rows], part, rtol=0, atol=1e-13)  # vector and scalar sines
    assert 0.2 < whole.std() < 1.0 and len(np.unique(whole)) > 19_000


def test_triangles_without_area_are_told_from_others():
    points = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 1e-8]], float)
    faces = np.array([[0, 1, 3], [0, 1, 2], [0, 0, 3], [0, 1, 4], [3, 2, 1]])
    many = np.tile(faces, (4000, 1))
    np.testing.assert_array_equal(have_area(points, faces), [True, False, False, False, True])
    np.testing.assert_array_equal(have_area(points, many), np.tile(have_area(points, faces), 4000))


def test_kept_vertices_are_corners_of_kept_triangles():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [2, 0, 0], [9, 9, 9]], float)
    faces = np.array([[0, 1, 2], [1, 3, 2], [0, 1, 4]])
    normals = np.tile([0.0, 0, 1], (6, 1))
    mesh = kept(Mesh(points, normals, faces, np.arange(6)), np.array([1, 1, 1, 0, 1, 1], bool))
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2]])
    np.testing.assert_array_equal(mesh.parts, [0, 1, 2])
    np.testing.assert_array_equal(mesh.points, points[:3])
