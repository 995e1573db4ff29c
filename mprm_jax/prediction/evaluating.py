"""Measures exported pseudo-labels, or a segmentation network, against the ground truth of a split.

What was decided with tags and what without them stand in columns of their own, and so do the
points of the scans, by the rules of the benchmarks, and the voxels.
"""

import json
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.evaluation.borders import near_borders
from mprm_jax.evaluation.pictures import draw_evaluation, telling_scene
from mprm_jax.evaluation.quality import (
    Measure,
    confusion_matrix,
    measure,
    measure_values,
    quality_table,
    sum_six_areas,
)
from mprm_jax.evaluation.submission import (
    SPLIT,
    check_submission,
    vertex_counts,
    write_submission,
)
from mprm_jax.geometry.voxels import spread_to_points
from mprm_jax.labeling.candidates import usable_sets
from mprm_jax.labeling.choice import decide
from mprm_jax.prediction.scenes import segment_scenes
from mprm_jax.progress import Report
from mprm_jax.reading import read_json
from mprm_jax.scans.scannet import CLASSES as SCANNET_CLASSES
from mprm_jax.store.exports import Export, as_labels
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.truth import has_labels, point_labels, voxel_labels
from mprm_jax.training.hosts import exchange, sum_over_hosts
from mprm_jax.training.parallel import (
    choose_devices,
    describe_devices,
    local_copy,
    local_mesh,
    make_mesh,
)
from mprm_jax.training.start import keep_programs
from mprm_jax.training.trained import open_network, open_store
from mprm_jax.types import Array

logger = logging.getLogger(__name__)

WITH_TAGS, WITHOUT_TAGS = "with tags", "without tags"
S3DIS = "s3dis"  # name of the source
ROOMS = "rooms"  # begins the names of sources that only imitate ScanNet


class Evaluation:
    """Confusion matrices summed over scenes, a column for each way labels were chosen.

    Where a `picture` is wanted, the scene with the most classes is drawn there when it is added.
    """

    def __init__(
        self,
        store: SceneStore,
        split: str,
        scenes: Sequence[str],
        picture: pathlib.Path | None = None,
    ):
        self.store, self.split, self.scenes, self.picture = store, split, scenes, picture
        self._drawn = picture and telling_scene(store, split, scenes)
        is_scannet = tuple(store.classes) == SCANNET_CLASSES
        self.points = "vertices" if is_scannet else "points"
        self.rules = "ScanNet" if is_scannet else "S3DIS" if self._is_s3dis else "all points"
        self.confusions: dict[str, Array] = {}
        self._near_borders: dict[str, Array] = {}  # confusions of the points there

    def add(self, scene: str, labels: Mapping[str, Array]) -> None:
        """Counts the labels [V] of a scene's voxels, by what they were chosen with."""
        point_voxel = self.store.point_voxel(self.split, scene)
        of_points = point_labels(self.store, self.split, scene)
        of_voxels = voxel_labels(self.store, self.split, scene)
        near = near_borders(self.store.voxel_cloud(self.split, scene).coords, of_voxels)
        for tags, label in labels.items():
            labels_of_points = spread_to_points(label, point_voxel)
            self._count(f"{self.points} {tags}", of_points, labels_of_points, near[point_voxel])
            self._count(f"voxels {tags}", of_voxels, label, near)
        if scene == self._drawn:
            draw_evaluation(self.picture, self.store, self.split, scene, labels)

    def add_other_hosts(self) -> None:
        """Adds what the other hosts counted; to be called by all of them at the end."""
        # A host may have had no scene, and so know no column.
        columns = max(
            map(json.loads, exchange(json.dumps(list(self.confusions)), "columns")), key=len
        )
        num_classes = len(self.store.classes)
        none = np.zeros((num_classes, num_classes + 1), np.int64)
        self.confusions, self._near_borders = (
            {column: sum_over_hosts(found.get(column, none)) for column in columns}
            for found in (self.confusions, self._near_borders)
        )

    def measures(self) -> dict[str, Measure]:
        """The measure of each column.

        Raises:
          ValueError: no point is annotated.
        """
        return {
            column: measure(counts, self._near_borders[column])
            for column, counts in self.confusions.items()
        }

    def values(self) -> dict[str, Any]:
        """What was measured and how good it is, as JSON."""
        about = {
            "data": self.store.manifest.name,
            "store": str(self.store.path),
            "split": self.split,
            "fingerprint": self.store.fingerprint(self.split),
            "scenes": len(self.scenes),
            "scenes_not_measured": self._num_left_out,
            "rules": self.rules,
            "classes": list(self.store.classes),
        }
        if self._is_s3dis:
            about["test_area"] = self.store.manifest.settings.test_area
        columns = {
            column: measure_values(found) | {"confusion": self.confusions[column].tolist()}
            for column, found in self.measures().items()
        }
        return about | {"columns": columns}

    def text(self) -> str:
        """The same for people."""
        left_out = f" ({self._num_left_out} others not measured)" if self._num_left_out else ""
        head = (
            f"{self.store.path}, split {self.split}: {len(self.scenes)} scenes{left_out}, "
            f"rules of {self.rules}"
        )
        return f"{head}\n{quality_table(self.measures(), self.store.classes)}"

    @property
    def _is_s3dis(self) -> bool:
        return self.store.manifest.name == S3DIS

    @property
    def _num_left_out(self) -> int:
        return len(self.store.scenes(self.split)) - len(self.scenes)

    def _count(self, column: str, truth: Array, label: Array, near: Array) -> None:
        num_classes = len(self.store.classes)
        for counts, chosen in ((self.confusions, slice(None)), (self._near_borders, near)):
            found = confusion_matrix(truth[chosen], label[chosen], num_classes)
            counts[column] = counts.get(column, np.zeros_like(found)) + found


