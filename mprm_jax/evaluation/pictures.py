"""Draws scenes for people: colors, maps of classes, labels (the paper's Figures 2 and 5)."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.figure
import matplotlib.patches
import numpy as np
from scipy.spatial import cKDTree

from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.palette import class_palette, label_colors
from mprm_jax.store.exports import Export, as_labels
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.truth import has_labels, voxel_labels
from mprm_jax.types import Array
from mprm_jax.writing import whole_file

_TILT = np.radians(38.0)  # of the view, above the horizon
_TURN = np.radians(35.0)  # about z
_PANEL_INCHES = 4.2


class Panel(NamedTuple):
    """One view of a scene."""

    title: str
    colors: Array  # [V, 3] in [0, 1]


def draw_panels(
    path: pathlib.Path,
    coords: Array,
    panels: Sequence[Panel],
    legend: Sequence[tuple[str, tuple[float, ...]]],
) -> None:
    """Writes a PNG with the panels side by side and a legend of classes below.

    What hides the inside of a room, its ceiling and the walls toward the viewer, is left out.

    Args:
      coords: [V, 3] meters.
    """
    shown = inside_rows(coords)
    flat, depth = project(coords[shown])
    order = np.argsort(-depth)
    figure = matplotlib.figure.Figure(figsize=(_PANEL_INCHES * len(panels), 4.6), dpi=110)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    side = _spacing(coords[shown]) * 72.0 * _PANEL_INCHES / np.max(np.ptp(flat, axis=0))
    for axis, panel in zip(axes, panels, strict=True):
        colors = np.clip(panel.colors[shown][order], 0, 1)
        axis.scatter(*flat[order].T, c=colors, s=side**2, marker="s", linewidths=0)
        axis.set_title(panel.title, fontsize=11)
        axis.set_aspect("equal")
        axis.axis("off")
    patches = [matplotlib.patches.Patch(color=color, label=name) for name, color in legend]
    if patches:
        figure.legend(handles=patches, loc="lower center", ncols=10, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.1, 1, 0.97))
    with whole_file(path) as partial:
        figure.savefig(partial, format="png")


def project(coords: Array) -> tuple[Array, Array]:
    """Orthographic view from above and the side: [V, 2] picture coordinates and [V] depth."""
    x = np.cos(_TURN) * coords[:, 0] - np.sin(_TURN) * coords[:, 1]
    y = np.sin(_TURN) * coords[:, 0] + np.cos(_TURN) * coords[:, 1]
    up = np.cos(_TILT) * coords[:, 2] + np.sin(_TILT) * y
    depth = np.cos(_TILT) * y - np.sin(_TILT) * coords[:, 2]
    return np.stack([x, up], axis=1), depth


def inside_rows(coords: Array) -> Array:
    """Rows of what is neither ceiling nor the outermost layer toward the viewer, as [M] int64."""
    height = coords[:, 2]
    below_ceiling = height < np.quantile(height, 0.999) - 0.25
    y = np.sin(_TURN) * coords[:, 0] + np.cos(_TURN) * coords[:, 1]
    x = np.cos(_TURN) * coords[:, 0] - np.sin(_TURN) * coords[:, 1]
    column = np.floor((x - x.min()) / 0.15).astype(int)
    front = np.full(column.max() + 1, np.inf)
    np.minimum.at(front, column, y)
    near = (y < front[column] + 0.3) & (height > np.quantile(height, 0.01) + 0.3)
    return np.flatnonzero(below_ceiling & ~near)


def map_colors(scores: Array) -> Array:
    """Colors [V, 3] of one class's scores, dark for low and bright for high."""
    finite = np.isfinite(scores)
    low, high = np.quantile(scores[finite], (0.02, 0.98)) if finite.any() else (0.0, 1.0)
    level = np.clip((np.where(finite, scores, low) - low) / max(high - low, 1e-6), 0, 1)
    return matplotlib.colormaps["viridis"](level)[:, :3]


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


def draw_showcase(balls: TaggedBalls, export: Export, path: pathlib.Path) -> str:
    """Draws input, two class maps, pseudo-labels and, if known, ground truth of one scene.

    The scene is the one with the most tagged classes among those of ordinary size; the classes are
    the rarest of its tags that some point was labeled with.

    Returns:
      The name of the scene.
    """
    scene = _choose_scene(balls, export)
    name = balls.scenes[scene]
    cloud = balls.store.voxel_cloud(balls.split, name)
    result = export.load(name)
    palette = class_palette(len(balls.store.classes))
    if balls.store.info(balls.split, name).has_colors:
        panels = [Panel("input", cloud.colors / 255.0)]
    else:
        panels = [Panel("input, by height", map_colors(cloud.coords[:, 2]))]
    labels = as_labels(result.label)
    for label in _choose_classes(balls.tags.mean(axis=0), labels):
        scores = np.where(result.allowed[:, label], result.scores[:, label], -np.inf)
        panels.append(Panel(f"PCAM of {balls.store.classes[label]}", map_colors(scores)))
    panels.append(Panel("pseudo-labels", label_colors(labels, palette)))
    shown = set(labels[labels >= 0])
    if has_labels(balls.store, balls.split, name):
        truth = voxel_labels(balls.store, balls.split, name)
        panels.append(Panel("ground truth", label_colors(truth, palette)))
        shown |= set(truth[truth >= 0])
    legend = [(balls.store.classes[c], tuple(palette[c])) for c in sorted(shown)]
    draw_panels(path, cloud.coords, panels, legend)
    return name


def _spacing(coords: Array) -> float:
    """Typical distance of a point to its nearest one, in meters."""
    distance, _ = cKDTree(coords).query(coords[:: max(1, len(coords) // 500)], k=2)
    return float(np.median(distance[:, 1]))


def _choose_scene(balls: TaggedBalls, export: Export) -> int:
    present = [i for i, name in enumerate(balls.scenes) if name in export.scenes]
    sizes = np.array([balls.num_voxels(i) for i in present])
    num_tags = np.array([balls.tags[balls.scene_of == i].any(axis=0).sum() for i in present])
    ordinary = sizes <= np.quantile(sizes, 0.8)
    return present[int(np.argmax(np.where(ordinary, num_tags, -1)))]


def _choose_classes(frequency: Array, labels: Array) -> list[int]:
    counts = np.bincount(labels[labels >= 0], minlength=len(frequency))
    found = np.flatnonzero(counts >= min(30, counts.max()))
    return [int(label) for label in found[np.argsort(frequency[found])][:2]]
