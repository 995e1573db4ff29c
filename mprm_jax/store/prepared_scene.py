"""Turns one scan into what the store holds of it, and writes its folder: whole or not at all."""

import hashlib
import os
import pathlib
import shutil
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.evidence.candidates import (
    Candidates,
    candidate_sets,
    count_sizes,
    tags_after_clicks,
)
from mprm_jax.evidence.weak_labels import (
    WeakLabelArrays,
    no_tags,
    tags_from_labels,
    tags_from_people,
)
from mprm_jax.geometry.neighbors import make_tree, nearest
from mprm_jax.geometry.surfaces import sample_surface
from mprm_jax.geometry.voxels import voxel_grid, voxel_majority, voxel_means
from mprm_jax.scans.scene import Scene
from mprm_jax.store.manifest import (
    SCENE_FILE,
    SceneInfo,
    SceneRecord,
    StoreSettings,
    read_record,
    write_json,
)
from mprm_jax.store.scenes import (
    CANDIDATE_FILE,
    COLOR_FILE,
    COORD_FILE,
    NORMAL_FILE,
    POINT_VOXEL_FILE,
    SCENE_FILES,
    VOXEL_COLOR_FILE,
    VOXEL_COORD_FILE,
    WEAK_LABEL_FILE,
    CloudArrays,
    save_candidates,
)
from mprm_jax.store.truth import VOXEL_LABEL_FILE, point_label_file
from mprm_jax.types import IGNORED, Array
from mprm_jax.writing import FailedWriteError, explain_failed_write, write_whole

SAMPLES_PER_VOXEL = 4  # along an edge: 1 cm samples under 4 cm voxels, as released
FAR = 1000.0  # meters from 0, beyond which float32 loses tenths of a millimeter
PARTIAL_PREFIX = ".partial-"
STALE_SECONDS = 600  # writing one scene takes seconds; older leftovers are of killed runs


class PreparedScene(NamedTuple):
    """One scene, in the frame of its origin."""

    info: SceneInfo
    points: CloudArrays
    point_labels: Array | None  # [N] int16, -1 where unannotated
    voxels: CloudArrays
    voxel_labels: Array | None  # [V] int16
    point_voxel: Array  # [N] int32, nearest voxel
    weak_labels: WeakLabelArrays
    candidates: Candidates
    normals: Array | None  # [N, 3] float32 of the points


def prepare_scene(scene: Scene, settings: StoreSettings, num_classes: int) -> PreparedScene:
    """Voxels, weak labels and candidate sets of a scan.

    Meshes are covered with samples first, which take color and label of the nearest vertex.

    Raises:
      ValueError: the scan is empty, not finite, inconsistent, or absurdly large for its unit.
    """
    check_scene(scene, num_classes)
    if settings.colors == "none":
        scene = scene._replace(colors=None)
    origin = _origin(scene.coords)
    scene = _moved(scene, -origin)
    coords = scene.coords
    colors = scene.colors if scene.colors is not None else np.zeros(coords.shape, np.uint8)
    voxels, labels = _voxels(coords, colors, scene, settings.voxel_size, num_classes)
    weak, num_outside = _weak_labels(voxels.coords, labels, scene, settings, num_classes)
    known = labels if scene.labels_known else None
    candidates = candidate_sets(voxels.coords, weak, scene.clicks, known)
    more = _more_evidence(scene, candidates)
    info = SceneInfo(
        points=len(coords),
        voxels=len(voxels.coords),
        subclouds=len(weak.centers),
        seeds=int(weak.num_seeds),
        origin=tuple(origin.tolist()),
        has_labels=scene.labels is not None,
        has_colors=scene.colors is not None,
        has_tags=scene.weak_labels is not None or labels is not None,
        fingerprint=_fingerprint((*voxels, *weak, *more)),
        cloud=_fingerprint(voxels),
        clicks=0 if scene.clicks is None else len(scene.clicks.points),
        clicks_outside=num_outside,
        set_sizes=count_sizes(candidates),
    )
    return PreparedScene(
        info=info,
        points=CloudArrays(coords.astype(np.float32), colors),
        point_labels=None if scene.labels is None else scene.labels.astype(np.int16),
        voxels=voxels,
        voxel_labels=None if labels is None else labels.astype(np.int16),
        point_voxel=nearest(coords, make_tree(voxels.coords)),
        weak_labels=weak,
        candidates=candidates,
        normals=scene.normals,
    )


def check_scene(scene: Scene, num_classes: int) -> None:
    """Raises `ValueError` if the parts of a scan do not fit together."""
    count = len(scene.coords)
    if count == 0:
        raise UserError("it has no points; remove it from its split or export it again.")
    bad = np.count_nonzero(~np.isfinite(scene.coords).all(axis=1))
    if bad:
        raise UserError(f"{bad} of {count} points are NaN or infinite; remove them.")
    per_point = {"colors": scene.colors, "labels": scene.labels, "normals": scene.normals}
    for name, values in per_point.items():
        if values is not None and len(values) != count:
            raise UserError(f"{count} points but {len(values)} {name}; export it again.")
    if scene.labels is not None:
        low, high = scene.labels.min(), scene.labels.max()
        if low < IGNORED or high >= num_classes:
            raise UserError(f"labels {low} to {high}, expected {IGNORED} to {num_classes - 1}.")
    tags = scene.weak_labels
    if tags is not None and tags.tags.shape[1] != num_classes:
        raise UserError(f"tags of {tags.tags.shape[1]} classes, expected {num_classes}.")


