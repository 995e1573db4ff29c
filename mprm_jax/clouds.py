"""Clouds as networks read them, for notebooks and training loops of one's own.

voxels = voxelize(coords, 0.04, colors)  # colors in [0, 1]
levels = pyramid(voxels.coords, voxel_size=0.04, num_levels=3)
features = np.column_stack([np.ones(len(voxels.coords)), voxels.colors])
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32, Real

from mprm_jax.batches.packing import BucketShape, Cloud, pack
from mprm_jax.errors import UserError
from mprm_jax.geometry.pyramid import (
    Capacities,
    CloudPyramid,
    PyramidSpec,
    build_pyramid,
    most_candidates,
    neighbor_counts,
)
from mprm_jax.geometry.voxels import voxel_grid, voxel_means
from mprm_jax.ops.pyramid import build_bucket_pyramid
from mprm_jax.types import IGNORED, Array, PointPyramid


class Voxels(NamedTuple):
    """One point for every occupied voxel of a cloud."""

    coords: Float32[Array, "V 3"]  # meters, means of the points of a voxel
    colors: Float32[Array, "V C"] | None  # means
    point_voxel: Int32[Array, " N"]  # voxel of each point


def voxelize(
    coords: Real[Array, "N 3"],
    voxel_size: float = 0.04,
    colors: Real[Array, "N C"] | None = None,
) -> Voxels:
    """Reduces a cloud to the barycenters of its voxels.

    Args:
      coords: meters, finite.
      voxel_size: meters.
      colors: of the points; networks read them in [0, 1].

    Raises:
      ValueError: an array of another shape, a point that is not finite, or too many voxels.

    >>> voxelize(np.array([[0.01, 0, 0], [0.03, 0, 0], [0.5, 0, 0]])).point_voxel
    array([0, 0, 1], dtype=int32)
    """
    coords = _checked(coords)
    if not voxel_size > 0:
        raise UserError(f"voxel_size is {voxel_size}; give meters above 0.")
    if colors is not None and np.shape(colors)[:1] != (len(coords),):
        raise UserError(f"colors has shape {np.shape(colors)} for {len(coords)} points.")
    grid = voxel_grid(coords, voxel_size)
    means = None if colors is None else voxel_means(np.asarray(colors), grid).astype(np.float32)
    return Voxels(voxel_means(coords, grid).astype(np.float32), means, grid.inverse)


def pyramid(
    coords: Real[Array, "N 3"] | Sequence[Real[Array, "_ 3"]],
    voxel_size: float = 0.04,
    num_levels: int = 3,
    *,
    conv_radius: float = 2.5,
    deform_radius: float = 5.0,
    first_deformable: int | None = 1,
    max_neighbors: int | None = None,
    rows: tuple[int, ...] | None = None,
    builder: str = "host",
) -> PointPyramid:
    """Builds the resolutions of clouds, and the lists that connect them.

    Without `rows` and `max_neighbors` the pyramid is just as large as its clouds need: another size
    for other clouds, for which a jitted function compiles again. With both, sizes are fixed.

    Args:
      coords: meters, at most one point per voxel (see `voxelize`) and near the origin, or several
        such clouds, which never see each other.
      voxel_size: meters, of level 0; doubles from level to level.
      conv_radius: reach of rigid kernels, in voxels of their level.
      deform_radius: the same of deformable kernels.
      first_deformable: level from which on kernels deform, as in `ModelConfig`; None: no level.
      max_neighbors: width of every list: farther neighbors are cut, empty slots are padding. None:
        as wide as the longest.
      rows: of each level; what the clouds leave is padding.
      builder: "host" uses NumPy and SciPy and returns NumPy arrays; "device" runs on JAX's default
        device.

    Raises:
      ValueError: a cloud is empty, not finite or of another shape, or needs more rows than given; a
        size is not positive.

    Source: Wei et al. 2020, 5.2; mprm `datasets/common.py`.

    >>> cloud = np.random.default_rng(0).uniform(0, 0.4, (100, 3))
    >>> found = pyramid(voxelize(cloud).coords, num_levels=2)
    >>> len(found.points), found.num_clouds
    (2, 1)
    """
    clouds = [_checked(x).astype(np.float32) for x in (coords if _is_list(coords) else [coords])]
    for name, value in (("voxel_size", voxel_size), ("num_levels", num_levels)):
        if not value > 0:
            raise UserError(f"{name} is {value}; give a value above 0.")
    if rows is not None and np.shape(rows) != (num_levels,):
        raise UserError(f"rows is {rows}; give one number for each of {num_levels} levels.")
    if builder not in ("host", "device"):
        raise UserError(f"builder is {builder!r}; choose host or device.")
    first = num_levels if first_deformable is None else first_deformable
    reach = [deform_radius if level >= first else conv_radius for level in range(num_levels)]
    radii = tuple(voxel_size * 2**level * r for level, r in enumerate(reach))
    spec = PyramidSpec(voxel_size, radii, radii[:-1], (), ())
    build = _on_device if builder == "device" else _on_host
    return build(clouds, spec, max_neighbors, rows)


def _is_list(coords: Array | Sequence[Array]) -> bool:
    return isinstance(coords, (list, tuple)) and len(coords) > 0 and np.ndim(coords[0]) == 2


def _checked(coords: Array) -> Array:
    """One cloud; raises `ValueError` if it is none."""
    coords = np.asarray(coords)
    if coords.ndim != 2 or coords.shape[1] != 3 or not len(coords):
        raise UserError(f"a cloud has shape {coords.shape}; give [N, 3] with N >= 1.")
    bad = np.flatnonzero(~np.isfinite(coords).all(axis=1))
    if len(bad):
        raise UserError(f"{len(bad)} points are not finite, the first is {bad[0]}; remove them.")
    return coords


def _on_host(
    clouds: list[Array], spec: PyramidSpec, most: int | None, rows: tuple[int, ...] | None
) -> PointPyramid:
    counts = [neighbor_counts(cloud, spec) for cloud in clouds]
    convs, pools = (
        tuple(_width([int(np.max(x)) for x in level], most) for level in zip(*kind, strict=True))
        for kind in zip(*counts, strict=True)
    )
    spec = spec._replace(conv_neighbors=convs, pool_neighbors=pools)
    built = [build_pyramid(cloud, spec) for cloud in clouds]
    needed = tuple(sum(map(len, level)) for level in zip(*(x.points for x in built), strict=True))
    shape = BucketShape(_rows(needed, rows), len(clouds), convs, pools, 0, 0)
    return pack([_bare(cloud) for cloud in built], shape).batch.pyramid


def _bare(cloud: CloudPyramid) -> Cloud:
    """A cloud with neither features nor tags."""
    num_points = len(cloud.points[0])
    labels = np.full(num_points, IGNORED, np.int32)
    return Cloud(cloud, np.zeros((num_points, 0), np.float32), np.zeros(0, bool), labels)


def _on_device(
    clouds: list[Array], spec: PyramidSpec, most: int | None, rows: tuple[int, ...] | None
) -> PointPyramid:
    num_clouds, num_levels = len(clouds), len(spec.conv_radii)
    size = sum(map(len, clouds)) if rows is None else rows[0]
    points, owners = np.zeros((size, 3), np.float32), np.full(size, num_clouds, np.int32)
    joined = np.concatenate(clouds)
    _rows((len(joined),), None if rows is None else rows[:1])
    points[: len(joined)] = joined
    owners[: len(joined)] = np.repeat(np.arange(num_clouds), list(map(len, clouds)))
    coarse = (size,) * (num_levels - 1) if rows is None else tuple(rows[1:])
    counts = [most_candidates(cloud, spec) for cloud in clouds]
    lists, upsamples = (np.max(kind, axis=0) for kind in zip(*counts, strict=True))
    candidates = tuple(max(int(count), 1) for count in lists)
    widths = tuple(min(count, most or count) for count in candidates)
    spec = spec._replace(conv_neighbors=widths, pool_neighbors=widths[:-1])
    capacities = Capacities(coarse, candidates, tuple(max(int(x), 1) for x in upsamples))
    built = _build(points, owners, spec=spec, capacities=capacities, num_clouds=num_clouds)
    cut = jax.device_get(built.overflow)
    if cut.too_wide or cut.rows.any():
        raise UserError(
            f"the clouds span too many cells, or need {cut.rows.max()} rows more at a level than "
            f"{(size, *coarse)}; give more rows, or builder='host'."
        )
    return _trimmed(built.pyramid, most, keep_rows=rows is not None)


_build = functools.partial(jax.jit, static_argnames=("spec", "capacities", "num_clouds"))(
    build_bucket_pyramid
)


def _trimmed(built: PointPyramid, width: int | None, *, keep_rows: bool) -> PointPyramid:
    """Lists as wide as given, or as the longest; without rows of padding unless they are kept."""
    num_levels, num_clouds = len(built.points), built.num_clouds
    used = [int(jnp.sum(clouds < num_clouds)) for clouds in built.clouds]
    rows = [len(points) if keep_rows else n for points, n in zip(built.points, used, strict=True)]

    def lists(index: Array, level: int, into: int) -> Array:
        index = index[: rows[level]]
        filled = index < len(built.points[into])
        if index.ndim == 2:
            slots = width or max(int(jnp.max(jnp.sum(filled, axis=1))), 1)
            missing = ((0, 0), (0, max(slots - index.shape[1], 0)))
            index, filled = (jnp.pad(x[:, :slots], missing) for x in (index, filled))
        return jnp.where(filled, index, rows[into])

    levels, coarse = range(num_levels), range(1, num_levels)
    return PointPyramid(
        points=tuple(built.points[i][: rows[i]] for i in levels),
        clouds=tuple(built.clouds[i][: rows[i]] for i in levels),
        neighbors=tuple(lists(built.neighbors[i], i, i) for i in levels),
        pools=tuple(lists(built.pools[i - 1], i, i - 1) for i in coarse),
        upsamples=tuple(lists(built.upsamples[i - 1], i - 1, i) for i in coarse),
        real=built.real,
    )


def _width(longest: Sequence[int], most: int | None) -> int:
    return max(longest) if most is None else most


def _rows(needed: tuple[int, ...], given: tuple[int, ...] | None) -> tuple[int, ...]:
    if given is None:
        return needed
    if len(given) != len(needed) or any(n > g for n, g in zip(needed, given, strict=True)):
        raise UserError(f"rows={tuple(given)}: the clouds need {needed}; give as many or more.")
    return tuple(given)
