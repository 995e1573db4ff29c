"""Refines exported pseudo-labels with the dense CRF (paper 5.2), scene by scene."""

import concurrent.futures
import dataclasses
import logging
import pathlib
from typing import Any

import jax
import numpy as np

from mprm_jax.crf.refinement import refine
from mprm_jax.crf.settings import Smoothing
from mprm_jax.data.exports import (
    Export,
    ExportedScene,
    as_labels,
    as_stored,
    save_scene,
    scene_file,
)
from mprm_jax.data.store import SceneStore
from mprm_jax.errors import UserError
from mprm_jax.labeling.pseudo_labels import ClassScale, standardise
from mprm_jax.labeling.shared_exports import begin_together, finish_together
from mprm_jax.progress import progress_bar
from mprm_jax.types import IGNORED, Array

logger = logging.getLogger(__name__)

CHOICES = ("allowed", "scene", "all")


@dataclasses.dataclass(frozen=True)
class RefineSettings(Smoothing):
    """How labels of an export are smoothed, and within which classes.

    `classes` says which classes a point may have: "allowed", those of the export; "scene", those
    that the export allows anywhere in the scene; "all", as the released code.
    """

    classes: str = "allowed"

    def __post_init__(self):
        super().__post_init__()
        if self.classes not in CHOICES:
            raise UserError(f"classes is {self.classes!r}; choose one of {', '.join(CHOICES)}.")


def refine_export(
    export: Export, store: SceneStore, settings: RefineSettings, directory: pathlib.Path
) -> Export:
    """Writes an export with the refined labels of another, or finishes writing it.

    Scores become the CRF's marginals. Hosts share the scenes, and so do the accelerators of a
    host; on a CPU one scene after the other runs on all cores.

    Args:
      directory: new, empty, or of this same export.

    Raises:
      ValueError: another export there, other data, scans without colors, scores that are not
        finite.
      OSError: the disk is full.
    """
    export.require_store(store)
    _require_colors(export, store, settings)
    refined = {"settings": dataclasses.asdict(settings), "of": export.manifest.settings}
    manifest = dataclasses.replace(export.manifest, settings={"refined": refined})
    if (found := begin_together(directory, manifest)) is not None:
        logger.info("%s: complete already", directory)
        return found
    scenes = export.scenes[jax.process_index() :: jax.process_count()]
    left = [scene for scene in scenes if not scene_file(directory, scene).exists()]
    total = sum(store.info(export.manifest.split, scene).voxels for scene in left)
    cpu = jax.default_backend() == "cpu"
    devices = [None] if cpu else jax.local_devices()

    def refine_one(job: tuple[int, str]) -> int:
        number, name = job
        scene = refine_scene(export, store, name, settings, devices[number % len(devices)])
        save_scene(scene_file(directory, name), scene)
        return len(scene.label)

    with (
        progress_bar(total, "points", "refining") as bar,
        concurrent.futures.ThreadPoolExecutor(len(devices)) as pool,
    ):
        for num_points in pool.map(refine_one, enumerate(left)):
            bar.update(num_points)
    return finish_together(directory, manifest)


def refine_scene(
    export: Export,
    store: SceneStore,
    name: str,
    settings: RefineSettings,
    device: jax.Device | None = None,
) -> ExportedScene:
    """The refined labels of one scene.

    A voxel without evidence of its own, in no ball, hears its neighbors and says nothing; where it
    hears nothing either, it keeps its label.

    Raises:
      ValueError: a score is not finite, or a label is no class.
    """
    scene, split = export.load(name), export.manifest.split
    cloud = store.voxel_cloud(split, name)
    if not scene.allowed.any():
        return scene
    # Refined before, a voxel in no ball has allowed classes, but still no evidence.
    ignored = ~scene.allowed.any(axis=1) | (scene.num_balls == 0)
    allowed = refined_classes(scene.allowed, settings.classes)
    probabilities = exported_probabilities(export, scene)
    labels = as_labels(scene.label)
    for what, wrong in (
        ("scores of voxel {} are not finite", ~np.isfinite(probabilities).all(axis=1)),
        ("label of voxel {} is no class", labels >= len(export.classes)),
    ):
        if wrong.any():
            raise UserError(
                f"{scene_file(export.path, name)}: the {what.format(wrong.argmax())}; "
                "export the pseudo-labels again."
            )
    result = refine(
        cloud.coords,
        cloud.colors,
        probabilities,
        settings,
        allowed=allowed,
        ignored=ignored,
        labels=labels,
        device=device,
    )
    confidence = np.where(result.labels == IGNORED, 0, result.marginals.max(axis=1))
    return scene._replace(
        scores=result.marginals.astype(np.float16),
        allowed=allowed,
        label=as_stored(result.labels),
        confidence=confidence.astype(np.float16),
    )


def exported_probabilities(export: Export, scene: ExportedScene) -> Array:
    """Softmax of the scores that labels were chosen by, over the allowed classes, [V, C] float32.

    Rows without an allowed class are 0.
    """
    settings: dict[str, Any] = export.manifest.settings
    scores = scene.scores.astype(np.float32)
    if "refined" in settings:
        return scores
    if settings["mining"]["calibration"] == "class":
        scale = ClassScale(**{key: np.array(x) for key, x in settings["class_scale"].items()})
        scores = standardise(scores, scale)
    scores = np.where(scene.allowed, scores, -np.inf)
    best = np.where(scene.allowed.any(axis=1), scores.max(axis=1), 0.0)
    exponentials = np.exp(scores - best[:, None])
    return exponentials / np.maximum(exponentials.sum(axis=1, keepdims=True), 1e-30)


def refined_classes(allowed: Array, choice: str) -> Array:
    """Classes that the CRF may choose from at each voxel, [V, num_classes] bool.

    Args:
      allowed: [V, num_classes] of the export; where a row is empty, any class of the scene.
      choice: see `RefineSettings`.
    """
    scene = np.broadcast_to(allowed.any(axis=0)[None], allowed.shape)
    if choice == "all":
        return np.ones_like(allowed)
    if choice == "scene":
        return scene.copy()
    return np.where(allowed.any(axis=1, keepdims=True), allowed, scene)


def _require_colors(export: Export, store: SceneStore, settings: RefineSettings) -> None:
    if not settings.color_width:
        return
    for name in export.scenes:
        if not store.info(export.manifest.split, name).has_colors:
            raise UserError(
                f"{store.path}: scene {name} has no colors, which one kernel compares; "
                "refine by position alone with --color-width 0."
            )
