"""Over-segmentation of a scan, and the segments that annotators gave to each object."""

from typing import NamedTuple

import numpy as np

from mprm_jax.rooms.mesh import Mesh
from mprm_jax.types import Array

_TILE = 0.7  # meters, about the longest side of a segment
_FORGOTTEN = {"wall": 0.09, "floor": 0.0}  # share of objects without annotation; 0.03 for others


class Group(NamedTuple):
    """One annotated object."""

    category: str  # raw category name
    segments: tuple[int, ...]


def segment_ids(mesh: Mesh, rng: np.random.Generator) -> Array:
    """Cuts each part into patches of one orientation.

    Returns:
      [N] int64; as in ScanNet, an id is the index of one vertex of the segment.
    """
    facing = np.abs(mesh.normals).argmax(axis=1)
    tiles = np.floor((mesh.points + rng.uniform(0, _TILE, 3)) / _TILE).astype(int)
    keys = np.column_stack([mesh.parts, facing, tiles])
    keys -= keys.min(axis=0)
    flat = np.ravel_multi_index(tuple(keys.T), keys.max(axis=0) + 1)
    _, first, inverse = np.unique(flat, return_index=True, return_inverse=True)
    return first[inverse]


def annotated_groups(
    segments: Array, parts: Array, instances: Array, categories: list[str], rng: np.random.Generator
) -> list[Group]:
    """Returns the groups, without what the annotators forgot.

    Args:
      segments: [N] int, segment of each vertex.
      parts: [N] int, part of each vertex.
      instances: [P] int, object of each part.
      categories: P raw category names; "" was left out on purpose.
    """
    part_of = dict(zip(segments.tolist(), parts.tolist(), strict=True))
    members: dict[tuple[int, str], list[int]] = {}
    for segment, index in sorted(part_of.items()):
        members.setdefault((int(instances[index]), categories[index]), []).append(segment)
    sloppiness = rng.uniform(0.0, 0.06)
    groups = []
    for (_, category), ids in members.items():
        ids = [i for i in ids if rng.random() >= sloppiness]
        if category and ids and rng.random() >= _FORGOTTEN.get(category, 0.03):
            groups.append(Group(category, tuple(ids)))
    return groups
