"""Point labels that the segmentation network learns: exported, ground truth, or evidence alone."""

import functools
import hashlib
import pathlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.progress import progress_bar
from mprm_jax.store.exports import Export, as_labels, load_scene, scene_file
from mprm_jax.store.scenes import SceneStore, VoxelClouds
from mprm_jax.store.truth import has_labels, voxel_labels
from mprm_jax.types import IGNORED, Array

TRUTH = "truth"
EVIDENCE = "evidence"
_KEPT = 256  # scenes in memory


class Targets(Protocol):
    """Labels to learn, by scene."""

    name: str  # for people
    scenes: Sequence[str]  # that have some

    def labels(self, scene: str) -> Array:
        """Label of each voxel, [V] int32; IGNORED where there is none."""


class TrueLabels:
    """Ground truth of a split: the fully supervised reference.

    Raises:
      ValueError: a scene has none.
    """

    def __init__(self, store: SceneStore, split: str):
        self._store, self._split = store, split
        self.name, self.scenes = TRUTH, tuple(store.scenes(split))
        for scene in self.scenes:
            if not has_labels(store, split, scene):
                raise UserError(
                    f"{store.folder(split, scene)}: no point labels to learn; give the folder of "
                    "exported pseudo-labels instead of truth."
                )

    def labels(self, scene: str) -> Array:
        return voxel_labels(self._store, self._split, scene).astype(np.int32)


class PseudoLabels:
    """An export of pseudo-labels of a split.

    Raises:
      FileNotFoundError: no complete export there, or a file of it is missing.
      ValueError: of other data, of another split, or without a scene that has tags.
    """

    def __init__(self, path: pathlib.Path, store: SceneStore, split: str):
        export = Export(path)
        export.require_store(store)
        if export.manifest.split != split:
            raise UserError(
                f"{path}: pseudo-labels of split {export.manifest.split}, needed are those of "
                f"{split}; export them with --split {split}."
            )
        tagged = [scene for scene in store.scenes(split) if store.info(split, scene).subclouds]
        missing = sorted(set(tagged) - set(export.scenes))
        if missing:
            raise UserError(
                f"{path}: no pseudo-labels of scene {missing[0]} and {len(missing) - 1} more; "
                "export the pseudo-labels again."
            )
        self._path, self.name, self.scenes = export.path, str(path), export.scenes

    def labels(self, scene: str) -> Array:
        path = scene_file(self._path, scene)
        return _kept_labels(path, path.stat().st_mtime_ns if path.exists() else 0)


class EvidenceLabels:
    """What clicks, point labels and tags leave a single class to; the other voxels have no label.

    Raises:
      ValueError: no scene of the split has evidence.
    """

    def __init__(self, store: SceneStore, split: str):
        self._store, self._split, self.name = store, split, EVIDENCE
        infos = {scene: store.info(split, scene) for scene in store.scenes(split)}
        self.scenes = tuple(
            scene
            for scene, info in infos.items()
            if info.has_tags or info.clicks or (info.set_sizes and info.set_sizes[1])
        )
        if not self.scenes:
            raise UserError(
                f"{store.path}: nobody said anything of the scenes of split {split}; tag them, "
                "click at points, or name scenes with data.point_labels."
            )

    def labels(self, scene: str) -> Array:
        return _kept_single_classes(self._store, self._split, scene)


class Survey(NamedTuple):
    """What there is to learn."""

    counts: Array  # [num_classes] int64, voxels by label
    num_voxels: int  # with a label or without
    fingerprint: str  # changes when a label does


def open_targets(choice: str, store: SceneStore, split: str) -> Targets:
    """The targets that `--pseudo-labels` names: "truth", "evidence", or the folder of an export."""
    if choice == TRUTH:
        return TrueLabels(store, split)
    if choice == EVIDENCE:
        return EvidenceLabels(store, split)
    return PseudoLabels(pathlib.Path(choice), store, split)


def survey(targets: Targets, clouds: VoxelClouds, num_classes: int) -> Survey:
    """Reads the labels of every scene once, before training relies on them.

    Raises:
      ValueError: labels that do not fit their scene or the classes, or no label at all.
    """
    counts, num_voxels = np.zeros(num_classes, np.int64), 0
    digest = hashlib.sha256()
    with progress_bar(len(clouds.scenes), "scenes", "reading labels") as bar:
        for place, scene in enumerate(clouds.scenes):
            labels = targets.labels(scene)
            _check(targets, scene, labels, clouds.num_voxels(place), num_classes)
            counts += np.bincount(labels[labels >= 0], minlength=num_classes)
            num_voxels += len(labels)
            digest.update(scene.encode() + labels.astype("<i4").tobytes())
            bar.update()
    if not counts.any():
        raise UserError(f"{targets.name}: no voxel of any scene has a label to learn.")
    return Survey(counts, num_voxels, digest.hexdigest()[:16])


@functools.lru_cache(maxsize=_KEPT)
def _kept_labels(path: pathlib.Path, _changed: int) -> Array:
    return as_labels(load_scene(path, _Label).label)


@functools.lru_cache(maxsize=_KEPT)
def _kept_single_classes(store: SceneStore, split: str, scene: str) -> Array:
    allowed = store.candidates(split, scene).allowed
    single = allowed.sum(axis=1) == 1
    return np.where(single, allowed.argmax(axis=1), IGNORED).astype(np.int32)


class _Label(NamedTuple):
    """What is read of an exported scene."""

    label: Array  # [V] uint8


def _check(targets: Targets, scene: str, labels: Array, num_voxels: int, num_classes: int) -> None:
    if len(labels) != num_voxels:
        raise UserError(
            f"{targets.name}: {len(labels)} labels of scene {scene}, which has {num_voxels} "
            "voxels; export the pseudo-labels again."
        )
    if labels.max(initial=-1) >= num_classes:
        raise UserError(
            f"{targets.name}: label {labels.max()} in scene {scene}, but there are {num_classes} "
            "classes; export the pseudo-labels again."
        )
