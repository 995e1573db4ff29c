"""Draws a measured scene: input, labels, ground truth (the paper's Figure 6)."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mprm_jax.evaluation.pictures import Panel, draw_panels, map_colors
from mprm_jax.palette import class_palette, label_colors
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.truth import voxel_labels
from mprm_jax.types import Array


def telling_scene(store: SceneStore, split: str, scenes: Sequence[str]) -> str:
    """The scene with the most true classes; the first of equals."""
    counts = [len(np.unique(voxel_labels(store, split, scene))) for scene in scenes]
    return scenes[int(np.argmax(counts))]


def draw_evaluation(
    path: pathlib.Path, store: SceneStore, split: str, scene: str, labels: Mapping[str, Array]
) -> None:
    """Writes a PNG of a scene.

    Args:
      labels: title -> [V] labels of the voxels.
    """
    cloud, palette = store.voxel_cloud(split, scene), class_palette(len(store.classes))
    if store.info(split, scene).has_colors:
        panels = [Panel("input", cloud.colors / 255.0)]
    else:
        panels = [Panel("input, by height", map_colors(cloud.coords[:, 2]))]
    drawn = dict(labels) | {"ground truth": voxel_labels(store, split, scene)}
    panels += [Panel(title, label_colors(label, palette)) for title, label in drawn.items()]
    shown = np.unique(np.concatenate(list(drawn.values())))
    legend = [(store.classes[c], tuple(palette[c])) for c in shown[shown >= 0]]
    draw_panels(path, cloud.coords, panels, legend)
