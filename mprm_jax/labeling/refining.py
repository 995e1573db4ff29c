"""Refines exported pseudo-labels with the dense CRF (paper 5.2), scene by scene.

Its kernels can be chosen without point labels: boundaries should lie where colors change.

A candidate is scored by the product of two numbers that smoothing pulls apart:

- contrast: how often a pair of neighboring points with different labels differs more in color than
  a pair with equal labels (area under the ROC curve; 0.5 if boundaries ignore the colors);
- entropy of the labels, which falls when small objects are smoothed away.
"""

import concurrent.futures
import dataclasses
import itertools
import json
import logging
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from mprm_jax.crf.refinement import refine
from mprm_jax.crf.settings import KERNELS, Smoothing
from mprm_jax.errors import UserError
from mprm_jax.evaluation.pictures import Panel, draw_panels
from mprm_jax.evaluation.quality import Measure, measure_values, quality_table
from mprm_jax.evidence.candidates import Candidates
from mprm_jax.labeling.candidates import sets_of_export, with_evidence_now
from mprm_jax.labeling.choice import exported_probabilities
from mprm_jax.labeling.exporting import write_scans
from mprm_jax.labeling.fine_clouds import FineCloud, fine_cloud, normals_of, over_voxels
from mprm_jax.labeling.measuring import measure_labels
from mprm_jax.labeling.mining import begin_together, finish_together
from mprm_jax.palette import class_palette, label_colors
from mprm_jax.progress import Report, progress_bar
from mprm_jax.store.exports import (
    Export,
    ExportedScene,
    as_labels,
    as_stored,
    save_scene,
    scene_file,
)
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.truth import has_labels, voxel_labels
from mprm_jax.training.hosts import exchange, is_first_host
from mprm_jax.training.parallel import make_mesh
from mprm_jax.types import IGNORED, Array

logger = logging.getLogger(__name__)

CHOICES = ("allowed", "scene", "all")
NUM_NEIGHBORS = 6  # of a voxel on a surface
GRIDS = {
    "released": {
        "position_weight": (0.0, 3.0),
        "pair_width": (0.1, 0.2, 0.4, 0.8),
        "color_width": (0.02, 0.04, 0.08),
        "pair_weight": (3.0, 10.0),
    },
    "normals": {
        "normal_width": (0.2, 0.3, 0.5),
        "patch_width": (0.3, 0.5, 0.8),
        "trust": (0.15, 0.3),
    },
}
# Voxels on which the CRF runs, in meters; 0: those of the store.
VOXEL_SIZES = {"released": 0.0, "normals": 0.04}


@dataclasses.dataclass(frozen=True)
class RefineSettings(Smoothing):
    """How labels of an export are smoothed, on which voxels, and within which classes.

    `classes` says which classes a point may have: "allowed", those of the export; "scene", those
    that the export allows anywhere in the scene; "all", as the released code.
    """

    classes: str = "allowed"
    voxel_size: float = 0.0  # meters, finer than the network's voxels; 0: these

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.voxel_size < math.inf:
            raise UserError(f"voxel_size is {self.voxel_size}; give meters, or 0.")
        if self.classes not in CHOICES:
            raise UserError(f"classes is {self.classes!r}; choose one of {', '.join(CHOICES)}.")


class Surface(NamedTuple):
    """What the CRF runs on, whatever the evidence."""

    cloud: FineCloud
    normals: Array | None  # [F, 3] of either sign, if a kernel looks at them


def with_kernels(name: str, **changes: Any) -> RefineSettings:
    """The settings that go with some kernels of `crf.settings.KERNELS`.

    Args:
      changes: of single settings.
    """
    smoothing = dataclasses.asdict(KERNELS[name])
    return RefineSettings(**{"voxel_size": VOXEL_SIZES[name], **smoothing, **changes})


def refine_export(
    export: Export,
    store: SceneStore,
    settings: RefineSettings,
    directory: pathlib.Path,
    *,
    is_own: bool = False,
) -> Export:
    """Writes an export with the refined labels of another, or finishes writing it.

    Scores become the CRF's marginals. Hosts share the scenes, and so do the accelerators of a
    host; on a CPU one scene after the other runs on all cores.

    Args:
      directory: new, empty, or of this same export.
      is_own: as of `begin_together`.

    Raises:
      ValueError: another export there, other scenes, scans without colors, scores that are not
        finite.
      OSError: the disk is full.
    """
    export.require_scenes(store)
    _require_colors(export, store, settings)
    refined = {"settings": dataclasses.asdict(settings), "of": export.manifest.settings}
    fingerprint = store.fingerprint(export.manifest.split)  # with the evidence as it is now
    manifest = dataclasses.replace(
        export.manifest, settings={"refined": refined}, fingerprint=fingerprint, made_by={}
    )
    if (found := begin_together(directory, manifest, is_own=is_own)) is not None:
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
    return finish_together(directory, manifest, make_mesh(jax.local_devices()))


