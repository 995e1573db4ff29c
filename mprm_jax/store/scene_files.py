"""Writes the folder of one prepared scene: whole or not at all."""

import os
import pathlib
import shutil
import time
from collections.abc import Sequence

import numpy as np

from mprm_jax.store.manifest import SCENE_FILE, SceneRecord, read_record, write_json
from mprm_jax.store.preparation import PreparedScene
from mprm_jax.store.scenes import (
    COLOR_FILE,
    COORD_FILE,
    POINT_VOXEL_FILE,
    SCENE_FILES,
    VOXEL_COLOR_FILE,
    VOXEL_COORD_FILE,
    WEAK_LABEL_FILE,
)
from mprm_jax.store.truth import VOXEL_LABEL_FILE, point_label_file
from mprm_jax.writing import FailedWriteError, explain_failed_write, write_whole

PARTIAL_PREFIX = ".partial-"
STALE_SECONDS = 600  # writing one scene takes seconds; older leftovers are of killed runs


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
    return read_record(folder)


def _write_arrays(folder: pathlib.Path, scene: PreparedScene, record: SceneRecord) -> None:
    np.save(folder / COORD_FILE, scene.points.coords)
    np.save(folder / COLOR_FILE, scene.points.colors)
    np.save(folder / VOXEL_COORD_FILE, scene.voxels.coords)
    np.save(folder / VOXEL_COLOR_FILE, scene.voxels.colors)
    np.save(folder / POINT_VOXEL_FILE, scene.point_voxel)
    if scene.point_labels is not None:
        np.save(folder / point_label_file(record.classes), scene.point_labels)
        np.save(folder / VOXEL_LABEL_FILE, scene.voxel_labels)
    np.savez(folder / WEAK_LABEL_FILE, **scene.weak_labels._asdict())
    write_json(record, folder / SCENE_FILE)
