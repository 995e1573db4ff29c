"""Exports pseudo-labels: mines class scores with a trained network, then chooses labels by them.

Labels are chosen on a scale of the whole data set, so this takes two passes. Scores of scenes that
are done wait in the folder `.mined`, from where an interrupted export continues.
"""

import dataclasses
import json
import logging
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mprm_jax.batches.balls import BallParts
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.config import Config, MiningConfig
from mprm_jax.errors import UserError
from mprm_jax.evidence.candidates import allowed_classes
from mprm_jax.labeling.candidates import CANDIDATES, usable_sets
from mprm_jax.labeling.choice import (
    ClassScale,
    ScoreSums,
    class_scale,
    decide,
    has_scores,
    score_sums,
    standardise,
)
from mprm_jax.models.mprm import Mprm
from mprm_jax.ops.pcam import merge_paths
from mprm_jax.ops.pooling import nearest_upsample
from mprm_jax.progress import progress_bar
from mprm_jax.provenance import made_by
from mprm_jax.store.exports import (
    Export,
    ExportedScene,
    ExportManifest,
    as_stored,
    begin_export,
    finish_export,
    load_scene,
    save_scene,
    scene_file,
    set_aside_another,
)
from mprm_jax.store.scenes import SceneStore
from mprm_jax.training.answers import ReadyNetwork, SceneSums, scene_sums
from mprm_jax.training.hosts import (
    exchange,
    is_first_host,
    require_shared,
    sum_over_hosts,
    wait_for_all_hosts,
)
from mprm_jax.training.parallel import describe_devices
from mprm_jax.types import Array, Batch, MprmOutput
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


class SceneVotes(NamedTuple):
    """What all balls of one scene say about its voxels."""

    scores: Array  # [V, num_classes] float32, mean over the balls of a voxel; 0 in no ball
    num_balls: Array  # [V] uint16
    num_tagged: Array  # [V, num_classes] uint16, balls of the voxel that are tagged with the class


def export_pseudo_labels(
    network: ReadyNetwork,
    balls: TaggedBalls,
    directory: pathlib.Path,
    origin: dict[str, Any],
    *,
    is_own: bool = False,
) -> Export:
    """Writes pseudo-labels of every tagged scene of a split, or finishes writing them.

    Every host takes its share of the scenes with its own devices; the result depends neither on
    the hosts nor on the devices.

    Args:
      network: its step returns point class activation maps, see `make_mining`.
      directory: of the export; new, empty, or of this same export.
      origin: JSON values that say which network this is, e.g. the step of its checkpoint.
      is_own: as of `begin_together`.

    Raises:
      ValueError: the directory holds another export.
      OSError: the disk is full.
    """
    config = network.config
    manifest = _manifest(balls, config, origin)
    if (found := begin_together(directory, manifest, is_own=is_own)) is not None:
        logger.info("%s: complete already", directory)
        return found
    with explain_failed_write(directory):
        (directory / MINED).mkdir(exist_ok=True)
    share = slice(jax.process_index(), None, jax.process_count())
    tagged = [i for i, name in enumerate(balls.scenes) if name in set(manifest.scenes)]
    _mine(network, balls, directory / MINED, tagged[share])
    wait_for_all_hosts("mined")
    scale = class_scale(
        ScoreSums(mined.count, mined.total, mined.total_sq)
        for mined in (_load_mined(directory, scene) for scene in manifest.scenes)
    )
    _choose(balls, config, scale, directory, manifest.scenes[share])
    values = {"mean": scale.mean.tolist(), "deviation": scale.deviation.tolist()}
    export = finish_together(directory, manifest, network.mesh, class_scale=values)
    if is_first_host():
        shutil.rmtree(directory / MINED)
    return export


