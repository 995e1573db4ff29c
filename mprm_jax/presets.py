"""Named starting points for a run: `tiny` for tests, `quick` for Rooms, `paper` for ScanNet."""

from mprm_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    LogConfig,
    ModelConfig,
    OptimConfig,
    PyramidConfig,
)


def paper() -> Config:
    """The paper's widths, voxels and schedule; what the paper leaves open as released."""
    return Config(
        preset="paper",
        data=DataConfig(epoch_subclouds=6000, workers=6),
        # Ten full balls of 2 m at 4 cm hold about 100 000 points; half of it per device.
        pyramid=PyramidConfig(bucket_points=49152, percentile=80.0),
    )


def quick() -> Config:
    """Learns Rooms in minutes on two cores; `docs/differences.md` lists how it leaves the paper.

    Expected on rooms:quick: see `benchmarks/results/rooms_quality.json`.
    """
    return Config(
        preset="quick",
        data=DataConfig(voxel_size=0.08),
        # Two levels end at 16 cm, as the paper's three do: with a third one, whose points see 1.5 m
        # around them, maps leak from objects to the floor beside them.
        pyramid=PyramidConfig(num_levels=2, bucket_points=4096, percentile=60.0),
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
        ),
        log=LogConfig(every_steps=20, save_minutes=2.0, eval_epochs=4),
    )


def tiny() -> Config:
    """Seconds on one core; for tests and for trying things out."""
    return Config(
        preset="tiny",
        data=DataConfig(voxel_size=0.16),
        pyramid=PyramidConfig(bucket_points=1024, percentile=80.0),
        augment=AugmentConfig(),
        model=ModelConfig(first_features=8, deformable=False, attention_features=8),
        optim=OptimConfig(
            optimizer="adamw", schedule="cosine", learning_rate=5e-3, warmup_steps=2, epochs=2
        ),
        log=LogConfig(every_steps=1, save_minutes=1.0),
    )


PRESETS = {"tiny": tiny, "quick": quick, "paper": paper}
