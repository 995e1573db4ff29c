"""Work directories of the segmentation stage as a run leaves them, with a network just drawn."""

import pathlib

import jax

from mprm_jax.config import Config, to_values
from mprm_jax.data.covering import CoveringBalls
from mprm_jax.data.packing import pack
from mprm_jax.data.shapes import bucket_shape, calibrate
from mprm_jax.data.store import SceneStore
from mprm_jax.data.voxel_clouds import StoredClouds
from mprm_jax.overrides import override
from mprm_jax.presets import tiny
from mprm_jax.training.checkpoints import Checkpoints
from mprm_jax.training.optimizer import make_optimizer
from mprm_jax.training.parallel import make_mesh, replicate
from mprm_jax.training.stages import seg_stage
from mprm_jax.training.steps import init_state
from mprm_jax.training.workdir import open_workdir

SETTINGS = ("model.first_features=4", "pyramid.num_levels=2", "pyramid.bucket_points=512")
SPHERE = ("data.sphere_radius=1.2", "seg.radius=1.2")


def segmenter_config(store: SceneStore, *settings: str) -> Config:
    """Settings of a small network, calibrated on the training scenes."""
    config = override(tiny("seg"), [*SETTINGS, *SPHERE, *settings])
    clouds = StoredClouds(store, "train")
    return calibrate(config, CoveringBalls(clouds, len(store.classes), config, 1))


def write_segmenter(
    workdir: pathlib.Path, store: SceneStore, *settings: str, **identity
) -> pathlib.Path:
    """A work directory with a checkpoint at step 1 of a network that has learned nothing.

    Args:
      identity: changes of what the run says of itself.
    """
    config = segmenter_config(store, *settings)
    data = {"stage": "seg", "data": store.manifest.name, "classes": list(store.classes)}
    open_workdir(workdir, config, data | identity, store.path)
    stage = seg_stage(config, len(store.classes))
    example = pack([], bucket_shape(config, len(store.classes))).batch
    state = init_state(stage, make_optimizer(config.optim, 1), example, config.seed)
    notes = {"position": {"epoch": 0, "epoch_step": 1, "step": 1}, "settings": to_values(config)}
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state = replicate(state, make_mesh(jax.devices()[:1]))
        checkpoints.save(1, state, notes | {"score": None}, None)
    return workdir