def evaluate_export(
    path: pathlib.Path, store: pathlib.Path | None = None, picture: pathlib.Path | None = None
) -> Report:
    """Measures the labels of an export, all of which are `WITH_TAGS`.

    Args:
      store: prepared scenes; those the export was made from if None.
      picture: PNG of one scene, to be drawn there.

    Raises:
      FileNotFoundError: no complete export, or no store.
      ValueError: of other data, or no scene has point labels.
    """
    export = Export(path)
    scenes = export.open_store(store)
    split = export.manifest.split
    found = Evaluation(scenes, split, labeled_scenes(scenes, split, export.scenes), picture)
    for scene in found.scenes:
        found.add(scene, {WITH_TAGS: as_labels(export.load(scene).label)})
    values = {"measured": "pseudo-labels", "labels": str(path)} | found.values()
    values["settings"] = export.manifest.settings
    return Report(values, f"{path}: pseudo-labels\n{found.text()}")


def evaluate_network(
    workdir: pathlib.Path,
    *,
    split: str,
    checkpoint: str = "last",
    store: pathlib.Path | None = None,
    votes: int = 1,
    augment: bool = False,
    tags: bool = False,
    picture: pathlib.Path | None = None,
    num_devices: int | None = None,
) -> Report:
    """Measures a segmentation network `WITHOUT_TAGS`, and on demand also `WITH_TAGS`.

    Hosts share the scenes; all return the same.

    Args:
      workdir: of a run of stage seg.
      store: prepared scenes; those of the run if None.
      votes: balls in which each voxel is seen at least.
      augment: move the balls at random.
      picture: PNG of one scene, to be drawn there.
      num_devices: all if None.

    Raises:
      FileNotFoundError: no run, checkpoint or store there.
      ValueError: a run of the other stage, a store of other classes or voxels, a split without
        point labels, or without tags where they are asked for.
    """
    mesh = make_mesh(choose_devices(num_devices))
    network = open_network(workdir, "seg", checkpoint, mesh)
    scenes = open_store(network, store)
    labeled = labeled_scenes(scenes, split, scenes.scenes(split))
    found = Evaluation(scenes, split, labeled, picture)
    if tags:
        require_tags(scenes, split, found.scenes)
    keep_programs(workdir)
    here = local_mesh(mesh)
    network = network._replace(state=local_copy(network.state, here))
    places = range(jax.process_index(), len(found.scenes), jax.process_count())
    voted = segment_scenes(
        network,
        scenes,
        split,
        found.scenes,
        here,
        votes=votes,
        augment=augment,
        places=places,
    )
    for scene, segmented in voted:
        labels = {WITHOUT_TAGS: segmented.probabilities.argmax(axis=1)}
        if tags:
            allowed = usable_sets(scenes, split, scene, network.config.data.labels).allowed
            coords = scenes.voxel_cloud(split, scene).coords
            labels[WITH_TAGS] = decide(segmented.probabilities, allowed, coords).label
        found.add(scene, labels)
    found.add_other_hosts()
    values = {"measured": "network", "workdir": str(workdir), "step": network.step}
    values |= {"votes": votes, "augmented": augment, "devices": describe_devices(mesh)}
    values |= found.values()
    motion = "augmented at random" if augment else "not augmented"
    head = f"{workdir}, step {network.step}: network, votes {votes}, {motion}"
    return Report(values, f"{head}\n{found.text()}")


def require_tags(store: SceneStore, split: str, scenes: Sequence[str]) -> None:
    """Raises `ValueError` if nobody tagged one of the scenes."""
    for scene in scenes:
        if not store.info(split, scene).has_tags:
            raise UserError(
                f"{store.folder(split, scene)}: the scene has no tags; leave out --tags, or "
                "prepare the scans with tags."
            )


