"""Compares the rooms with ScanNet: tags per ball and scene, sizes, and what color and height tell.

Targets of the tags: Wei et al. 2020, table 1 (MPRM), in percent of subclouds and of scenes.
"""

import argparse
import functools
import json
import multiprocessing
import os
import pathlib
import platform
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mprm_jax.data.rooms import SIZES, VERSION
from mprm_jax.data.rooms.generate import num_scenes, scan_scene
from mprm_jax.data.rooms.scan import vertex_nyu40_ids
from mprm_jax.data.scannet import CLASSES, to_benchmark_labels
from mprm_jax.types import IGNORED, Array

SUBCLOUD_TARGETS = (83, 54, 17.8, 8.3, 28, 8.6, 19.2, 24.7, 18, 5.6)
SUBCLOUD_TARGETS += (7.7, 5.1, 9.1, 5.8, 3.7, 1.9, 2.6, 4.7, 1.7, 20.9)
SCENE_TARGETS = (97, 99, 47, 20, 66, 23, 52, 73, 51, 14, 27, 15, 27, 16, 15, 9, 16, 27, 9.4, 74)
TARGETS = {
    "balls per scene": "17-19", "classes per ball": 3.6, "classes per scene": 7.8,
    "ignored share": 0.21, "width": 5.5, "depth": 5.1, "height": 2.4,
}  # fmt: skip
RADIUS = 2.0  # meters
PER_SCENE = 1500  # points per scene for the color and height classifier
NUM_NEIGHBORS = 15


