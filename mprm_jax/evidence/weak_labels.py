"""Weak labels of a voxel cloud: which balls there are, and which classes each one holds.

Tags come from people (`WeakLabels` of a reader), from the released archive, or, to simulate the
people, from voxel labels. Only the last needs labels, and only at preparation.
"""

from typing import NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.geometry.balls import ball_rows, grid_seed_counts, grid_seeds
from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.scans.scene import WeakLabels
from mprm_jax.types import Array

MAX_SEEDS = 1_000_000  # hundreds of balls on each axis suggest a wrong unit


class WeakLabelArrays(NamedTuple):
    """The tagged balls of a scene; none of them is empty."""

    centers: Array  # [S, 3] float32, meters, relative to the scene's origin
    radii: Array  # [S] float32, meters
    tags: Array  # [S, C] bool, class occurs in the ball
    num_points: Array  # [S] int32, voxels in the ball
    scene_tags: Array  # [C] bool, class occurs in the scene
    num_seeds: Array  # int32, balls of the full grid, empty ones included


def tags_from_labels(
    coords: Array, labels: Array, num_classes: int, *, radius: float, placement: str
) -> WeakLabelArrays:
    """Tags of the grid balls: a class is present if one voxel of the ball has it (paper 3).

    Args:
      coords: [V, 3] float32, meters, V >= 1.
      labels: [V] integers, -1 where unannotated.
      radius: meters, of the balls.
      placement: of the grid seeds.
    """
    seeds = _seeds(coords, radius, placement)
    balls = _balls(coords, seeds, np.full(len(seeds), radius))
    tags = [_present(labels[rows], num_classes) for rows in balls]
    return _pack(seeds, np.full(len(seeds), radius), tags, balls, _present(labels, num_classes))


def tags_from_people(
    coords: Array, given: WeakLabels, *, radius: float, placement: str
) -> WeakLabelArrays:
    """Tags given by people or by the released archive, in the frame of `coords`.

    Balls keep their center and radius. A scene with tags of the whole scan only (radius inf) gets
    the grid balls, each with the tags of the scene (paper 5.2). The tags of the scene are the
    union of all rows.

    Raises:
      ValueError: none of the balls holds a point.
    """
    scene_tags = np.any(given.tags, axis=0)
    is_ball = np.isfinite(given.radii)
    if np.any(is_ball):
        centers, radii, tags = given.centers[is_ball], given.radii[is_ball], given.tags[is_ball]
    else:
        centers = _seeds(coords, radius, placement)
        radii = np.full(len(centers), radius)
        tags = np.repeat(scene_tags[None], len(centers), axis=0)
    balls = _balls(coords, centers, radii)
    if not any(len(rows) for rows in balls):
        raise UserError(
            f"none of its {len(centers)} tagged balls holds a point; "
            "check that tags and scan share unit and frame."
        )
    return _pack(centers, radii, tags, balls, scene_tags)


def no_tags(num_classes: int) -> WeakLabelArrays:
    """The weak labels of a scan nobody tagged: no balls."""
    return _pack(np.zeros((0, 3)), np.zeros(0), [], [], np.zeros(num_classes, bool))


def _seeds(coords: Array, radius: float, placement: str) -> Array:
    count = np.prod(grid_seed_counts(coords, radius).astype(float))
    if count > MAX_SEEDS:
        raise UserError(
            f"{count:.2g} balls of {radius:g} m would be needed to cover the scan; "
            "check the unit of its coordinates (data.scale) or raise data.sphere_radius."
        )
    return grid_seeds(coords, radius, placement)


def _balls(coords: Array, centers: Array, radii: Array) -> list[Array]:
    """Rows of each ball, decided with the values that are stored."""
    tree = make_tree(coords)
    stored = zip(centers.astype(np.float32), radii.astype(np.float32), strict=True)
    return [ball_rows(coords, tree, center, radius) for center, radius in stored]


def _pack(
    centers: Array, radii: Array, tags: Array | list, balls: list[Array], scene_tags: Array
) -> WeakLabelArrays:
    """The balls that hold a voxel."""
    counts = np.array([len(rows) for rows in balls], np.int32)
    kept = counts > 0
    return WeakLabelArrays(
        centers=centers[kept].astype(np.float32),
        radii=radii[kept].astype(np.float32),
        tags=np.asarray(tags, bool).reshape(len(centers), len(scene_tags))[kept],
        num_points=counts[kept],
        scene_tags=scene_tags,
        num_seeds=np.int32(len(centers)),
    )


def _present(labels: Array, num_classes: int) -> Array:
    return np.bincount(labels + 1, minlength=num_classes + 1)[1:] > 0
