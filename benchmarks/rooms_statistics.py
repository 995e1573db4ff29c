"""Compares the rooms with ScanNet: tags per ball and scene, sizes, and what color and height tell.

python benchmarks/rooms_statistics.py --json > benchmarks/results/rooms_statistics.json
"""

import argparse
import functools
import json
import multiprocessing
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mprm_jax.evidence.weak_labels import tags_from_labels
from mprm_jax.machine import describe_machine
from mprm_jax.rooms import SIZES, VERSION
from mprm_jax.rooms.generate import num_scenes, scan_scene
from mprm_jax.rooms.scan import vertex_nyu40_ids
from mprm_jax.scans.scannet import CLASSES, to_benchmark_labels
from mprm_jax.store.statistics import SceneTags, TagStatistics, count_tags, to_json
from mprm_jax.types import IGNORED, Array

# Source: counted in the released tags of MPRM, training scenes. Divided by all seeds, the balls
# are table 1 of Wei et al. 2020; the balls that hold points are fewer.
SCANNET = TagStatistics(
    classes=CLASSES,
    num_scenes=1201,
    num_subclouds=20_570,
    num_seeds=22_727,
    scene_counts=np.array(
        (
            *(1170, 1194, 564, 245, 798, 279, 623, 874, 609, 172),
            *(319, 179, 327, 193, 177, 106, 189, 319, 113, 890),
        )
    ),
    subcloud_counts=np.array(
        (
            *(17628, 11707, 4037, 1894, 6368, 1952, 4367, 5621, 4094, 1267),
            *(1758, 1161, 2086, 1324, 832, 441, 595, 1065, 395, 4748),
        )
    ),
)
# Meters as in the paper; shares measured on 23 real scans.
SCANNET_ROOMS = {"width": 5.5, "depth": 5.1, "height": 2.4, "ignored share": 0.21}
SCANNET_IGNORED = (0.08, 0.45)  # smallest and largest share
SHARES = ("scene", "subcloud", "subcloud_with_empty")  # as `weak_labels.py stats --json`
RADIUS = 2.0  # meters
PER_SCENE = 1500  # points per scene for the color and height classifier
NUM_NEIGHBORS = 15


class SceneFacts(NamedTuple):
    """What is kept of one scene."""

    tags: SceneTags
    extent: Array  # [3] meters, walls along x and y
    num_vertices: int
    ignored: float  # share of vertices
    features: Array  # [P, 4] red, green, blue in [0, 1], height in meters
    labels: Array  # [P]


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    report = measure(arguments.size, arguments.seed)
    print(json.dumps(report, indent=1) if arguments.json else table(report))


def measure(size: str, seed: int) -> dict:
    """Returns all numbers of a data set; test scenes are left out, as in the paper."""
    spec = SIZES[size]
    scenes = range(num_scenes(size) - spec.test)
    with multiprocessing.get_context("spawn").Pool() as pool:
        facts = pool.map(functools.partial(_facts, size, seed), scenes, chunksize=1)
    tags = count_tags(CLASSES, (f.tags for f in facts))
    ignored = [f.ignored for f in facts]
    width, depth, height = np.mean([f.extent for f in facts], axis=0)
    means = {"width": width, "depth": depth, "height": height, "ignored share": np.mean(ignored)}
    means["vertices per scene"] = np.mean([f.num_vertices for f in facts])
    return {
        "command": "python benchmarks/rooms_statistics.py --json",
        "rooms": {"version": VERSION, "size": size, "seed": seed},
        "machine": describe_machine(),
        "means": {name: round(float(value), 3) for name, value in means.items()},
        "ignored share, smallest and largest": [round(min(ignored), 3), round(max(ignored), 3)],
        "tags": tag_values(tags),
        "tags of ScanNet": tag_values(SCANNET),
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
    """Returns the numbers beside ScanNet's as text."""
    ours, scannet = report["tags"], report["tags of ScanNet"]
    lines = [f"{'':32s}{'Rooms':>9s}{'ScanNet':>9s}"]
    names = [name for name in ours if not isinstance(ours[name], dict)]
    lines += [f"{name:32s}{ours[name]:9.2f}{scannet[name]:9.2f}" for name in names]
    for name, value in report["means"].items():
        lines.append(f"{name:32s}{value:9.2f}{SCANNET_ROOMS.get(name, '')!s:>9s}")
    ignored = report["ignored share, smallest and largest"]
    lines.append(f"ignored share {ignored[0]} to {ignored[1]}, ScanNet {SCANNET_IGNORED}")
    lines.append(
        "\nin %, Rooms and ScanNet; all seeds count empty balls too, as table 1 of the paper"
    )
    lines.append(f"{'class':16s}{'scenes':>14s}{'balls':>14s}{'all seeds':>14s}")
    for name in CLASSES:
        pairs = [(ours[key][name], scannet[key][name]) for key in SHARES]
        lines.append(f"{name:16s}" + "".join(f"{own:8.1f}{theirs:6.1f}" for own, theirs in pairs))
    lines.append(f"\ncolor and height: {report['color and height']}")
    return "\n".join(lines)


def tag_values(counts: TagStatistics) -> dict:
    """Counts as `weak_labels.py stats --json` has them, and mean numbers of classes."""
    return {
        "classes_per_subcloud": round(
            float(counts.subcloud_counts.sum()) / counts.num_subclouds, 3
        ),
        "classes_per_scene": round(float(counts.scene_counts.sum()) / counts.num_scenes, 3),
        **to_json(counts),
    }


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
    weak = tags_from_labels(scan.points, labels, len(CLASSES), radius=RADIUS, placement="ends")
    # A scene holds what its balls hold, as counted in the released tags.
    tags = SceneTags(weak.tags.any(axis=0), weak.tags, int(weak.num_seeds))
    ignored = float((labels == IGNORED).mean())
    return SceneFacts(tags, extent, len(labels), ignored, features, labels[rows])


def _pooled(facts: list[SceneFacts]) -> tuple[Array, Array]:
    """Returns features and labels of many scenes."""
    return np.concatenate([f.features for f in facts]), np.concatenate([f.labels for f in facts])


def _mean_iou(predicted: Array, truth: Array) -> float:
    """Returns the mean IoU over the classes that occur, in percent."""
    size = len(CLASSES)
    confusion = np.bincount(truth * size + predicted, minlength=size**2).reshape(size, size)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion)
    return round(100 * float(np.mean(np.diag(confusion)[union > 0] / union[union > 0])), 1)


if __name__ == "__main__":
    main()