def labeled_scenes(store: SceneStore, split: str, scenes: Sequence[str]) -> tuple[str, ...]:
    """The scenes that have point labels.

    Raises:
      ValueError: none has.
    """
    labeled = tuple(scene for scene in scenes if has_labels(store, split, scene))
    if not labeled:
        raise UserError(
            f"{store.path}: no scene of split {split} has point labels, so there is nothing to "
            "measure; choose another --split."
        )
    return labeled


def combine_areas(paths: Sequence[pathlib.Path]) -> Report:
    """Measures the sum of six results.

    Args:
      paths: what `mprm evaluate --output` wrote for each area.

    Raises:
      FileNotFoundError: a result is not there.
      ValueError: a file is no such result, an area is missing or there twice, or the results were
        not measured alike.
    """
    results = {path: _read(path) for path in paths}
    areas = [result["test_area"] for result in results.values()]
    if len(set(areas)) < len(areas):
        raise UserError(f"results of areas {areas}; give one result of each area.")
    first = next(iter(results.values()))
    for path, result in results.items():
        for key in ("classes", "votes", "augmented", "measured"):
            if result.get(key) != first.get(key):
                raise UserError(f"{path}: {key} differs from {paths[0]}; measure all areas alike.")
        if result["columns"].keys() != first["columns"].keys():
            raise UserError(f"{path}: other columns than {paths[0]}; measure all areas alike.")
    found = {}
    for column in first["columns"]:
        of_column = {r["test_area"]: _confusion(r, column) for r in results.values()}
        found[column] = measure(sum_six_areas(of_column))
    alike = {key: first[key] for key in ("measured", "votes", "augmented") if key in first}
    values = alike | {"areas": sorted(areas), "classes": first["classes"]}
    values["columns"] = {column: measure_values(one) for column, one in found.items()}
    return Report(values, f"S3DIS, 6-fold\n{quality_table(found, first['classes'])}")


def submit(
    workdir: pathlib.Path,
    path: pathlib.Path,
    *,
    checkpoint: str = "last",
    store: pathlib.Path | None = None,
    votes: int = 1,
    augment: bool = False,
    num_devices: int | None = None,
) -> Report:
    """Writes the NYU40 id of every mesh vertex of the split "test", without tags.

    Args:
      workdir: of a run of stage seg.
      path: of the archive, in a folder that is there.
      store, votes, augment, num_devices: as of `evaluate_network`.

    Raises:
      FileNotFoundError: no run, checkpoint or store there.
      ValueError: a run of the other stage, or a store without just the benchmark's test scans.
      OSError: the archive cannot be written.
    """
    mesh = make_mesh(choose_devices(num_devices))
    network = open_network(workdir, "seg", checkpoint, mesh)
    scenes = open_store(network, store)
    counts = expected_vertices(scenes)
    keep_programs(workdir)
    voted = segment_scenes(
        *(network, scenes, SPLIT, tuple(counts), mesh), votes=votes, augment=augment
    )
    labels = {}
    for scene, segmented in voted:
        label = segmented.probabilities.argmax(axis=1).astype(np.uint8)
        labels[scene] = spread_to_points(label, scenes.point_voxel(SPLIT, scene))
    write_submission(path, labels, counts)
    check_submission(path, counts)
    values = {"submission": str(path), "workdir": str(workdir), "step": network.step}
    values |= {"votes": votes, "augmented": augment, "data": scenes.manifest.name}
    values |= {"scenes": len(counts), "vertices": sum(counts.values())}
    how = "augmented at random" if augment else "not augmented"
    text = (
        f"{path}: labels of {values['vertices']} vertices of {len(counts)} test scans, valid\n"
        f"{workdir}, step {network.step}: network, votes {votes}, {how}"
    )
    return Report(values, text)


def expected_vertices(store: SceneStore) -> dict[str, int]:
    """Vertices of each scan that the archive must cover: the benchmark's 100, or those of Rooms."""
    if not store.manifest.name.startswith(ROOMS):
        return vertex_counts(store)
    logger.warning("%s: made rooms; the benchmark would not take them", store.path)
    return vertex_counts(store, store.scenes(SPLIT))


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        values = read_json(path)
        if not isinstance(values, dict) or not {"test_area", "columns"} <= values.keys():
            raise UserError("no areas")
    except ValueError:
        raise UserError(
            f"{path}: not a result on S3DIS; write one with mprm evaluate --output."
        ) from None
    return values


def _confusion(result: dict[str, Any], column: str) -> Array:
    return np.array(result["columns"][column]["confusion"], np.int64)