def write_scene(folder: pathlib.Path, scene: PreparedScene, record: SceneRecord) -> None:
    """Writes a scene beside its place and moves it there, replacing what was there.

    Raises:
      FailedWriteError: disk full or not writable; nothing half-written is left.
    """
    store = folder.parent.parent
    # One process writes one scene at a time; the scene's own name may be as long as names can be.
    partial = store / f"{PARTIAL_PREFIX}{os.getpid()}"
    try:
        with explain_failed_write(folder):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _write_arrays(partial, scene, record)
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def open_for_writing(store: pathlib.Path) -> None:
    """Makes the folder of a store, checks that it can be written, and clears old leftovers.

    Raises:
      OSError: not writable.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        probe = store / f"{PARTIAL_PREFIX}{os.getpid()}-probe"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise FailedWriteError(
            f"{store}: cannot be written ({error.strerror}); choose another --store."
        ) from error
    for leftover in store.glob(f"{PARTIAL_PREFIX}*"):
        if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


def write_classes(store: pathlib.Path, classes: Sequence[str]) -> None:
    """Names the classes for readers of the Pointcept layout, one per line in index order."""
    write_whole(store / "classes.txt", "".join(f"{name}\n" for name in classes))


def finished_record(folder: pathlib.Path) -> SceneRecord | None:
    """The record of a scene that is all there; point labels may have been deleted since."""
    if not all((folder / name).is_file() for name in SCENE_FILES):
        return None
    record = read_record(folder)
    has_sets = (folder / CANDIDATE_FILE).is_file()
    return record if record is None or has_sets or not record.info.set_sizes else None


def _origin(coords: Array) -> Array:
    """Whole meters to subtract so that float32 keeps the shape; 0 for scans near 0."""
    if np.abs(coords).max() <= FAR:
        return np.zeros(3)
    return np.floor(coords.min(axis=0))


def _voxels(
    coords: Array, colors: Array, scene: Scene, voxel_size: float, num_classes: int
) -> tuple[CloudArrays, Array | None]:
    labels = scene.labels
    if scene.faces is not None and len(scene.faces):
        samples = sample_surface(coords, scene.faces, voxel_size / SAMPLES_PER_VOXEL)
        coords, colors = samples.coords, colors[samples.vertices]
        labels = None if labels is None else labels[samples.vertices]
    grid = voxel_grid(coords, voxel_size)
    means = np.rint(voxel_means(colors, grid)).astype(np.uint8)
    cloud = CloudArrays(voxel_means(coords, grid).astype(np.float32), means)
    return cloud, None if labels is None else voxel_majority(labels, grid, num_classes)


def _moved(scene: Scene, by: Array) -> Scene:
    """A scene in another frame, with all that people said of it."""
    tags, clicks = scene.weak_labels, scene.clicks
    return scene._replace(
        coords=scene.coords + by[None],
        weak_labels=tags and tags._replace(centers=tags.centers + by[None]),
        clicks=clicks and clicks._replace(points=clicks.points + by[None]),
    )


def _weak_labels(
    coords: Array, labels: Array | None, scene: Scene, settings: StoreSettings, num_classes: int
) -> tuple[WeakLabelArrays, int]:
    """The tags, and the number of clicks outside of them, which count as tags from now on.

    What people said comes before what the labels say.
    """
    balls = {"radius": settings.sphere_radius, "placement": settings.seeds}
    if scene.weak_labels is not None:
        weak = tags_from_people(coords, scene.weak_labels, **balls)
    elif labels is not None:
        weak = tags_from_labels(coords, labels, num_classes, **balls)
    else:
        weak = no_tags(num_classes)
    if scene.clicks is None:
        return weak, 0
    weak, outside = tags_after_clicks(weak, scene.clicks)
    return weak, int(outside.sum())


def _more_evidence(scene: Scene, candidates: Candidates) -> tuple[Array, ...]:
    """What tags do not say; nothing for tags alone, whose scenes keep an old fingerprint."""
    known = scene.labels_known and scene.labels is not None
    return tuple(candidates) if known or scene.clicks is not None else ()


def _fingerprint(arrays: tuple[Array, ...]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _write_arrays(folder: pathlib.Path, scene: PreparedScene, record: SceneRecord) -> None:
    np.save(folder / COORD_FILE, scene.points.coords)
    np.save(folder / COLOR_FILE, scene.points.colors)
    if scene.normals is not None:
        np.save(folder / NORMAL_FILE, scene.normals)
    np.save(folder / VOXEL_COORD_FILE, scene.voxels.coords)
    np.save(folder / VOXEL_COLOR_FILE, scene.voxels.colors)
    np.save(folder / POINT_VOXEL_FILE, scene.point_voxel)
    if scene.point_labels is not None:
        np.save(folder / point_label_file(record.classes), scene.point_labels)
        np.save(folder / VOXEL_LABEL_FILE, scene.voxel_labels)
    np.savez(folder / WEAK_LABEL_FILE, **scene.weak_labels._asdict())
    save_candidates(folder / CANDIDATE_FILE, scene.candidates)
    write_json(record, folder / SCENE_FILE)
