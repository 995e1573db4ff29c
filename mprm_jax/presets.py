"""Named starting points for a run: `tiny` for tests, `quick` for Rooms, `paper` for ScanNet.

Each has settings for both stages, "cls" and "seg", which share one prepared data set.
"""

import dataclasses

from mprm_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    LogConfig,
    MiningConfig,
    ModelConfig,
    OptimConfig,
    PyramidConfig,
    SegConfig,
)

STAGES = ("cls", "seg")


def paper(stage: str = "cls") -> Config:
    """The paper's widths, voxels and schedule; what the paper leaves open as released."""
    config = Config(
        preset="paper",
        data=DataConfig(epoch_subclouds=6000, workers=6),
        # Ten full balls of 2 m at 4 cm, the paper's batch, hold about 100 000 points.
        pyramid=PyramidConfig(bucket_points=24576, buckets_per_step=4, percentile=80.0),
        mining=MiningConfig(calibration="none"),
        # A validation of "cls" scores the 5 664 tagged balls of 312 scenes, nearly an epoch of
        # forward passes; 20 of them add 5 % to the balls a run computes and, without gradients,
        # under 2 % to its time. After every epoch it would be 94 % and a third.
        log=LogConfig(eval_epochs=20),
    )
    if stage == "cls":
        return config
    return dataclasses.replace(
        config,
        pyramid=dataclasses.replace(config.pyramid, num_levels=5),
        model=ModelConfig(first_deformable=2, dropout=0.0, head_bias=True),
        optim=dataclasses.replace(config.optim, epochs=200),
        # About 3 900 balls cover the same scenes: 10 validations, 3 % of the balls of a run.
    )


def quick(stage: str = "cls") -> Config:
    """Learns Rooms in minutes on two cores; `docs/differences.md` lists how it leaves the paper.

    Expected on rooms:quick: see `benchmarks/results/rooms_quick/report.md`.
    """
    config = Config(
        preset="quick",
        data=DataConfig(voxel_size=0.08),
        # Two levels end at 16 cm, as the paper's three do: with a third one, whose points see 1.5 m
        # around them, maps leak from objects to the floor beside them.
        pyramid=PyramidConfig(
            num_levels=2, bucket_points=4096, buckets_per_step=2, percentile=60.0
        ),
        model=ModelConfig(
            first_features=32,
            deformable=False,
            attention_features=32,
            pooling="log_mean_exp",
            height=True,
        ),
        optim=OptimConfig(
            optimizer="adamw",
            schedule="cosine",
            learning_rate=4e-3,
            warmup_steps=50,
            epochs=4,
            # rooms:quick has 1240 in as many epochs; a few scans would have a fraction of them.
            min_steps=1200,
        ),
        # Three more votes of moved balls make the scores less noisy.
        mining=MiningConfig(votes=4),
        log=LogConfig(every_steps=20, save_minutes=2.0, eval_epochs=4),
    )
    if stage == "cls":
        return config
    # Many small steps of small balls learn more in as many minutes than a few steps of more points
    # each, or than a narrower, deeper network.
    return dataclasses.replace(
        config,
        pyramid=PyramidConfig(
            num_levels=3, bucket_points=2048, buckets_per_step=2, percentile=60.0
        ),
        model=ModelConfig(
            first_features=32, deformable=False, dropout=0.0, head_bias=True, height=True
        ),
        # Half of the time would go into finding neighbors anew in every epoch. Few rooms show few
        # colors of a class: who also has to do without them errs less in other rooms.
        augment=AugmentConfig(grid="fixed", drop_color=0.4),
        # rooms:quick has 3800 steps in 6 epochs.
        optim=dataclasses.replace(config.optim, learning_rate=3e-3, epochs=6, min_steps=3600),
        # Two covers, so that their neighbors are found in two epochs and kept for the others.
        # Without weights, so few steps find no small classes.
        seg=SegConfig(radius=1.0, covers=2, class_weights="inverse_sqrt"),
        log=dataclasses.replace(config.log, eval_epochs=3),
    )


def tiny(stage: str = "cls") -> Config:
    """Seconds on one core; for tests and for trying things out."""
    config = Config(
        preset="tiny",
        data=DataConfig(voxel_size=0.16),
        pyramid=PyramidConfig(bucket_points=1024, buckets_per_step=2, percentile=80.0),
        augment=AugmentConfig(),
        model=ModelConfig(first_features=8, deformable=False, attention_features=8),
        optim=OptimConfig(
            optimizer="adamw", schedule="cosine", learning_rate=5e-3, warmup_steps=2, epochs=2
        ),
        log=LogConfig(every_steps=1, save_minutes=1.0),
    )
    if stage == "cls":
        return config
    return dataclasses.replace(
        config,
        model=ModelConfig(first_features=8, deformable=False, dropout=0.0, head_bias=True),
    )


PRESETS = {"tiny": tiny, "quick": quick, "paper": paper}

# Values that a preset once had: a run that was begun with them goes on with them, and the same
# command continues it. To be added to with every change of a preset.
FORMER = {
    "tiny": {"model.reach_neighbors": (64,), "mining.allowed": ("intersection",)},
    "quick": {
        "model.reach_neighbors": (64,),
        "mining.allowed": ("intersection",),
        "mining.votes": (1,),
        "seg.class_weights": ("none",),
        "augment.grid": ("moved",),
        "augment.drop_color": (0.0,),
        "pyramid.num_levels": (4,),
        "pyramid.bucket_points": (6144,),
        "model.first_features": (16,),
        "optim.learning_rate": (5e-3,),
        "optim.min_steps": (1200,),
        "seg.radius": (2.0,),
        "seg.covers": (4,),
    },
    "paper": {
        "model.reach_neighbors": (64,),
        "mining.allowed": ("intersection",),
        "pyramid.bucket_points": (49152,),
        "mining.calibration": ("class",),
        "optim.epochs": (500,),
    },
}
