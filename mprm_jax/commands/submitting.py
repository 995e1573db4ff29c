"""Predicts ScanNet's test scans with a segmentation network and writes the benchmark's archive."""

import logging
import pathlib

import numpy as np

from mprm_jax.evaluation.reports import Report
from mprm_jax.evaluation.submission import (
    SPLIT,
    check_submission,
    vertex_counts,
    write_submission,
)
from mprm_jax.geometry.spreading import spread_to_points
from mprm_jax.prediction.voting import segment_scenes
from mprm_jax.store.scenes import SceneStore
from mprm_jax.training.parallel import choose_devices, make_mesh
from mprm_jax.training.stages import seg_stage
from mprm_jax.training.start import keep_programs
from mprm_jax.training.trained import open_network, open_store

logger = logging.getLogger(__name__)

ROOMS = "rooms"  # begins the names of sources that only imitate ScanNet


def submit(
    workdir: pathlib.Path,
    path: pathlib.Path,
    *,
    checkpoint: str = "last",
    store: pathlib.Path | None = None,
    votes: int = 1,
    augment: bool = False,
    num_devices: int | None = None,
) -> Report:
    """Writes the NYU40 id of every mesh vertex of the split "test", without tags.

    Args:
      workdir: of a run of stage seg.
      path: of the archive, in a folder that is there.
      store, votes, augment, num_devices: as of `evaluate_network`.

    Raises:
      FileNotFoundError: no run, checkpoint or store there.
      ValueError: a run of the other stage, or a store without just the benchmark's test scans.
      OSError: the archive cannot be written.
    """
    mesh = make_mesh(choose_devices(num_devices))
    network = open_network(workdir, "seg", seg_stage, checkpoint, mesh)
    scenes = open_store(network, store)
    counts = expected_vertices(scenes)
    keep_programs(workdir)
    voted = segment_scenes(
        *(network, scenes, SPLIT, tuple(counts), mesh), votes=votes, augment=augment
    )
    labels = {}
    for scene, segmented in voted:
        label = segmented.probabilities.argmax(axis=1).astype(np.uint8)
        labels[scene] = spread_to_points(label, scenes.point_voxel(SPLIT, scene))
    write_submission(path, labels, counts)
    check_submission(path, counts)
    values = {"submission": str(path), "workdir": str(workdir), "step": network.step}
    values |= {"votes": votes, "augmented": augment, "data": scenes.manifest.name}
    values |= {"scenes": len(counts), "vertices": sum(counts.values())}
    how = "augmented at random" if augment else "not augmented"
    text = (
        f"{path}: labels of {values['vertices']} vertices of {len(counts)} test scans, valid\n"
        f"{workdir}, step {network.step}: network, votes {votes}, {how}"
    )
    return Report(values, text)


def expected_vertices(store: SceneStore) -> dict[str, int]:
    """Vertices of each scan that the archive must cover: the benchmark's 100, or those of Rooms."""
    if not store.manifest.name.startswith(ROOMS):
        return vertex_counts(store)
    logger.warning("%s: made rooms; the benchmark would not take them", store.path)
    return vertex_counts(store, store.scenes(SPLIT))
