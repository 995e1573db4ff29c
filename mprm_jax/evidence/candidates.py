"""Candidate sets: the classes that the tags around a point leave to it."""

import numpy as np

from mprm_jax.evidence.weak_labels import WeakLabelArrays
from mprm_jax.geometry.balls import ball_rows
from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.types import Array


def allowed_classes(num_balls: Array, num_tagged: Array, scene_tags: Array, rule: str) -> Array:
    """Classes that a voxel may take, as [V, num_classes] bool; none outside of all balls.

    - "intersection": those that every ball of the voxel is tagged with. The class of an annotated
      point is a tag of each ball around it, so this holds it. Where the intersection is empty, as
      in unannotated regions, any class tagged around the voxel.
    - "ball": those that some ball of the voxel is tagged with.
    - "scene": those that some ball of the scene is tagged with.

    Args:
      num_balls: [V], balls around the voxel.
      num_tagged: [V, num_classes], of these, the ones tagged with the class.
      scene_tags: [num_classes] bool, classes tagged anywhere in the scene.
    """
    some = num_tagged > 0
    if rule == "ball":
        return some
    if rule == "scene":
        return (num_balls > 0)[:, None] & scene_tags[None]
    every = some & (num_tagged == num_balls[:, None])
    return np.where(every.any(axis=1, keepdims=True), every, some)


def tagged_classes(coords: Array, weak: WeakLabelArrays, labels: str = "subcloud") -> Array:
    """Classes that the tags of a scene leave to each voxel, as [V, num_classes] bool.

    Of a voxel in tagged balls the classes that all of them are tagged with, as for pseudo-labels;
    where there is no ball, or none with a tag, those of the scene.

    Args:
      coords: [V, 3] meters, of the voxels of a scene.
      weak: its weak labels.
      labels: "subcloud", or "scene" if the tags of balls are not to be used.
    """
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
