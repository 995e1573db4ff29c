"""Tiny packed pyramids by brute force, independent of `mprm_jax.geometry`."""

from typing import NamedTuple

import numpy as np

from mprm_jax.types import PointPyramid


class Bucket(NamedTuple):
    """What a network reads."""

    pyramid: PointPyramid
    features: np.ndarray  # [T_0, 4]


def surface_cloud(num_points: int, seed: int) -> np.ndarray:
    """[num_points, 3] float32 meters: a floor and a wall, so that lists have very unequal sizes."""
    rng = np.random.default_rng((seed, num_points))
    points = rng.uniform(-0.3, 0.3, (num_points, 3))
    points[: num_points // 2, 2] = -0.3
    points[num_points // 2 :, 0] = -0.3
    return points.astype(np.float32)


def pack(
    clouds: list[np.ndarray],
    rows: tuple[int, ...] = (96, 48, 24),
    *,
    num_clouds: int = 3,
    width: int = 12,
    voxel_size: float = 0.08,
) -> PointPyramid:
    """Packs clouds into a bucket with `rows` per level.

    Level 0 keeps the points as given; coarser cells double. Lists reach 2.5 cells.
    """
    levels = [[np.asarray(cloud, np.float32) for cloud in clouds]]
    for level in range(1, len(rows)):
        levels.append([_coarsen(cloud, voxel_size * 2**level) for cloud in levels[-1]])
    sizes = [[len(cloud) for cloud in level] for level in levels]
    if any(sum(size) > cap for size, cap in zip(sizes, rows, strict=True)):
        raise ValueError(f"Rows {sizes} exceed {rows}.")
    radii = [2.5 * voxel_size * 2**level for level in range(len(rows))]
    coarse = range(len(rows) - 1)
    pyramid = PointPyramid(
        points=tuple(
            _pad(np.concatenate(level), cap, 0) for level, cap in zip(levels, rows, strict=True)
        ),
        clouds=tuple(
            _pad(np.repeat(np.arange(len(clouds)), size), cap, num_clouds)
            for size, cap in zip(sizes, rows, strict=True)
        ),
        neighbors=tuple(
            _lists(levels[i], levels[i], rows[i], rows[i], radii[i], width)
            for i in range(len(rows))
        ),
        pools=tuple(
            _lists(levels[i + 1], levels[i], rows[i + 1], rows[i], radii[i], width) for i in coarse
        ),
        upsamples=tuple(
            _lists(levels[i], levels[i + 1], rows[i], rows[i + 1], np.inf, 1)[:, 0] for i in coarse
        ),
        real=np.arange(num_clouds) < len(clouds),
    )
    return _int32(pyramid)


def bucket(clouds: list[np.ndarray], num_clouds: int = 3, **caps) -> Bucket:
    """Packs clouds; the color of a point is a function of where it is."""
    pyramid = pack(clouds, num_clouds=num_clouds, **caps)
    points = pyramid.points[0]
    colors = np.concatenate([np.ones((len(points), 1)), np.sin(20 * points) ** 2], axis=1)
    valid = pyramid.clouds[0] < num_clouds
    return Bucket(pyramid, (colors * valid[:, None]).astype(np.float32))


def widened(full: Bucket) -> Bucket:
    """With two more empty slots in each list."""

    def widen(lists: np.ndarray, shadow: int) -> np.ndarray:
        return np.pad(lists, ((0, 0), (0, 2)), constant_values=shadow)

    pyramid = full.pyramid
    rows = [len(points) for points in pyramid.points]
    lists = {
        "neighbors": tuple(map(widen, pyramid.neighbors, rows)),
        "pools": tuple(map(widen, pyramid.pools, rows)),
    }
    return full._replace(pyramid=pyramid._replace(**lists))


def emptied(full: Bucket) -> Bucket:
    """The same shapes, but nothing except padding."""
    pyramid = full.pyramid
    rows = [len(points) for points in pyramid.points]
    padding = PointPyramid(
        points=tuple(points * 0 for points in pyramid.points),
        clouds=tuple(np.full_like(clouds, pyramid.num_clouds) for clouds in pyramid.clouds),
        neighbors=tuple(map(np.full_like, pyramid.neighbors, rows)),
        pools=tuple(map(np.full_like, pyramid.pools, rows)),
        upsamples=tuple(map(np.full_like, pyramid.upsamples, rows[1:])),
        real=np.zeros_like(pyramid.real),
    )
    return full._replace(pyramid=padding, features=full.features * 0)


def _coarsen(points: np.ndarray, cell: float) -> np.ndarray:
    cells = np.floor(points / cell).astype(int)
    return np.stack([points[(cells == c).all(1)].mean(0) for c in np.unique(cells, axis=0)])


def _lists(queries, supports, num_rows, shadow, radius, width) -> np.ndarray:
    """Row indices of the nearest `width` supports within `radius`, cloud by cloud."""
    lists, start = np.full((num_rows, width), shadow, np.int32), 0
    row = 0
    for cloud, support in zip(queries, supports, strict=True):
        for query in cloud:
            distances = np.linalg.norm(support - query, axis=1)
            order = np.argsort(distances)[:width]
            order = order[distances[order] < radius]
            lists[row, : len(order)] = start + order
            row += 1
        start += len(support)
    return lists


def _pad(values: np.ndarray, num_rows: int, fill) -> np.ndarray:
    padding = np.full((num_rows - len(values), *values.shape[1:]), fill, values.dtype)
    return np.concatenate([values, padding])


def _int32(pyramid: PointPyramid) -> PointPyramid:
    return pyramid._replace(clouds=tuple(np.asarray(c, np.int32) for c in pyramid.clouds))
