"""Exports pseudo-labels: mines class scores with a trained network, then chooses labels by them.

Labels are chosen on a scale of the whole data set, so this takes two passes. Scores of scenes that
are done wait in the folder `.mined`, from where an interrupted export continues.
"""

import dataclasses
import json
import logging
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mprm_jax.batches.tagged_balls import Subclouds
from mprm_jax.config import Config
from mprm_jax.evidence.candidates import allowed_classes
from mprm_jax.labeling.choice import (
    ClassScale,
    ScoreSums,
    class_scale,
    decide,
    score_sums,
    standardise,
)
from mprm_jax.labeling.shared_exports import begin_together, finish_together
from mprm_jax.labeling.votes import num_votes, scene_votes
from mprm_jax.progress import progress_bar
from mprm_jax.store.exports import (
    Export,
    ExportedScene,
    ExportManifest,
    as_stored,
    load_scene,
    save_scene,
    scene_file,
)
from mprm_jax.training.hosts import is_first_host, sum_over_hosts, wait_for_all_hosts
from mprm_jax.types import Array
from mprm_jax.writing import explain_failed_write

logger = logging.getLogger(__name__)

MINED = ".mined"


class MinedScene(NamedTuple):
    """Scores of one scene before labels are chosen, by voxel; and its `ScoreSums`."""

    scores: Array  # [V, num_classes] float16, mean over balls and merged over paths
    num_balls: Array  # [V] uint16
    num_tagged: Array  # [V, num_classes] uint16
    count: Array
    total: Array
    total_sq: Array


def export_pseudo_labels(
    predict: Callable[[Any, Any], Any],
    state: Any,
    subclouds: Subclouds,
    config: Config,
    mesh: jax.sharding.Mesh,
    directory: pathlib.Path,
    origin: dict[str, Any],
    *,
    is_own: bool = False,
) -> Export:
    """Writes pseudo-labels of every tagged scene of a split, or finishes writing them.

    Every host takes its share of the scenes with its own devices; the result depends neither on
    the hosts nor on the devices.

    Args:
      predict: step that returns point class activation maps, see `votes.make_mining`.
      mesh: of this host's devices.
      directory: of the export; new, empty, or of this same export.
      origin: JSON values that say which network this is, e.g. the step of its checkpoint.
      is_own: as of `begin_together`.

    Raises:
      ValueError: the directory holds another export.
      OSError: the disk is full.
    """
    manifest = _manifest(subclouds, config, origin)
    if (found := begin_together(directory, manifest, is_own=is_own)) is not None:
        logger.info("%s: complete already", directory)
        return found
    with explain_failed_write(directory):
        (directory / MINED).mkdir(exist_ok=True)
    share = slice(jax.process_index(), None, jax.process_count())
    tagged = [i for i, name in enumerate(subclouds.scenes) if name in set(manifest.scenes)]
    _mine(predict, state, subclouds, config, mesh, directory / MINED, tagged[share])
    wait_for_all_hosts("mined")
    scale = class_scale(
        ScoreSums(mined.count, mined.total, mined.total_sq)
        for mined in (_load_mined(directory, scene) for scene in manifest.scenes)
    )
    _choose(subclouds, config, scale, directory, manifest.scenes[share])
    values = {"mean": scale.mean.tolist(), "deviation": scale.deviation.tolist()}
    export = finish_together(directory, manifest, class_scale=values)
    if is_first_host():
        shutil.rmtree(directory / MINED)
    return export


def _manifest(subclouds: Subclouds, config: Config, origin: dict[str, Any]) -> ExportManifest:
    store = subclouds.store
    tagged = sorted(set(subclouds.scene_of.tolist()))
    settings = {
        "origin": origin,
        "mining": dataclasses.asdict(config.mining),
        "labels": config.data.labels,
        "tag_frequency": subclouds.tags.mean(axis=0).tolist(),
    }
    return ExportManifest(
        data=store.manifest.name,
        classes=tuple(store.classes),
        split=subclouds.split,
        fingerprint=store.fingerprint(subclouds.split),
        store=str(store.path.absolute()),
        voxel_size=store.manifest.settings.voxel_size,
        scenes=tuple(subclouds.scenes[i] for i in tagged),
        settings=json.loads(json.dumps(settings)),
    )


def _mine(
    predict: Callable[[Any, Any], Any],
    state: Any,
    subclouds: Subclouds,
    config: Config,
    mesh: jax.sharding.Mesh,
    folder: pathlib.Path,
    scenes: Sequence[int],
) -> None:
    """First pass: the scores of the scenes that are not done yet."""
    left = [i for i in scenes if not scene_file(folder, subclouds.scenes[i]).exists()]
    if len(left) < len(scenes):
        logger.info("continuing: %d of %d scenes are mined", len(scenes) - len(left), len(scenes))
    total = num_votes(subclouds, config.mining, left)
    with progress_bar(total, "subclouds", "mining") as bar:
        votes = scene_votes(predict, state, subclouds, config, mesh, left, bar.update)
        for scene, (scores, num_balls, num_tagged) in votes:
            scores = scores.astype(np.float16)
            mined = MinedScene(scores, num_balls, num_tagged, *score_sums(scores[num_balls > 0]))
            save_scene(scene_file(folder, subclouds.scenes[scene]), mined)


def _load_mined(directory: pathlib.Path, scene: str) -> MinedScene:
    return load_scene(scene_file(directory / MINED, scene), MinedScene)


def _choose(
    subclouds: Subclouds,
    config: Config,
    scale: ClassScale,
    directory: pathlib.Path,
    scenes: Sequence[str],
) -> None:
    """Second pass: chooses labels and writes the scenes."""
    store, split, mining = subclouds.store, subclouds.split, config.mining
    uncovered, total, unlabeled = 0, 0, []
    with progress_bar(len(scenes), "scenes", "labeling") as bar:
        for scene in scenes:
            mined = _load_mined(directory, scene)
            scene_tags = subclouds.tags[subclouds.scene_of == subclouds.scenes.index(scene)]
            allowed = allowed_classes(
                mined.num_balls, mined.num_tagged, scene_tags.any(axis=0), mining.allowed
            )
            scores = mined.scores.astype(np.float32)
            scores = standardise(scores, scale) if mining.calibration == "class" else scores
            decision = decide(scores, allowed, store.voxel_cloud(split, scene).coords)
            exported = ExportedScene(
                scores=mined.scores,
                allowed=allowed,
                label=as_stored(decision.label),
                confidence=decision.confidence.astype(np.float16),
                num_balls=mined.num_balls,
                point_voxel=store.point_voxel(split, scene),
            )
            save_scene(scene_file(directory, scene), exported)
            uncovered, total = uncovered + int(np.sum(mined.num_balls == 0)), total + len(allowed)
            unlabeled += [] if allowed.any() else [scene]
            bar.update()
    _report(uncovered, total, unlabeled)


def _report(uncovered: int, total: int, unlabeled: list[str]) -> None:
    """Tells of the voxels of all hosts, and of the scenes of this one."""
    uncovered, total = sum_over_hosts(np.array([uncovered, total]))
    logger.info(
        "%.2f %% of %d voxels lie in no ball and take the label of the nearest one that does",
        100 * uncovered / max(total, 1),
        total,
    )
    if unlabeled:
        logger.warning(
            "%d scenes are tagged with no class and get no label, which counts as wrong: %s",
            *(len(unlabeled), ", ".join(unlabeled)),
        )
