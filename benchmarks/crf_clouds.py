"""Clouds of any size for the CRF benchmark: scanned rooms side by side, with uncertain classes."""

from typing import NamedTuple

import numpy as np

from mprm_jax.rooms.generate import scan_scene
from mprm_jax.rooms.scan import vertex_nyu40_ids
from mprm_jax.scans.scannet import CLASSES, to_benchmark_labels
from mprm_jax.types import IGNORED, Array

CONFUSED_BLOCK = 0.5  # meters; errors of a network come in patches of about this size


class Cloud(NamedTuple):
    """Points in random order."""

    coords: Array  # [N, 3] float32 meters
    colors: Array  # [N, 3] float32 in [0, 1]
    probabilities: Array  # [N, 20] float32
    labels: Array  # [N] int, true classes; -1 for none


def make_cloud(num_points: int, seed: int, size: str = "full") -> Cloud:
    """Joins scans until there are enough points, and keeps those of smallest x."""
    parts, offset, index = [], 0.0, 0
    while sum(len(points) for points, _, _ in parts) < num_points:
        scan = scan_scene(size, seed, index)
        labels = to_benchmark_labels(vertex_nyu40_ids(scan))
        moved = scan.points + np.array([offset, 0, 0])
        parts.append((moved, scan.colors / 255, labels))
        offset, index = offset + float(np.ptp(scan.points[:, 0])), index + 1
    coords, colors, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    rng = np.random.default_rng((seed, num_points))
    kept = rng.permutation(np.argsort(coords[:, 0], kind="stable")[:num_points])
    coords, colors, labels = coords[kept], colors[kept], labels[kept]
    probabilities = _confused(rng, coords, labels)
    return Cloud(coords.astype(np.float32), colors.astype(np.float32), probabilities, labels)


def _confused(rng: np.random.Generator, coords: Array, labels: Array) -> Array:
    """The true class, disturbed at each point and in each block."""
    num_classes = len(CLASSES)
    blocks = np.floor(coords / CONFUSED_BLOCK).astype(int)
    _, block = np.unique(blocks, axis=0, return_inverse=True)
    logits = rng.normal(size=(len(coords), num_classes))
    logits += rng.normal(size=(block.max() + 1, num_classes))[block.ravel()]
    logits += 2.0 * np.eye(num_classes)[labels] * (labels != IGNORED)[:, None]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
