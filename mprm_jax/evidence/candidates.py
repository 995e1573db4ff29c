"""Candidate sets: the classes that all evidence about a voxel leaves to it.

Tags of balls, tags of scenes, clicks and point labels become sets where they enter; whoever learns
or decides reads the sets. An empty set is knowledge, too: the voxel holds none of the classes.
"""

from typing import NamedTuple

import numpy as np

from mprm_jax.evidence.weak_labels import WeakLabelArrays
from mprm_jax.geometry.balls import ball_rows, in_ball
from mprm_jax.geometry.neighbors import make_tree, nearest
from mprm_jax.scans.scene import Clicks
from mprm_jax.types import IGNORED, Array

CLICK_RADIUS = 0.15  # meters around a click that it speaks for; measured, more makes labels worse


class Candidates(NamedTuple):
    """What evidence leaves to each voxel of a scene."""

    allowed: Array  # [V, num_classes] bool; no class: known to hold none
    certain: Array  # [V] bool, a click or a point label says so: nothing else knows better


def candidate_sets(
    coords: Array,
    weak: WeakLabelArrays,
    clicks: Clicks | None = None,
    labels: Array | None = None,
) -> Candidates:
    """The candidate sets of a scene, from evidence of every kind.

    A voxel in tagged balls may have the classes that all of them are tagged with: the class of a
    point is a tag of each ball around it. In no ball, it may have those tagged anywhere in the
    scene; all classes, if nobody tagged the scene. A point label leaves its class, wherever there
    is one. A click leaves what it says to the voxels around it, more than tags and labels do; of
    several clicks the nearest counts.

    Args:
      coords: [V, 3] float32 meters, V >= 1.
      weak: tags of the scene, in this frame.
      clicks: in this frame.
      labels: [V] point labels that may be learned, IGNORED where unknown.
    """
    tree = make_tree(coords)
    num_balls = np.zeros(len(coords), np.int32)
    num_tagged = np.zeros((len(coords), len(weak.scene_tags)), np.int32)
    for center, radius, tags in zip(weak.centers, weak.radii, weak.tags, strict=True):
        rows = ball_rows(coords, tree, center, radius)
        num_balls[rows] += 1
        num_tagged[rows] += tags[None]
    elsewhere = weak.scene_tags if len(weak.centers) else np.ones_like(weak.scene_tags)
    allowed = np.where((num_balls > 0)[:, None], num_tagged == num_balls[:, None], elsewhere[None])
    certain = np.zeros(len(coords), bool)
    if labels is not None:
        known = np.flatnonzero(labels != IGNORED)
        allowed[known], certain[known] = False, True
        allowed[known, labels[known]] = True
    if clicks is not None:
        _apply_clicks(coords, clicks, allowed, certain)
    return Candidates(allowed, certain)


def tags_after_clicks(weak: WeakLabelArrays, clicks: Clicks) -> tuple[WeakLabelArrays, Array]:
    """Adds to the tags of each ball, and of the scene, the classes that were clicked in it.

    Returns:
      The tags, and [K] bool: the clicks whose class a ball around them had not been tagged with.
    """
    outside = np.zeros(len(clicks.points), bool)
    if not len(weak.centers):
        return weak, outside
    tags, scene_tags = weak.tags.copy(), weak.scene_tags.copy()
    for i, point in enumerate(clicks.points):
        if not clicks.certain[i] or not clicks.allowed[i].any():
            continue
        around = np.array(
            [
                bool(in_ball((point - center)[None].astype(np.float32), radius)[0])
                for center, radius in zip(weak.centers, weak.radii, strict=True)
            ]
        )
        lacking = ~tags[around] & clicks.allowed[i][None]
        outside[i] = lacking.any() or bool((clicks.allowed[i] & ~scene_tags).any())
        tags[around] |= clicks.allowed[i][None]
        scene_tags |= clicks.allowed[i]
    return weak._replace(tags=tags, scene_tags=scene_tags), outside


def scene_sets(candidates: Candidates, scene_tags: Array) -> Array:
    """Candidate sets [V, num_classes] bool if only the tags of the scene may be used.

    Args:
      scene_tags: [num_classes] bool.
    """
    return np.where(candidates.certain[:, None], candidates.allowed, scene_tags[None])


def count_sizes(candidates: Candidates) -> tuple[int, ...]:
    """Voxels whose set holds 0, 1, 2, 3, and 4 or more classes."""
    sizes = np.minimum(candidates.allowed.sum(axis=1), 4)
    return tuple(np.bincount(sizes, minlength=5).tolist())


def allowed_classes(num_balls: Array, num_tagged: Array, scene_tags: Array, rule: str) -> Array:
    """Classes that tags alone leave by a coarser rule, as [V, num_classes] bool; for comparison.

    - "intersection": those that every ball of the voxel is tagged with; where there is none, any
      class tagged around the voxel.
    - "ball": those that some ball of the voxel is tagged with.
    - "scene": those that some ball of the scene is tagged with.

    None outside of all balls.

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


def _apply_clicks(coords: Array, clicks: Clicks, allowed: Array, certain: Array) -> None:
    """Changes the sets of the voxels around each click; certain clicks last, nearest last."""
    tree = make_tree(coords)
    places = clicks.points.astype(np.float32)
    closest = np.full(len(coords), np.inf)
    for i in np.argsort(clicks.certain, kind="stable"):
        rows = ball_rows(coords, tree, places[i], CLICK_RADIUS)
        if not len(rows):  # voxels may be larger than that
            rows = nearest(places[i][None], tree)
        if not clicks.certain[i]:
            allowed[rows] &= clicks.allowed[i][None]
            continue
        sq_dist = np.sum(np.square(coords[rows] - places[i][None]), axis=1)
        rows = rows[sq_dist <= closest[rows]]
        closest[rows] = np.sum(np.square(coords[rows] - places[i][None]), axis=1)
        allowed[rows], certain[rows] = clicks.allowed[i], True
