"""Refines an export from a command: finds its data, tunes if asked, measures before and after."""

import dataclasses
import json
import logging
import pathlib

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.evaluation.measuring import measure_labels
from mprm_jax.evaluation.pictures import Panel, draw_panels
from mprm_jax.evaluation.quality import Measure
from mprm_jax.evaluation.quality_table import measure_values, quality_table
from mprm_jax.evaluation.reports import Report
from mprm_jax.labeling.refining import RefineSettings, refine_export
from mprm_jax.labeling.tuning import tune
from mprm_jax.palette import class_palette, label_colors
from mprm_jax.store.exports import Export, as_labels
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.truth import has_labels, voxel_labels
from mprm_jax.training.hosts import exchange, is_first_host

logger = logging.getLogger(__name__)


def refine_run(
    path: pathlib.Path,
    *,
    store: pathlib.Path | None,
    output: pathlib.Path | None,
    settings: RefineSettings,
    tune_scenes: int,
    picture: bool,
) -> Report:
    """Refines the export at a path.

    Args:
      store: prepared scenes; those the export was made from if None.
      output: folder of the refined export; beside the other, with `_crf`, if None.
      tune_scenes: number of scenes on which the kernels are chosen first; 0: take `settings`.
      picture: draw one scene before and after, as `refined.png` in the refined export.

    Raises:
      ValueError, OSError: in one line; see `refine_export`.
    """
    if tune_scenes < 0:
        raise UserError(f"--tune {tune_scenes}: give a number of scenes, or 0 not to tune.")
    export = Export(path)
    scenes = export.open_store(store)
    if tune_scenes:
        chosen = _tuned(export, scenes, settings, tune_scenes) if is_first_host() else settings
        told = exchange(json.dumps(dataclasses.asdict(chosen)), "kernels chosen")[0]
        settings = RefineSettings(**json.loads(told))
    directory = output or path.with_name(f"{path.name}_crf")
    if directory.resolve() == path.resolve():
        raise UserError(f"{directory}: is the export to refine; choose another --output.")
    refined = refine_export(export, scenes, settings, directory)
    if picture and is_first_host():
        draw_refined(export, refined, scenes, directory / "refined.png")
    columns = {"before": measure_labels(export, scenes), "after": measure_labels(refined, scenes)}
    values = {
        "directory": str(directory),
        "settings": dataclasses.asdict(settings),
        "classes": list(export.classes),
        **{name: found and measure_values(found) for name, found in columns.items()},
    }
    return Report(values, _text(refined, columns))


def draw_refined(export: Export, refined: Export, store: SceneStore, path: pathlib.Path) -> str:
    """Draws input, labels before and after, and ground truth of the scene that changed most.

    Returns:
      The name of the scene.
    """
    changed = [
        np.mean(export.load(name).label != refined.load(name).label) for name in export.scenes
    ]
    name = export.scenes[int(np.argmax(changed))]
    split, palette = export.manifest.split, class_palette(len(export.classes))
    cloud = store.voxel_cloud(split, name)
    labels = {
        "pseudo-labels": as_labels(export.load(name).label),
        "after the CRF": as_labels(refined.load(name).label),
    }
    if has_labels(store, split, name):
        labels["ground truth"] = voxel_labels(store, split, name)
    panels = [Panel("input", cloud.colors / 255.0)]
    panels += [Panel(title, label_colors(found, palette)) for title, found in labels.items()]
    shown = np.unique(np.concatenate(list(labels.values())))
    legend = [(export.classes[c], tuple(palette[c])) for c in shown[shown >= 0]]
    draw_panels(path, cloud.coords, panels, legend)
    return name


def _tuned(
    export: Export, store: SceneStore, settings: RefineSettings, num_scenes: int
) -> RefineSettings:
    """The best candidate on some scenes spread over the export."""
    step = max(1, len(export.scenes) // num_scenes)
    found = tune(export, store, export.scenes[::step][:num_scenes], settings)
    (best, chosen), given = found[0], next(score for score, entry in found if entry == settings)
    logger.info("tuned from %.4f to %.4f: %s", given, best, json.dumps(dataclasses.asdict(chosen)))
    return chosen


def _text(refined: Export, columns: dict[str, Measure | None]) -> str:
    lines = [f"{refined.path}: refined pseudo-labels of {len(refined.scenes)} scenes"]
    if any(found is None for found in columns.values()):
        lines.append("not measured: the scenes have no point labels")
    else:
        lines.append(quality_table(columns, refined.classes))
    return "\n".join(lines)
