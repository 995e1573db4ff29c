"""Exports what a segmentation network says of scenes people gave evidence of, for the next round.

The export is of the same form as that of MPRM: its labels are chosen among the candidates of each
voxel, by the network's probabilities divided by their mean over all voxels. Without that division
rare classes vanish from round to round.
"""

import logging
import pathlib
import shutil
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.labeling.candidates import usable_sets, with_evidence_now
from mprm_jax.labeling.choice import decide, over_prior
from mprm_jax.labeling.exporting import report_export
from mprm_jax.labeling.mining import MINED, begin_together, finish_together, manifest_of
from mprm_jax.prediction.scenes import segment_scenes
from mprm_jax.progress import Report, progress_bar
from mprm_jax.store.exports import (
    Export,
    ExportedScene,
    ExportManifest,
    as_stored,
    load_scene,
    save_scene,
    scene_file,
)
from mprm_jax.store.scenes import SceneStore
from mprm_jax.training.hosts import is_first_host, wait_for_all_hosts
from mprm_jax.training.parallel import choose_devices, local_copy, local_mesh, make_mesh
from mprm_jax.training.start import keep_programs
from mprm_jax.training.trained import TrainedNetwork, open_network, open_store, weights_digest
from mprm_jax.types import Array
from mprm_jax.writing import explain_failed_write

logger = logging.getLogger(__name__)


class PredictedScene(NamedTuple):
    """What the network says of one scene before labels are chosen, by voxel."""

    scores: Array  # [V, num_classes] float16, probabilities
    num_balls: Array  # [V] uint16
    total: Array  # [num_classes] float64, sum over the voxels


def export_predictions(
    workdir: pathlib.Path,
    *,
    checkpoint: str,
    store: pathlib.Path | None,
    split: str,
    output: pathlib.Path | None,
    num_devices: int | None,
    as_ply: bool,
) -> Report:
    """Exports a split with the network of a run of stage seg.

    Args: as of `labeling.exporting.export_run`.

    Raises:
      ValueError: a run of the other stage or of other classes, a split without evidence, a folder
        that holds another export.
      OSError: something is missing or cannot be written.
    """
    mesh = make_mesh(choose_devices(num_devices))
    network = open_network(workdir, "seg", checkpoint, mesh)
    scenes = open_store(network, with_evidence_now(open_store(network, store)).path)
    directory = output or workdir / "pseudo_labels"
    manifest = _manifest(network, scenes, split)
    found = begin_together(directory, manifest, is_own=output is None)
    if found is not None:
        logger.info("%s: complete already", directory)
    else:
        keep_programs(workdir)
        found = _export(network, scenes, manifest, directory, local_mesh(mesh))
    return report_export(found, scenes, network.step, as_ply=as_ply)


def _manifest(network: TrainedNetwork, store: SceneStore, split: str) -> ExportManifest:
    origin = {"network": "unet", "seed": network.config.seed, "step": network.step}
    origin["weights"] = weights_digest(network.state.variables["params"])
    settings = {"predicted": origin, "labels": network.config.data.labels}
    manifest = manifest_of(store, split, settings)
    if not manifest.scenes:
        raise UserError(
            f"{store.path}: no scene of split {split} has tags or clicks, so there is nothing to "
            "choose labels from; label scans with mprm predict instead."
        )
    return manifest


def _export(
    network: TrainedNetwork,
    store: SceneStore,
    manifest: ExportManifest,
    directory: pathlib.Path,
    here: jax.sharding.Mesh,
) -> Export:
    """Writes what is missing of an export; hosts share the scenes."""
    network = network._replace(state=local_copy(network.state, here))
    folder, scenes = directory / MINED, manifest.scenes
    with explain_failed_write(directory):
        folder.mkdir(exist_ok=True)
    places = range(jax.process_index(), len(scenes), jax.process_count())
    left = [place for place in places if not scene_file(folder, scenes[place]).exists()]
    if left:
        _predict(network, store, manifest, folder, left, here)
    wait_for_all_hosts("predicted")
    totals = [load_scene(scene_file(folder, name), PredictedScene).total for name in scenes]
    num_voxels = sum(store.info(manifest.split, name).voxels for name in scenes)
    prior = np.sum(totals, axis=0) / num_voxels
    _choose(store, manifest, directory, prior, [scenes[place] for place in places])
    export = finish_together(directory, manifest, prior=prior.tolist())
    if is_first_host():
        shutil.rmtree(folder)
    return export


def _predict(
    network: TrainedNetwork,
    store: SceneStore,
    manifest: ExportManifest,
    folder: pathlib.Path,
    places: Sequence[int],
    here: jax.sharding.Mesh,
) -> None:
    """Predicts the scenes at some places; balls are those of a run over all, whoever does them."""
    segmented = segment_scenes(
        *(network, store, manifest.split, manifest.scenes, here),
        votes=1,
        augment=False,
        places=places,
    )
    for name, found in segmented:
        total = found.probabilities.sum(axis=0, dtype=np.float64)
        scores = found.probabilities.astype(np.float16)
        predicted = PredictedScene(scores, found.num_seen.astype(np.uint16), total)
        save_scene(scene_file(folder, name), predicted)


def _choose(
    store: SceneStore,
    manifest: ExportManifest,
    directory: pathlib.Path,
    prior: Array,
    scenes: Sequence[str],
) -> None:
    """Chooses labels and writes the scenes."""
    labels = manifest.settings["labels"]
    with progress_bar(len(scenes), "scenes", "labeling") as bar:
        for name in scenes:
            found = load_scene(scene_file(directory / MINED, name), PredictedScene)
            allowed = usable_sets(store, manifest.split, name, labels).allowed
            coords = store.voxel_cloud(manifest.split, name).coords
            probabilities = over_prior(found.scores.astype(np.float32), prior, allowed)
            decision = decide(probabilities, allowed, coords)
            confidence = probabilities[np.arange(len(coords)), decision.label]
            confidence = np.where(decision.label < 0, 0, confidence)
            exported = ExportedScene(
                scores=found.scores,
                allowed=allowed,
                label=as_stored(decision.label),
                confidence=confidence.astype(np.float16),
                num_balls=found.num_balls,
                point_voxel=store.point_voxel(manifest.split, name),
            )
            save_scene(scene_file(directory, name), exported)
            bar.update()