def make_mining(model: Mprm, mining: MiningConfig) -> Callable[[Any, Batch], Array]:
    """Returns (variables, bucket) -> point class activation maps [T_0, num_classes].

    Paths are merged on the coarsest level and the result is copied up to level 0 (paper 4.2).

    Raises:
      ValueError: the network was trained without one of the paths.
    """
    trained = model.config.paths
    missing = [path for path in mining.paths if path not in trained]
    if missing:
        raise UserError(
            f"mining.paths: the network has no path {missing[0]!r}; it was trained with "
            f"{', '.join(trained)}."
        )
    chosen = np.array([trained.index(path) for path in mining.paths or trained])

    def mine(variables: Any, batch: Batch) -> Array:
        output: MprmOutput = model.apply(variables, batch.pyramid, batch.features)
        scores = merge_paths(output.point_scores[chosen], mining.fusion)
        for upsamples in reversed(batch.pyramid.upsamples):
            scores = nearest_upsample(scores, upsamples)
        return scores

    return mine


def scene_votes(
    network: ReadyNetwork,
    balls: TaggedBalls,
    scenes: Sequence[int],
    progress: Callable[[int], None],
) -> Iterator[tuple[int, SceneVotes]]:
    """Yields the votes of every scene in order; each ball votes `mining.votes` times.

    The first time it lies where it is; then it moves at random as in training.

    Args:
      network: its step returns the maps of all buckets, [num_devices * T_0, num_classes].
      balls: those too large for a bucket vote in parts.
      scenes: places in `balls.scenes`.
      progress: called with the number of votes just taken, of the `num_votes`.
    """
    epochs, parts = (None, *range(network.config.mining.votes - 1)), BallParts(balls)
    if len(epochs) > 1:
        parts.keep(network.config.data.keep_gb)
    merged = scene_sums(network, parts, scenes, epochs, progress)
    for scene, found in merged:
        yield scene, _votes(balls, scene, found)


def num_votes(balls: TaggedBalls, mining: MiningConfig, scenes: Sequence[int]) -> int:
    """Votes that `scene_votes` takes for some scenes."""
    return int(np.isin(BallParts(balls).scene_of, scenes).sum()) * mining.votes


def manifest_of(store: SceneStore, split: str, settings: dict[str, Any]) -> ExportManifest:
    """What an export of all scenes of a split about which there is evidence says of itself.

    Args:
      settings: how its scores are made and labels chosen.
    """
    infos = {scene: store.info(split, scene) for scene in store.scenes(split)}
    scenes = tuple(scene for scene, info in infos.items() if info.subclouds or info.clicks)
    return ExportManifest(
        data=store.manifest.name,
        classes=tuple(store.classes),
        split=split,
        fingerprint=store.fingerprint(split),
        clouds=store.clouds_fingerprint(split, scenes),
        store=str(store.path.absolute()),
        voxel_size=store.manifest.settings.voxel_size,
        scenes=scenes,
        settings=json.loads(json.dumps(settings)),
    )


def begin_together(
    folder: pathlib.Path, manifest: ExportManifest, *, is_own: bool = False
) -> Export | None:
    """Claims a folder for all hosts; returns what is there if that is this export, complete.

    Args:
      is_own: the folder is for this export alone; another one that it holds is set aside.

    Raises:
      ValueError: the folder holds another export, or hosts do not share it.
      OSError: it cannot be written.
    """
    require_shared(folder)
    if is_own and is_first_host():
        set_aside_another(folder, manifest)
    found = begin_export(folder, manifest) if is_first_host() else None
    complete = exchange("complete" if found else "begun", f"begin {folder}")[0] == "complete"
    return Export(folder) if complete else None


def finish_together(
    folder: pathlib.Path, manifest: ExportManifest, mesh: jax.sharding.Mesh, **settings: Any
) -> Export:
    """Declares an export complete once all hosts have written their scenes.

    Args:
      mesh: the devices that computed, of this host.
      settings: JSON values found on the way, added to those of the manifest.
    """
    wait_for_all_hosts(f"scenes of {folder}")
    if is_first_host():
        finish_export(folder, manifest, made_by(describe_devices(mesh)), **settings)
    wait_for_all_hosts(f"finish {folder}")
    return Export(folder)


def _manifest(balls: TaggedBalls, config: Config, origin: dict[str, Any]) -> ExportManifest:
    settings = {
        "origin": origin,
        "mining": dataclasses.asdict(config.mining),
        "labels": config.data.labels,
        "tag_frequency": balls.tags.mean(axis=0).tolist(),
    }
    return manifest_of(balls.store, balls.split, settings)


