"""Draws scenes for people: colors, maps of classes, labels (the paper's Figures 2 and 5)."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.figure
import matplotlib.patches
import numpy as np
from scipy.spatial import cKDTree

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


def _spacing(coords: Array) -> float:
    """Typical distance of a point to its nearest one, in meters."""
    distance, _ = cKDTree(coords).query(coords[:: max(1, len(coords) // 500)], k=2)
    return float(np.median(distance[:, 1]))


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
