"""Restricts what a network says of a scene to the classes that its weak labels name."""

from collections.abc import Sequence

import numpy as np

from mprm_jax.data.store import SceneStore
from mprm_jax.errors import UserError
from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.geometry.subclouds import ball_rows
from mprm_jax.labeling.pseudo_labels import allowed_classes
from mprm_jax.types import Array


def require_tags(store: SceneStore, split: str, scenes: Sequence[str]) -> None:
    """Raises `ValueError` if nobody tagged one of the scenes."""
    for scene in scenes:
        if not store.info(split, scene).has_tags:
            raise UserError(
                f"{store.folder(split, scene)}: the scene has no tags; leave out --tags, or "
                "prepare the scans with tags."
            )


def tagged_classes(store: SceneStore, split: str, scene: str, labels: str = "subcloud") -> Array:
    """Classes that the tags of a scene leave to each voxel, as [V, num_classes] bool.

    Of a voxel in tagged balls the classes that all of them are tagged with, as for pseudo-labels;
    where there is no ball, or none with a tag, those of the scene.

    Args:
      labels: "subcloud", or "scene" if the tags of balls are not to be used.
    """
    coords, weak = store.voxel_cloud(split, scene).coords, store.weak_labels(split, scene)
    num_balls = np.zeros(len(coords), np.int32)
    num_tagged = np.zeros((len(coords), len(weak.scene_tags)), np.int32)
    if labels == "subcloud":
        tree = make_tree(coords)
        for center, radius, tags in zip(weak.centers, weak.radii, weak.tags, strict=True):
            rows = ball_rows(coords, tree, center, radius)
            num_balls[rows] += 1
            num_tagged[rows] += tags[None]
    allowed = allowed_classes(num_balls, num_tagged, weak.scene_tags, "intersection")
    return np.where(allowed.any(axis=1, keepdims=True), allowed, weak.scene_tags[None])
