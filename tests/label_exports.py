"""Exports of pseudo-labels that no network has mined."""

import dataclasses
import pathlib

import numpy as np

from mprm_jax.store.exports import (
    ExportedScene,
    ExportManifest,
    as_stored,
    finish_export,
    save_scene,
    scene_file,
)
from mprm_jax.store.scenes import SceneStore


def pseudo_labels(store: SceneStore) -> dict[str, np.ndarray]:
    """Random labels of every training scene."""
    labels = {}
    for number, scene in enumerate(store.scenes("train")):
        rng = np.random.default_rng(number)
        labels[scene] = rng.integers(-1, 3, store.info("train", scene).voxels).astype(np.int32)
    return labels


def write_export(
    folder: pathlib.Path, store: SceneStore, labels: dict[str, np.ndarray], **changes
) -> pathlib.Path:
    """An export with these labels; `changes` are of its manifest."""
    folder.mkdir()
    for scene, label in labels.items():
        nothing = np.zeros((len(label), 3), np.float16)
        arrays = ExportedScene(
            scores=nothing,
            allowed=nothing > 0,
            label=as_stored(label),
            confidence=nothing[:, 0],
            num_balls=nothing[:, 0].astype(np.uint16),
            point_voxel=store.point_voxel("train", scene),
        )
        save_scene(scene_file(folder, scene), arrays)
    manifest = ExportManifest(
        data="fake",
        classes=tuple(store.classes),
        split="train",
        fingerprint=store.fingerprint("train"),
        voxel_size=0.16,
        scenes=tuple(labels),
        settings={},
        store=str(store.path),
    )
    finish_export(folder, dataclasses.replace(manifest, **changes))
    return folder
