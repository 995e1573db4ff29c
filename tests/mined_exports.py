"""Exports of scores that a poor network might mine, made from the truth of a store."""

import pathlib

import numpy as np

from mprm_jax.labeling.choice import class_scale, decide, score_sums, standardise
from mprm_jax.store.exports import (
    Export,
    ExportedScene,
    ExportManifest,
    as_stored,
    finish_export,
    save_scene,
    scene_file,
)
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.truth import has_labels, voxel_labels

PATCH = 0.5  # meters, in which the network errs alike


def poor_scores(coords, truth, num_classes: int, seed: int, strength: float) -> np.ndarray:
    """[V, C] float32: `strength` for the true class, and noise that is alike in a patch."""
    cells = np.unique(np.floor(coords / PATCH), axis=0, return_inverse=True)[1].reshape(-1)
    noise = np.random.default_rng(seed).normal(size=(cells.max() + 1, num_classes))[cells]
    return (noise + strength * (truth[:, None] == np.arange(num_classes)[None])).astype(np.float32)


def mined_export(
    folder: pathlib.Path,
    store: SceneStore,
    *,
    strength: float = 2.0,
    predicted: bool = False,
    refined: bool = False,
) -> Export:
    """An export of the training scenes that have point labels.

    Args:
      strength: of the true class beside noise of deviation 1.
      predicted: scores are probabilities of a segmentation network.
      refined: the manifest says that they are marginals.
    """
    folder.mkdir(parents=True)
    scenes = tuple(name for name in store.scenes("train") if has_labels(store, "train", name))
    scores, num_classes = {}, len(store.classes)
    for seed, name in enumerate(scenes):
        coords, truth = store.voxel_cloud("train", name).coords, voxel_labels(store, "train", name)
        scores[name] = poor_scores(coords, truth, num_classes, seed, strength)
    scale = class_scale(score_sums(found) for found in scores.values())
    settings = {"mining": {"calibration": "class"}}
    settings["class_scale"] = {
        "mean": scale.mean.tolist(),
        "deviation": scale.deviation.tolist(),
    }
    if predicted:
        exponentials = {name: np.exp(found) for name, found in scores.items()}
        scores = {name: x / x.sum(axis=1, keepdims=True) for name, x in exponentials.items()}
        prior = np.concatenate(list(scores.values())).mean(axis=0, dtype=np.float64)
        settings = {"predicted": {}, "prior": prior.tolist()}
    if refined:
        settings = {"refined": {"settings": {}, "of": settings}}
    for name, found in scores.items():
        compared = found / prior[None] if predicted else standardise(found, scale)
        exported = _exported(store, name, found, compared)
        if predicted:  # such a network sees all of a scene
            exported = exported._replace(num_balls=np.maximum(exported.num_balls, 1))
        save_scene(scene_file(folder, name), exported)
    manifest = ExportManifest(
        data=store.manifest.name,
        classes=tuple(store.classes),
        split="train",
        fingerprint=store.fingerprint("train"),
        clouds=store.clouds_fingerprint("train", scenes),
        store=str(store.path),
        voxel_size=store.manifest.settings.voxel_size,
        scenes=scenes,
        settings=settings,
    )
    finish_export(folder, manifest)
    return Export(folder)


def _exported(store: SceneStore, name: str, scores, compared) -> ExportedScene:
    coords, weak = store.voxel_cloud("train", name).coords, store.weak_labels("train", name)
    allowed = store.candidates("train", name).allowed
    decision = decide(compared, allowed, coords)
    dist = np.linalg.norm(coords[:, None] - weak.centers[None], axis=-1)
    return ExportedScene(
        scores=scores.astype(np.float16),
        allowed=allowed,
        label=as_stored(decision.label),
        confidence=decision.confidence.astype(np.float16),
        num_balls=(dist < weak.radii[None]).sum(axis=1).astype(np.uint16),
        point_voxel=store.point_voxel("train", name),
    )
