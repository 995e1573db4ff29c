"""A small prepared store of box rooms, and settings that fit it."""

import dataclasses
import pathlib

from fake_source import FakeSource, box_room

from mprm_jax.config import Config, DataConfig, PyramidConfig, SegConfig
from mprm_jax.presets import tiny
from mprm_jax.store.prepare import prepare
from mprm_jax.store.scenes import SceneStore

CONFIG: Config = dataclasses.replace(
    tiny(),
    data=DataConfig(voxel_size=0.16, sphere_radius=1.2),
    pyramid=PyramidConfig(bucket_points=512),
    seg=SegConfig(radius=1.2),
)
SIZES = ((3.0, 2.5, 1.8), (2.0, 2.0, 1.5), (4.0, 3.0, 2.5))  # meters, of the rooms in turn


def make_store(path: pathlib.Path, num_train: int = 4) -> SceneStore:
    """Rooms of different sizes, `num_train` for training and one to validate."""
    rooms = {f"train/room{i}": box_room(i, SIZES[i % 3]) for i in range(num_train)}
    source = FakeSource(path / "scans", rooms | {"val/room": box_room(99)})
    return prepare(source, path / "store", CONFIG.data, workers=0).store