class SceneFacts(NamedTuple):
    """What is kept of one scene."""

    tags: Array  # [S, 20] bool, class occurs in the ball
    extent: Array  # [3] meters, walls along x and y
    num_vertices: int
    ignored: float  # share of vertices
    features: Array  # [P, 4] red, green, blue in [0, 1], height in meters
    labels: Array  # [P]


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path, help="also write the numbers here")
    arguments = parser.parse_args()
    report = measure(arguments.size, arguments.seed)
    print(table(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def measure(size: str, seed: int) -> dict:
    """Returns all numbers of a data set; test scenes are left out, as in the paper."""
    spec = SIZES[size]
    scenes = range(num_scenes(size) - spec.test)
    with multiprocessing.get_context("spawn").Pool() as pool:
        facts = pool.map(functools.partial(_facts, size, seed), scenes, chunksize=1)
    tags = np.concatenate([f.tags for f in facts])
    present = np.array([f.tags.any(axis=0) for f in facts])
    means = {
        "balls per scene": len(tags) / len(facts),
        "classes per ball": tags.sum(axis=1).mean(),
        "classes per scene": present.sum(axis=1).mean(),
        "ignored share": np.mean([f.ignored for f in facts]),
        "vertices per scene": np.mean([f.num_vertices for f in facts]),
    }
    extents = np.array([f.extent for f in facts])
    means.update(zip(("width", "depth", "height"), extents.mean(axis=0), strict=True))
    ignored = [f.ignored for f in facts]
    return {
        "rooms": {"version": VERSION, "size": size, "seed": seed, "scenes": len(facts)},
        "machine": _machine(),
        "means": {name: round(float(value), 3) for name, value in means.items()},
        "ignored share, smallest and largest": [round(min(ignored), 3), round(max(ignored), 3)],
        "subclouds %": _percent(tags),
        "scenes %": _percent(present),
        "color and height": separability(facts[: spec.train], facts[spec.train :]),
    }


def separability(train: list[SceneFacts], val: list[SceneFacts]) -> dict[str, float]:
    """Returns how well nearest neighbors in color and height, with full labels, do on new rooms."""
    features, labels = _pooled(train)
    queries, truth = _pooled(val)
    scale = np.array([1.0, 1.0, 1.0, 0.5])  # 2 m of height weigh as much as black to white
    _, nearest = cKDTree(features * scale).query(queries * scale, k=NUM_NEIGHBORS)
    votes = np.zeros((len(truth), len(CLASSES)))
    np.add.at(votes, (np.arange(len(truth))[:, None], labels[nearest]), 1.0)
    balanced = votes / np.maximum(np.bincount(labels, minlength=len(CLASSES)), 1)
    return {
        "accuracy %": round(100 * float((votes.argmax(axis=1) == truth).mean()), 1),
        "mIoU %": _mean_iou(votes.argmax(axis=1), truth),
        "mIoU %, classes weighted alike": _mean_iou(balanced.argmax(axis=1), truth),
    }


def table(report: dict) -> str:
    """Returns the numbers beside their targets as text."""
    lines = [f"{'':18s}{'ours':>9s}{'target':>9s}"]
    for name, value in report["means"].items():
        lines.append(f"{name:18s}{value:9.2f}{TARGETS.get(name, '')!s:>9s}")
    low, high = report["ignored share, smallest and largest"]
    lines.append(f"{'ignored share':18s}{low:.2f}-{high:.2f}    0.08-0.45")
    lines.append(
        f"\n{'class':18s}{'subclouds %':>12s}{'target':>8s}{'scenes %':>12s}{'target':>8s}"
    )
    targets = zip(SUBCLOUD_TARGETS, SCENE_TARGETS, strict=True)
    for name, (ball, scene) in zip(CLASSES, targets, strict=True):
        ours = report["subclouds %"][name], report["scenes %"][name]
        lines.append(f"{name:18s}{ours[0]:12.1f}{ball:8.1f}{ours[1]:12.1f}{scene:8.1f}")
    lines.append(f"\ncolor and height: {report['color and height']}")
    return "\n".join(lines)


def _facts(size: str, seed: int, index: int) -> SceneFacts:
    """Makes one scene and measures it."""
    scan = scan_scene(size, seed, index)
    labels = to_benchmark_labels(vertex_nyu40_ids(scan))
    rows = np.flatnonzero(labels != IGNORED)
    rows = np.random.default_rng(index).choice(rows, min(PER_SCENE, len(rows)), replace=False)
    features = np.column_stack([scan.colors[rows] / 255, scan.points[rows, 2]])
    aligned = scan.points @ scan.axis_alignment[:3, :3].T
    extent = np.ptp(aligned, axis=0)
    extent[:2] = np.sort(extent[:2])[::-1]
    tags = _tags(scan.points.astype(float), labels)
    ignored = float((labels == IGNORED).mean())
    return SceneFacts(tags, extent, len(labels), ignored, features, labels[rows])


def _tags(points: Array, labels: Array) -> Array:
    """Returns the classes in balls around a regular grid with floor(length / radius) + 1 seeds."""
    low, high = points.min(axis=0), points.max(axis=0)
    counts = np.floor((high - low) / RADIUS).astype(int) + 1
    axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, counts, strict=True)]
    seeds = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = cKDTree(points).query_ball_point(seeds, RADIUS)
    counted = [
        np.bincount(labels[rows] + 1, minlength=len(CLASSES) + 1)[1:] for rows in inside if rows
    ]
    return np.array(counted) > 0


def _pooled(facts: list[SceneFacts]) -> tuple[Array, Array]:
    """Returns features and labels of many scenes."""
    return np.concatenate([f.features for f in facts]), np.concatenate([f.labels for f in facts])


def _mean_iou(predicted: Array, truth: Array) -> float:
    """Returns the mean IoU over the classes that occur, in percent."""
    size = len(CLASSES)
    confusion = np.bincount(truth * size + predicted, minlength=size**2).reshape(size, size)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion)
    return round(100 * float(np.mean(np.diag(confusion)[union > 0] / union[union > 0])), 1)


def _percent(bits: Array) -> dict[str, float]:
    """Returns the share of rows with each class."""
    return {
        name: round(100 * float(s), 1) for name, s in zip(CLASSES, bits.mean(axis=0), strict=True)
    }


def _machine() -> dict:
    """Returns what the numbers were made with."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
    }


if __name__ == "__main__":
    main()