def refine_scene(
    export: Export,
    store: SceneStore,
    name: str,
    settings: RefineSettings,
    device: jax.Device | None = None,
    surface: Surface | None = None,
) -> ExportedScene:
    """The refined labels of one scene.

    A voxel without evidence of its own, in no ball, hears its neighbors and says nothing; where it
    hears nothing either, it keeps its label. One that is known to hold no class gets no label.

    Args:
      surface: what `surface_of` gives for these settings; made if None.

    Raises:
      ValueError: a score is not finite, or a label is no class.
    """
    scene, split = export.load(name), export.manifest.split
    sets = sets_of_export(export, store, name, scene)
    if not sets.allowed.any() or not scene.num_balls.any():
        return scene
    holds_none, single = ~sets.allowed.any(axis=1), sets.allowed.sum(axis=1) == 1
    # Refined before, a voxel in no ball has allowed classes, but still no evidence.
    had_none = ~scene.allowed.any(axis=1) | (scene.num_balls == 0)
    ignored = holds_none | (had_none & ~single)
    allowed = refined_classes(sets, settings.classes)
    probabilities = exported_probabilities(export, scene, sets.allowed)
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
    fine, normals = surface or surface_of(store, split, name, settings)
    result = refine(
        fine.coords,
        fine.colors,
        probabilities[fine.voxel],
        settings,
        normals=normals,
        allowed=allowed[fine.voxel],
        ignored=ignored[fine.voxel],
        labels=labels[fine.voxel],
        device=device,
    )
    marginals = over_voxels(result.marginals, fine, len(labels))
    found = np.where(holds_none, IGNORED, _majority(result.labels, fine, marginals.shape))
    confidence = np.where(found == IGNORED, 0, marginals.max(axis=1))
    return scene._replace(
        scores=marginals.astype(np.float16),
        allowed=allowed,
        label=as_stored(found),
        confidence=confidence.astype(np.float16),
    )


def surface_of(store: SceneStore, split: str, name: str, settings: RefineSettings) -> Surface:
    """The voxels of a scene that settings ask for, with normals if a kernel looks at them."""
    fine = fine_cloud(store, split, name, settings.voxel_size)
    return Surface(fine, normals_of(store, split, name, fine) if settings.normal_width else None)


def refined_classes(sets: Candidates, choice: str) -> Array:
    """Classes that the CRF may choose from at each voxel, [V, num_classes] bool.

    Args:
      sets: where one is empty, any class of the scene; where one is certain, it alone.
      choice: see `RefineSettings`.
    """
    allowed = sets.allowed
    wide = np.broadcast_to(allowed.any(axis=0)[None], allowed.shape)
    if choice == "all":
        wide = np.ones_like(allowed)
    kept = sets.certain if choice != "allowed" else np.ones(len(allowed), bool)
    return np.where((kept & allowed.any(axis=1))[:, None], allowed, wide)


def _majority(labels: Array, fine: FineCloud, shape: tuple[int, int]) -> Array:
    """The label [V] of most points of each voxel; IGNORED where most have none.

    Args:
      labels: [F], IGNORED for none.
      shape: voxels and classes.
    """
    num_voxels, num_classes = shape
    votes = over_voxels(np.eye(num_classes + 1)[labels], fine, num_voxels)  # IGNORED is the last
    found = votes.argmax(axis=1)
    return np.where(found == num_classes, IGNORED, found).astype(np.int32)


