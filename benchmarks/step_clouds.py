"""Clouds of the speed benchmarks as tagged balls: rooms made in memory, or the user's cloud."""

import pathlib

import numpy as np

from mprm_jax.batches.balls import Balls, Places
from mprm_jax.config import Config
from mprm_jax.geometry.balls import ball_rows, grid_seeds
from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.geometry.voxels import voxel_grid, voxel_means
from mprm_jax.rooms.generate import scan_scene
from mprm_jax.store.scenes import CloudArrays, LooseClouds
from mprm_jax.types import Array

NUM_CLASSES = 20
_NUM_BOXES, _NOISE = 25, 0.005  # meters, of a depth camera nearby
_POINTS_A_VOXEL = 3
_TAGGED_SHARE = 0.18  # of the classes of a ball; the time of a step does not depend on it


class BenchmarkBalls(Balls):
    """Balls of loose clouds, tagged at random."""

    def tags_of(self, index: int) -> Array:
        return np.random.default_rng((4, index)).random(self.num_classes) < _TAGGED_SHARE


def read_clouds(
    path: pathlib.Path | None, rooms: str, num_scenes: int, voxel_size: float
) -> LooseClouds:
    """One point per voxel of the cloud in a file, or of made rooms if there is none.

    Args:
      path: `.npz` with `points` [N, 3] in meters and `colors` [N, 3], bytes or in [0, 1].
      rooms: size of Rooms, which says how fine scans are; or "boxes", made in no time.
      voxel_size: meters.

    Raises:
      ValueError: the file lacks an array, or they do not fit each other.
    """
    if path is not None:
        return LooseClouds({path.stem: _voxels(*_read(path), voxel_size)}, str(path))
    if rooms == "boxes":
        surfaces = [
            box_room(np.random.default_rng(index), voxel_size) for index in range(num_scenes)
        ]
        return LooseClouds(
            {f"boxes{i}": _voxels(*surface, voxel_size) for i, surface in enumerate(surfaces)},
            rooms,
        )
    scans = [scan_scene(rooms, 0, index) for index in range(num_scenes)]
    clouds = [_voxels(scan.points, scan.colors, voxel_size) for scan in scans]
    return LooseClouds({f"room{i}": cloud for i, cloud in enumerate(clouds)}, "rooms")


def box_room(rng: np.random.Generator, voxel_size: float) -> tuple[Array, Array]:
    """Points and colors of the faces of a room and of boxes in it, as dense as voxels need."""
    room = np.array([8.0, 6.0, 2.7])
    sizes = rng.uniform(0.3, 1.2, (_NUM_BOXES, 3))
    corners = rng.uniform(0, room - sizes)
    corners[:, 2] = 0
    points, colors = [], []
    for corner, size in zip([np.zeros(3), *corners], [room, *sizes], strict=True):
        for axis in range(3):
            area = np.prod(np.delete(size, axis))
            found = rng.uniform(0, size, (2 * int(_POINTS_A_VOXEL * area / voxel_size**2), 3))
            found[:, axis] = size[axis] * rng.integers(0, 2, len(found))
            points.append(corner + found + rng.normal(0, _NOISE, found.shape))
            colors.append(np.broadcast_to(rng.integers(0, 256, 3), found.shape))
    return np.concatenate(points), np.concatenate(colors).astype(np.uint8)


def training_balls(clouds: LooseClouds, config: Config) -> BenchmarkBalls:
    """The balls of the classification stage."""
    parts = []
    for scene in range(len(clouds.scenes)):
        coords = clouds.cloud(scene).coords
        seeds = grid_seeds(coords, config.data.sphere_radius, config.data.seeds)
        parts.append(seeds.astype(np.float32))
    scene_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    centers = np.concatenate(parts)
    radii = np.full(len(centers), config.data.sphere_radius)
    return _balls(clouds, config, scene_of, centers, radii)


def sized_balls(clouds: LooseClouds, config: Config, num_points: int, count: int) -> BenchmarkBalls:
    """Balls around random voxels, with radii such that each holds `num_points` voxels.

    Raises:
      ValueError: no cloud has that many.
    """
    large = [i for i in range(len(clouds.scenes)) if clouds.num_voxels(i) > num_points]
    if not large:
        raise ValueError(f"{clouds.origin}: no cloud has {num_points} voxels; give fewer points.")
    rng = np.random.default_rng(5)
    scene_of = np.sort(rng.choice(large, count))
    centers, radii = [], []
    for scene in scene_of:
        coords = clouds.cloud(scene).coords
        center = coords[rng.integers(len(coords))]
        distances, _ = make_tree(coords).query(center, k=num_points + 1)
        centers.append(center)
        radii.append((distances[-2] + distances[-1]) / 2)
    return _balls(clouds, config, scene_of, np.stack(centers), np.array(radii))


def _balls(
    clouds: LooseClouds, config: Config, scene_of: Array, centers: Array, radii: Array
) -> BenchmarkBalls:
    """Those of the balls that hold a point."""
    trees = [make_tree(clouds.cloud(scene).coords) for scene in range(len(clouds.scenes))]
    sizes = np.array(
        [
            len(ball_rows(clouds.cloud(scene).coords, trees[scene], center, radius))
            for scene, center, radius in zip(scene_of, centers, radii, strict=True)
        ]
    )
    kept = sizes > 0
    places = Places(scene_of[kept], centers[kept], radii[kept], sizes[kept])
    return BenchmarkBalls(clouds, places, NUM_CLASSES, config)


def _read(path: pathlib.Path) -> tuple[Array, Array]:
    with np.load(path, allow_pickle=False) as arrays:
        missing = {"points", "colors"} - {*arrays}
        if missing:
            raise ValueError(f"{path}: lacks {', '.join(sorted(missing))}; store points, colors.")
        points, colors = arrays["points"], arrays["colors"]
    if points.shape != colors.shape or points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(
            f"{path}: points {points.shape} and colors {colors.shape}; both must be [N, 3]."
        )
    if np.issubdtype(colors.dtype, np.floating):
        colors = np.round(255 * np.clip(colors, 0, 1))
    return points, colors.astype(np.uint8)


def _voxels(points: Array, colors: Array, voxel_size: float) -> CloudArrays:
    points = points - points.min(axis=0)[None]
    grid = voxel_grid(points, voxel_size)
    means = (voxel_means(values.astype(np.float64), grid) for values in (points, colors))
    coords, shades = means
    return CloudArrays(coords.astype(np.float32), np.round(shades).astype(np.uint8))
