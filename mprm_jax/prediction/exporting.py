"""Exports what a segmentation network says of scenes people gave evidence of, for the next round.

The export is of the same form as that of MPRM: its labels are chosen among the candidates of each
voxel, by the network's probabilities divided by their mean over all voxels. Without that division
rare classes vanish from round to round. What MPRM said of the same scenes can be multiplied in.
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
from mprm_jax.labeling.choice import decide, exported_probabilities, over_prior
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

AGREEMENT = "agreement"  # share of free predictions that are candidates, in the settings of exports
FAINTEST = 1e-6  # probability that counts as no smaller; half precision knows no smaller one
LARGEST = 1e4  # of shares beside the best allowed one; half precision ends at 65504
# Power of the mean probability that is divided out, by the weights of the loss: 1 / square root of
# the frequency has divided by about the power 0.5 already. Chosen on training rooms.
PRIOR_EXPONENTS = {"none": 0.75, "inverse_sqrt": 0.25}


class PredictedScene(NamedTuple):
    """What the network says of one scene before labels are chosen, by voxel."""

    scores: Array  # [V, num_classes] float16, probabilities
    num_balls: Array  # [V] uint16
    total: Array  # [num_classes] float64, sum over the voxels
    num_judged: Array  # [] int64, voxels to which the evidence leaves some classes, but not all
    num_within: Array  # [] int64, of these, whose most probable class is among them


class _Sums(NamedTuple):
    """What all scenes are needed for, of a `PredictedScene`."""

    total: Array
    num_judged: Array
    num_within: Array


def export_predictions(
    workdir: pathlib.Path,
    *,
    checkpoint: str,
    store: pathlib.Path | None,
    split: str,
    output: pathlib.Path | None,
    num_devices: int | None,
    as_ply: bool,
    beside: pathlib.Path | None = None,
    prior_exponent: float | None = None,
) -> Report:
    """Exports a split with the network of a run of stage seg.

    Args: as of `labeling.exporting.export_run`, and
      beside: export of MPRM, not refined, whose probabilities are multiplied in.
      prior_exponent: power of the mean probability that is divided out; by default that of
        `PRIOR_EXPONENTS` for the weights of the run's loss.

    Raises:
      ValueError: a run of the other stage or of other classes, a split without evidence, a folder
        that holds another export, an export of other scenes beside it.
      OSError: something is missing or cannot be written.
    """
    mesh = make_mesh(choose_devices(num_devices))
    network = open_network(workdir, "seg", checkpoint, mesh)
    scenes = open_store(network, with_evidence_now(open_store(network, store)).path)
    directory = output or workdir / "pseudo_labels"
    other = None if beside is None else _open_beside(beside, scenes)
    manifest = _manifest(network, scenes, split, other, prior_exponent)
    found = begin_together(directory, manifest, is_own=output is None)
    if found is not None:
        logger.info("%s: complete already", directory)
    else:
        keep_programs(workdir)
        found = _export(network, scenes, manifest, directory, local_mesh(mesh), other)
    return report_export(found, scenes, network.step, as_ply=as_ply)


def _open_beside(path: pathlib.Path, store: SceneStore) -> Export:
    """Raises `UserError` if the export is refined, or of other scenes."""
    export = Export(path)
    if "refined" in export.manifest.settings:
        raise UserError(
            f"{path}: smoothed by the CRF already; give the export that it was made of."
        )
    export.require_scenes(store)
    return export


def _manifest(
    network: TrainedNetwork,
    store: SceneStore,
    split: str,
    beside: Export | None,
    prior_exponent: float | None,
) -> ExportManifest:
    origin = {"network": "unet", "seed": network.config.seed, "step": network.step}
    origin["weights"] = weights_digest(network.state.variables["params"])
    if beside is not None:
        origin["beside"] = beside.manifest.settings
    if prior_exponent is None:
        prior_exponent = PRIOR_EXPONENTS[network.config.seg.class_weights]
    if not 0 <= prior_exponent < np.inf:
        raise UserError(f"--prior-exponent {prior_exponent}: give 0 or more.")
    origin["prior_exponent"] = prior_exponent
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
    beside: Export | None,
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
    # Sums alone: the probabilities of all scenes need not fit into memory.
    done = [load_scene(scene_file(folder, name), _Sums) for name in scenes]
    num_voxels = sum(store.info(manifest.split, name).voxels for name in scenes)
    exponent = manifest.settings["predicted"]["prior_exponent"]
    prior = (np.sum([scene.total for scene in done], axis=0) / num_voxels) ** exponent
    num_judged = max(sum(int(scene.num_judged) for scene in done), 1)
    agreement = sum(int(scene.num_within) for scene in done) / num_judged
    _choose(store, manifest, directory, prior, [scenes[place] for place in places], beside)
    more = {"prior": prior.tolist(), AGREEMENT: agreement}
    export = finish_together(directory, manifest, here, **more)
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
        allowed = usable_sets(store, manifest.split, name, manifest.settings["labels"]).allowed
        judged = allowed.any(axis=1) & ~allowed.all(axis=1)
        best = found.probabilities.argmax(axis=1)
        predicted = PredictedScene(
            found.probabilities.astype(np.float16),
            found.num_seen.astype(np.uint16),
            found.probabilities.sum(axis=0, dtype=np.float64),
            judged.sum(dtype=np.int64),
            allowed[judged, best[judged]].sum(dtype=np.int64),
        )
        save_scene(scene_file(folder, name), predicted)


def _choose(
    store: SceneStore,
    manifest: ExportManifest,
    directory: pathlib.Path,
    prior: Array,
    scenes: Sequence[str],
    beside: Export | None,
) -> None:
    """Chooses labels and writes the scenes."""
    labels = manifest.settings["labels"]
    with progress_bar(len(scenes), "scenes", "labeling") as bar:
        for name in scenes:
            found = load_scene(scene_file(directory / MINED, name), PredictedScene)
            allowed = usable_sets(store, manifest.split, name, labels).allowed
            coords = store.voxel_cloud(manifest.split, name).coords
            scores = found.scores
            if beside is not None and name in beside.scenes:
                scores = _times(scores, beside, name, allowed)
            probabilities = over_prior(scores.astype(np.float32), prior, allowed)
            decision = decide(probabilities, allowed, coords)
            confidence = probabilities[np.arange(len(coords)), decision.label]
            confidence = np.where(decision.label < 0, 0, confidence)
            exported = ExportedScene(
                scores=scores,
                allowed=allowed,
                label=as_stored(decision.label),
                confidence=confidence.astype(np.float16),
                num_balls=found.num_balls,
                point_voxel=store.point_voxel(manifest.split, name),
            )
            save_scene(scene_file(directory, name), exported)
            bar.update()


def _times(scores: Array, beside: Export, name: str, allowed: Array) -> Array:
    """Probabilities times those of another export, [V, C] float16; the best allowed one is 1.

    Where the other says nothing, in no ball, they stay in proportion.
    """
    other = beside.load(name)
    said = exported_probabilities(beside, other, np.ones_like(allowed))
    said = np.where((other.num_balls > 0)[:, None], np.maximum(said, FAINTEST), 1.0)
    product = np.maximum(scores.astype(np.float32), FAINTEST) * said
    best = np.where(allowed, product, 0).max(axis=1, keepdims=True)
    best = np.where(best > 0, best, product.max(axis=1, keepdims=True))
    return np.minimum(product / best, LARGEST).astype(np.float16)