def tune(
    export: Export, store: SceneStore, scenes: Sequence[str], settings: RefineSettings
) -> list[tuple[float, RefineSettings]]:
    """Scores `settings` and all of their grid on some scenes; returns them, the best first.

    Raises:
      ValueError: without a kernel on colors there is nothing to compare.
    """
    if not settings.color_width:
        raise UserError("tuning compares labels with colors; leave --color-width above 0.")
    grid = GRIDS["normals" if settings.normal_width else "released"]
    varied = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    candidates = [settings, *(dataclasses.replace(settings, **values) for values in varied)]
    candidates = list(dict.fromkeys(candidates))
    split, seen = export.manifest.split, {candidate: ([], [], []) for candidate in candidates}
    with progress_bar(len(candidates) * len(scenes), "tries", "tuning") as bar:
        for name in scenes:
            cloud = store.voxel_cloud(split, name)
            surface = surface_of(store, split, name, settings)
            for candidate, parts in seen.items():
                scene = refine_scene(export, store, name, candidate, surface=surface)
                label = as_labels(scene.label)
                found = (label, *label_changes(cloud.coords, cloud.colors, label))
                for part, values in zip(parts, found, strict=True):
                    part.append(values)
                bar.update()
    scores = []
    for candidate, parts in seen.items():
        labels, changes, contrasts = map(np.concatenate, parts)
        scores.append((boundary_contrast(changes, contrasts) * label_entropy(labels), candidate))
    return sorted(scores, key=lambda entry: -entry[0])


def label_changes(coords: Array, colors: Array, labels: Array) -> tuple[Array, Array]:
    """Pairs of neighboring points: whether their labels differ, and by how much their colors.

    Args:
      coords: [N, 3].
      colors: [N, 3] uint8.
      labels: [N] integers.

    Returns:
      [P] bool and [P] int, the largest difference of a color channel.
    """
    count = min(NUM_NEIGHBORS, len(coords) - 1)
    if count < 1:
        return np.zeros(0, bool), np.zeros(0, int)
    _, neighbors = cKDTree(coords).query(coords, k=range(2, count + 2))
    first, second = np.repeat(np.arange(len(coords)), count), neighbors.ravel()
    differences = np.abs(colors[first].astype(int) - colors[second].astype(int))
    return labels[first] != labels[second], differences.max(axis=1)


def boundary_contrast(changes: Array, contrasts: Array) -> float:
    """Area under the ROC curve of telling label changes [P] bool by contrasts [P]; 0.5 if none."""
    num_changes = int(changes.sum())
    num_pairs = num_changes * (len(changes) - num_changes)
    if not num_pairs:
        return 0.5
    ranks = rankdata(contrasts)[changes].sum()
    return float((ranks - num_changes * (num_changes + 1) / 2) / num_pairs)


def label_entropy(labels: Array) -> float:
    """Entropy in nats of the labels [N] of all points that have one."""
    counts = np.bincount(labels[labels >= 0])
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-np.sum(shares * np.log(shares)))


def refine_run(
    path: pathlib.Path,
    *,
    store: pathlib.Path | None,
    output: pathlib.Path | None,
    settings: RefineSettings,
    tune_scenes: int,
    picture: bool,
    as_ply: bool = False,
) -> Report:
    """Refines the export at a path.

    Args:
      store: prepared scenes; those the export was made from if None.
      output: folder of the refined export; beside the other, with `_crf`, if None.
      tune_scenes: number of scenes on which the kernels are chosen first; 0: take `settings`.
      picture: draw one scene before and after, as `refined.png` in the refined export.
      as_ply: also write each scan with its labels, into the folder `ply` of the refined export.

    Raises:
      ValueError, OSError: in one line; see `refine_export`.
    """
    if tune_scenes < 0:
        raise UserError(f"--tune {tune_scenes}: give a number of scenes, or 0 not to tune.")
    export = Export(path)
    scenes = with_evidence_now(export.open_store(store))
    export.require_scenes(scenes)
    if tune_scenes:
        chosen = _tuned(export, scenes, settings, tune_scenes) if is_first_host() else settings
        told = exchange(json.dumps(dataclasses.asdict(chosen)), "kernels chosen")[0]
        settings = RefineSettings(**json.loads(told))
    directory = output or path.with_name(f"{path.name}_crf")
    if directory.resolve() == path.resolve():
        raise UserError(f"{directory}: is the export to refine; choose another --output.")
    refined = refine_export(export, scenes, settings, directory, is_own=output is None)
    if picture and is_first_host():
        draw_refined(export, refined, scenes, directory / "refined.png")
    if as_ply:
        write_scans(refined, scenes)
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


def _require_colors(export: Export, store: SceneStore, settings: RefineSettings) -> None:
    if not settings.color_width:
        return
    for name in export.scenes:
        if not store.info(export.manifest.split, name).has_colors:
            raise UserError(
                f"{store.path}: scene {name} has no colors, which some kernels compare; "
                "leave them out with --color-width 0."
            )


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
