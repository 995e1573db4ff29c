"""Chooses the CRF's kernels without point labels: boundaries should lie where colors change.

A candidate is scored by the product of two numbers that smoothing pulls apart:

- contrast: how often a pair of neighboring points with different labels differs more in color than
  a pair with equal labels (area under the ROC curve; 0.5 if boundaries ignore the colors);
- entropy of the labels, which falls when small objects are smoothed away.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from mprm_jax.errors import UserError
from mprm_jax.labeling.refining import RefineSettings, refine_scene
from mprm_jax.progress import progress_bar
from mprm_jax.store.exports import Export, as_labels
from mprm_jax.store.scenes import SceneStore
from mprm_jax.types import Array

NUM_NEIGHBORS = 6  # of a voxel on a surface
GRID = {
    "position_weight": (0.0, 3.0),
    "pair_width": (0.1, 0.2, 0.4, 0.8),
    "color_width": (0.02, 0.04, 0.08),
    "pair_weight": (3.0, 10.0),
}


def tune(
    export: Export, store: SceneStore, scenes: Sequence[str], settings: RefineSettings
) -> list[tuple[float, RefineSettings]]:
    """Scores `settings` and all of `GRID` on some scenes; returns them, the best first.

    Raises:
      ValueError: without a kernel on colors there is nothing to compare.
    """
    if not settings.color_width:
        raise UserError("tuning compares labels with colors; leave --color-width above 0.")
    varied = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    candidates = [settings, *(dataclasses.replace(settings, **values) for values in varied)]
    candidates = list(dict.fromkeys(candidates))
    found = []
    with progress_bar(len(candidates) * len(scenes), "tries", "tuning") as bar:
        for candidate in candidates:
            labels, changes, contrasts = [], [], []
            for name in scenes:
                label = as_labels(refine_scene(export, store, name, candidate).label)
                cloud = store.voxel_cloud(export.manifest.split, name)
                change, contrast = label_changes(cloud.coords, cloud.colors, label)
                labels.append(label)
                changes.append(change)
                contrasts.append(contrast)
                bar.update()
            score = boundary_contrast(np.concatenate(changes), np.concatenate(contrasts))
            found.append((score * label_entropy(np.concatenate(labels)), candidate))
    return sorted(found, key=lambda entry: -entry[0])


def label_changes(coords: Array, colors: Array, labels: Array) -> tuple[Array, Array]:
    """Pairs of neighboring points: whether their labels differ, and by how much their colors.

    Args:
      coords: [N, 3].
      colors: [N, 3] uint8.
      labels: [N] integers.

    Returns:
      [P] bool and [P] int, the largest difference of a color channel.
    """
    count = min(NUM_NEIGHBORS, len(coords) - 1)
    if count < 1:
        return np.zeros(0, bool), np.zeros(0, int)
    _, neighbors = cKDTree(coords).query(coords, k=range(2, count + 2))
    first, second = np.repeat(np.arange(len(coords)), count), neighbors.ravel()
    differences = np.abs(colors[first].astype(int) - colors[second].astype(int))
    return labels[first] != labels[second], differences.max(axis=1)


def boundary_contrast(changes: Array, contrasts: Array) -> float:
    """Area under the ROC curve of telling label changes [P] bool by contrasts [P]; 0.5 if none."""
    num_changes = int(changes.sum())
    num_pairs = num_changes * (len(changes) - num_changes)
    if not num_pairs:
        return 0.5
    ranks = rankdata(contrasts)[changes].sum()
    return float((ranks - num_changes * (num_changes + 1) / 2) / num_pairs)


def label_entropy(labels: Array) -> float:
    """Entropy in nats of the labels [N] of all points that have one."""
    counts = np.bincount(labels[labels >= 0])
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-np.sum(shares * np.log(shares)))