def _mine(
    network: ReadyNetwork,
    balls: TaggedBalls,
    folder: pathlib.Path,
    scenes: Sequence[int],
) -> None:
    """First pass: the scores of the scenes that are not done yet."""
    left = [i for i in scenes if not scene_file(folder, balls.scenes[i]).exists()]
    if len(left) < len(scenes):
        logger.info("continuing: %d of %d scenes are mined", len(scenes) - len(left), len(scenes))
    total = num_votes(balls, network.config.mining, left)
    with progress_bar(total, "balls", "mining") as bar:
        votes = scene_votes(network, balls, left, bar.update)
        for scene, (scores, num_balls, num_tagged) in votes:
            scores = scores.astype(np.float16)
            mined = MinedScene(scores, num_balls, num_tagged, *score_sums(scores[num_balls > 0]))
            save_scene(scene_file(folder, balls.scenes[scene]), mined)


def _load_mined(directory: pathlib.Path, scene: str) -> MinedScene:
    return load_scene(scene_file(directory / MINED, scene), MinedScene)


def _choose(
    balls: TaggedBalls,
    config: Config,
    scale: ClassScale,
    directory: pathlib.Path,
    scenes: Sequence[str],
) -> None:
    """Second pass: chooses labels and writes the scenes."""
    store, split, mining = balls.store, balls.split, config.mining
    uncovered, total, unlabeled = 0, 0, []
    with progress_bar(len(scenes), "scenes", "labeling") as bar:
        for scene in scenes:
            mined = _load_mined(directory, scene)
            allowed = _allowed(balls, config, scene, mined)
            scores = mined.scores.astype(np.float32)
            scores = standardise(scores, scale) if mining.calibration == "class" else scores
            coords = store.voxel_cloud(split, scene).coords
            decision = decide(scores, allowed, coords, has_scores(mined.num_balls))
            exported = ExportedScene(
                scores=mined.scores,
                allowed=allowed,
                label=as_stored(decision.label),
                confidence=decision.confidence.astype(np.float16),
                num_balls=mined.num_balls,
                point_voxel=store.point_voxel(split, scene),
            )
            save_scene(scene_file(directory, scene), exported)
            if mined.num_balls.any():  # else it has clicks alone, and labels where they are
                uncovered += int(np.sum(mined.num_balls == 0))
                total += len(allowed)
            unlabeled += [] if allowed.any() else [scene]
            bar.update()
    _report(uncovered, total, unlabeled)


def _allowed(balls: TaggedBalls, config: Config, scene: str, mined: MinedScene) -> Array:
    """Classes among which the labels of a scene are chosen, [V, num_classes] bool."""
    if config.mining.allowed == CANDIDATES:
        of_scene = usable_sets(balls.store, balls.split, scene, config.data.labels).allowed
        if mined.num_balls.any():
            return of_scene
        # Clicks alone: what they do not reach stays open, nothing is known to be like it.
        return of_scene & (of_scene.sum(axis=1, keepdims=True) == 1)
    scene_tags = balls.tags[balls.scene_of == balls.scenes.index(scene)].any(axis=0)
    return allowed_classes(mined.num_balls, mined.num_tagged, scene_tags, config.mining.allowed)


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
            len(unlabeled),
            ", ".join(unlabeled),
        )


def _votes(balls: TaggedBalls, scene: int, found: SceneSums) -> SceneVotes:
    """Means of the sums, and counts of the balls and their tags: of whole balls, as tagged."""
    num_balls = np.zeros(len(found.sums), np.uint16)
    num_tagged = np.zeros(found.sums.shape, np.uint16)
    for index in np.flatnonzero(balls.scene_of == scene):
        rows = balls.rows(index)
        num_balls[rows] += 1
        num_tagged[rows] += balls.tags[index][None]
    return SceneVotes(found.sums / np.maximum(found.num_votes, 1)[:, None], num_balls, num_tagged)
