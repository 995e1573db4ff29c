"""Exports the pseudo-labels of a finished run, measures them, and draws them as PLY."""

import logging
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.config import Config
from mprm_jax.errors import UserError
from mprm_jax.evaluation.quality import Measure, measure_values, quality_table
from mprm_jax.geometry.voxels import spread_to_points
from mprm_jax.labeling.candidates import with_evidence_now
from mprm_jax.labeling.measuring import measure_labels
from mprm_jax.labeling.mining import export_pseudo_labels, make_mining
from mprm_jax.models.mprm import Mprm
from mprm_jax.overrides import override
from mprm_jax.progress import Report, progress_bar
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.scans.formats.labeled import LabeledCloud, write_labeled
from mprm_jax.store.exports import Export, as_labels
from mprm_jax.store.scenes import SceneStore
from mprm_jax.training.answers import ReadyNetwork
from mprm_jax.training.hosts import wait_for_all_hosts
from mprm_jax.training.parallel import choose_devices, local_copy, local_mesh, make_mesh
from mprm_jax.training.steps import TrainState, make_predict_step
from mprm_jax.training.trained import open_network, open_store, weights_digest
from mprm_jax.writing import explain_failed_write

logger = logging.getLogger(__name__)

_SETTINGS = ("mining.", "data.workers", "data.prefetch", "data.keep_gb")


def export_run(
    workdir: pathlib.Path,
    *,
    checkpoint: str,
    store: pathlib.Path | None,
    split: str,
    output: pathlib.Path | None,
    settings: Sequence[str],
    num_devices: int | None,
    as_ply: bool,
) -> Report:
    """Exports a split with the network of a run.

    Args:
      workdir: of a run of stage cls.
      checkpoint: "last", "best" or a step.
      store: prepared scenes; those of the run if None.
      output: folder of the export; the run's own if None.
      settings: assignments of mining settings.
      num_devices: all if None.
      as_ply: also write each scan with its labels, into the folder `ply` of the export.

    Raises:
      ValueError: a run of the other stage or of other classes, an unknown setting, a folder that
        holds another export.
      OSError: something is missing or cannot be written.
    """
    mesh = make_mesh(choose_devices(num_devices))
    network = open_network(workdir, "cls", checkpoint, mesh)
    scenes = open_store(network, with_evidence_now(open_store(network, store)).path)
    config = mining_config(network.config, settings)
    directory = output or workdir / "pseudo_labels"
    logger.info(
        "step %d of %s on split %s of %s -> %s",
        network.step,
        workdir,
        split,
        scenes.path,
        directory,
    )
    balls = TaggedBalls(scenes, split, config)
    export = export_split(network.stage.model, network.state, balls, config, mesh, directory)
    return report_export(export, scenes, network.step, as_ply=as_ply)


def export_split(
    model: Mprm,
    state: TrainState,
    balls: TaggedBalls,
    config: Config,
    mesh: jax.sharding.Mesh,
    directory: pathlib.Path,
    *,
    is_own: bool = False,
) -> Export:
    """Exports the pseudo-labels of a split; see `export_pseudo_labels`."""
    here = local_mesh(mesh)
    predict = make_predict_step(make_mining(model, config.mining), here)
    state = local_copy(state, here)
    origin = {"network": list(config.model.paths), "seed": config.seed, "step": int(state.step)}
    origin["weights"] = weights_digest(state.variables["params"])
    network = ReadyNetwork(predict, state, config, here)
    return export_pseudo_labels(network, balls, directory, origin, is_own=is_own)


def report_export(export: Export, store: SceneStore, step: int, *, as_ply: bool) -> Report:
    """Measures an export if its scenes have point labels, and says what it is.

    Args:
      step: of the network that it was made with.
      as_ply: also write each scan with its labels, into the folder `ply` of the export.
    """
    if as_ply:
        write_scans(export, store)
    found = measure_labels(export, store)
    values = {"directory": str(export.path), "split": export.manifest.split, "step": step}
    settings = export.manifest.settings
    values |= {"settings": settings.get("mining", {}), "classes": list(export.classes)}
    values["agreement"] = settings.get("agreement")
    values["measure"] = None if found is None else measure_values(found)
    return Report(values, _text(export, found))


def mining_config(config: Config, settings: Sequence[str]) -> Config:
    """A run's config with other settings of mining.

    Raises:
      ValueError: a setting of something else.
    """
    for assignment in settings:
        if not assignment.startswith(_SETTINGS):
            raise UserError(
                f"--set {assignment}: the network is trained; only {', '.join(_SETTINGS)} "
                "can be chosen now."
            )
    return override(config, settings)


def write_scans(export: Export, store: SceneStore) -> None:
    """Writes `ply/<scene>.ply` of every exported scene: the scan's points with their labels.

    Hosts share the scenes.
    """
    split, folder = export.manifest.split, export.path / "ply"
    with explain_failed_write(folder):
        folder.mkdir(exist_ok=True)
    share = export.scenes[jax.process_index() :: jax.process_count()]
    with progress_bar(len(share), "scenes", "writing PLY") as bar:
        for name in share:
            scene, info = export.load(name), store.info(split, name)
            coords, colors = store.points(split, name)
            cloud = CloudFile(
                coords=coords.astype(np.float64) + np.array(info.origin)[None],
                colors=colors if info.has_colors else None,
                labels=None,
                faces=None,
                label_name=None,
            )
            labels = spread_to_points(as_labels(scene.label), scene.point_voxel)
            confidence = spread_to_points(scene.confidence.astype(np.float32), scene.point_voxel)
            labeled = LabeledCloud(cloud, labels, confidence, export.classes)
            write_labeled(folder / f"{name}.ply", labeled)
            bar.update()
    wait_for_all_hosts("PLY files")


def _text(export: Export, found: Measure | None) -> str:
    lines = [f"{export.path}: pseudo-labels of {len(export.scenes)} scenes"]
    if found is None:
        lines.append("not measured: the scenes have no point labels")
    else:
        lines.append(quality_table({"with tags": found}, export.classes))
    return "\n".join(lines)
