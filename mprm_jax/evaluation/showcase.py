"""Chooses a telling scene and draws how its pseudo-labels came about."""

import pathlib

import numpy as np

from mprm_jax.batches.tagged_balls import Subclouds
from mprm_jax.evaluation.pictures import Panel, draw_panels, map_colors
from mprm_jax.palette import class_palette, label_colors
from mprm_jax.store.exports import Export, as_labels
from mprm_jax.store.truth import has_labels, voxel_labels
from mprm_jax.types import Array


def draw_showcase(subclouds: Subclouds, export: Export, path: pathlib.Path) -> str:
    """Draws input, two class maps, pseudo-labels and, if known, ground truth of one scene.

    The scene is the one with the most tagged classes among those of ordinary size; the classes are
    the rarest of its tags that some point was labeled with.

    Returns:
      The name of the scene.
    """
    scene = _choose_scene(subclouds, export)
    name = subclouds.scenes[scene]
    cloud = subclouds.store.voxel_cloud(subclouds.split, name)
    result = export.load(name)
    palette = class_palette(len(subclouds.store.classes))
    if subclouds.store.info(subclouds.split, name).has_colors:
        panels = [Panel("input", cloud.colors / 255.0)]
    else:
        panels = [Panel("input, by height", map_colors(cloud.coords[:, 2]))]
    labels = as_labels(result.label)
    for label in _choose_classes(subclouds.tags.mean(axis=0), labels):
        scores = np.where(result.allowed[:, label], result.scores[:, label], -np.inf)
        panels.append(Panel(f"PCAM of {subclouds.store.classes[label]}", map_colors(scores)))
    panels.append(Panel("pseudo-labels", label_colors(labels, palette)))
    shown = set(labels[labels >= 0])
    if has_labels(subclouds.store, subclouds.split, name):
        truth = voxel_labels(subclouds.store, subclouds.split, name)
        panels.append(Panel("ground truth", label_colors(truth, palette)))
        shown |= set(truth[truth >= 0])
    legend = [(subclouds.store.classes[c], tuple(palette[c])) for c in sorted(shown)]
    draw_panels(path, cloud.coords, panels, legend)
    return name


def _choose_scene(subclouds: Subclouds, export: Export) -> int:
    present = [i for i, name in enumerate(subclouds.scenes) if name in export.scenes]
    sizes = np.array([subclouds.num_voxels(i) for i in present])
    num_tags = np.array(
        [subclouds.tags[subclouds.scene_of == i].any(axis=0).sum() for i in present]
    )
    ordinary = sizes <= np.quantile(sizes, 0.8)
    return present[int(np.argmax(np.where(ordinary, num_tags, -1)))]


def _choose_classes(frequency: Array, labels: Array) -> list[int]:
    counts = np.bincount(labels[labels >= 0], minlength=len(frequency))
    found = np.flatnonzero(counts >= min(30, counts.max()))
    return [int(label) for label in found[np.argsort(frequency[found])][:2]]
