"""Work directories as a run leaves them, with a network just drawn that has learned nothing."""

import pathlib

import jax

from mprm_jax.batches.balls import Balls
from mprm_jax.batches.covering import CoveringBalls
from mprm_jax.batches.packing import pack
from mprm_jax.batches.shapes import bucket_shape, calibrate
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.config import Config, to_values
from mprm_jax.overrides import override
from mprm_jax.presets import tiny
from mprm_jax.store.scenes import SceneStore, StoredClouds
from mprm_jax.training.checkpoints import Checkpoints
from mprm_jax.training.optimizer import make_optimizer
from mprm_jax.training.parallel import make_mesh, replicate
from mprm_jax.training.stages import cls_stage, seg_stage
from mprm_jax.training.steps import init_state
from mprm_jax.training.workdir import open_workdir

SETTINGS = (
    "model.first_features=4",
    "model.attention_features=4",
    "pyramid.num_levels=2",
    "pyramid.bucket_points=512",
    "seg.radius=1.2",
)
STAGES = {"cls": cls_stage, "seg": seg_stage}


def write_network(
    workdir: pathlib.Path, store: SceneStore, stage: str, *settings: str, **identity
) -> pathlib.Path:
    """A work directory of a stage with a checkpoint at step 1.

    Args:
      store: prepared scenes; the network has their voxels and balls.
      identity: changes of what the run says of itself.
    """
    config = _config(store, stage, settings)
    data = {"stage": stage, "data": store.manifest.name, "classes": list(store.classes)}
    open_workdir(workdir, config, data | identity, store.path)
    made = STAGES[stage](config, len(store.classes))
    example = pack([], bucket_shape(config, len(store.classes))).batch
    averages = config.optim.ema > 0
    state = init_state(made, make_optimizer(config, 1), example, config.seed, averages=averages)
    notes = {"position": {"epoch": 0, "epoch_step": 1, "step": 1}, "settings": to_values(config)}
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state = replicate(state, make_mesh(jax.devices()[:1]))
        checkpoints.save(1, state, notes, None)
    return workdir


def _config(store: SceneStore, stage: str, settings: tuple[str, ...]) -> Config:
    """Settings of a small network, calibrated on the training scenes."""
    prepared = store.manifest.settings
    data = (
        f"data.voxel_size={prepared.voxel_size}",
        f"data.sphere_radius={prepared.sphere_radius}",
    )
    config = override(tiny(stage), [*SETTINGS, *data, *settings])
    balls: Balls = TaggedBalls(store, "train", config)
    if stage == "seg":
        balls = CoveringBalls(StoredClouds(store, "train"), len(store.classes), config, 1)
    return calibrate(config, balls)
