"""The candidate sets among which the labels of an export are chosen, as the evidence is now."""

from typing import Any

import numpy as np

from mprm_jax.evidence.candidates import Candidates, scene_sets
from mprm_jax.store.datasets import refreshed
from mprm_jax.store.exports import Export, ExportedScene
from mprm_jax.store.scenes import SceneStore
from mprm_jax.training.hosts import first_on_each_disk

CANDIDATES = "candidates"  # rule of `mining.allowed`


def with_evidence_now(store: SceneStore) -> SceneStore:
    """The store with what people said since it was prepared; hosts take turns on a disk."""
    return first_on_each_disk([store.path], lambda: refreshed(store), "the prepared data")


def usable_sets(store: SceneStore, split: str, scene: str, labels: str) -> Candidates:
    """The candidate sets of a scene as far as they may be used.

    Args:
      labels: "subcloud", or "scene" if the tags of balls are not to be used.
    """
    sets = store.candidates(split, scene)
    if labels == "scene":
        scene_tags = store.weak_labels(split, scene).scene_tags
        return sets._replace(allowed=scene_sets(sets, scene_tags))
    return sets


def sets_of_export(
    export: Export, store: SceneStore, name: str, scene: ExportedScene
) -> Candidates:
    """The candidate sets of an exported scene: those of the store, where it chose by them.

    Clicks and tags that came after the export count. An export that chose by a coarser rule keeps
    the classes it allowed; where it allowed none, those that it allowed anywhere in the scene.
    """
    settings = origin_settings(export)
    if "predicted" in settings or settings.get("mining", {}).get("allowed") == CANDIDATES:
        return usable_sets(store, export.manifest.split, name, settings["labels"])
    anywhere = scene.allowed.any(axis=0)[None]
    allowed = np.where(scene.allowed.any(axis=1, keepdims=True), scene.allowed, anywhere)
    return Candidates(allowed, np.zeros(len(allowed), bool))


def origin_settings(export: Export) -> dict[str, Any]:
    """The settings with which the scores of an export were made, before any CRF."""
    settings = export.manifest.settings
    while "refined" in settings:
        settings = settings["refined"]["of"]
    return settings
