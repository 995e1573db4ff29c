"""An in-memory data set of small box rooms, with whatever defect a test wants."""

import dataclasses
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from mprm_jax.scans.scene import Scene, WeakLabels

CLASSES = ("wall", "floor", "table")


def box_room(seed: int = 0, size: tuple[float, float, float] = (3.0, 2.5, 1.8)) -> Scene:
    """A cloud of a floor, a wall and a table in one corner; every eighth point unannotated."""
    rng = np.random.default_rng(seed)
    floor = rng.uniform(0, 1, (400, 3)) * (size[0], size[1], 0)
    wall = rng.uniform(0, 1, (400, 3)) * (size[0], 0, size[2])
    table = rng.uniform(0, 1, (100, 3)) * (0.5, 0.5, 0.02) + (0.1, 0.2, 0.7)
    coords = np.concatenate([wall, floor, table])
    labels = np.repeat(np.arange(3, dtype=np.int32), [400, 400, 100])
    labels[::8] = -1
    colors = rng.integers(0, 256, coords.shape).astype(np.uint8)
    return Scene(coords, colors, labels, None, None)


def mesh_room(size: float = 2.5) -> Scene:
    """Two squares of two triangles each: a floor and a wall."""
    floor = np.array([[0, 0, 0], [size, 0, 0], [size, size, 0], [0, size, 0]])
    wall = np.array([[0, 0, 0], [size, 0, 0], [size, 0, size], [0, 0, size]])
    square = np.array([[0, 1, 2], [0, 2, 3]])
    return Scene(
        coords=np.concatenate([floor, wall]).astype(float),
        colors=np.repeat(np.array([[200, 0, 0], [0, 100, 0]], np.uint8), 4, axis=0),
        labels=np.repeat(np.array([1, 0], np.int32), 4),
        faces=np.concatenate([square, square + 4]).astype(np.int32),
        weak_labels=None,
    )


def scene_tags(*present: int) -> WeakLabels:
    """A tag of the whole scan."""
    tags = np.isin(np.arange(len(CLASSES)), present)
    return WeakLabels(np.zeros((1, 3)), np.array([np.inf], np.float32), tags[None])


@dataclasses.dataclass
class FakeSource:
    """Scenes from memory, each with a file that can change, vanish, or break."""

    root: pathlib.Path
    scenes: Mapping[str, Scene]  # by "split/scene"
    classes: Sequence[str] = CLASSES
    name: str = "fake"
    optional: Collection[str] = ()
    num_reads: int = 0
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of people, by key

    def __post_init__(self):
        self.root.mkdir(parents=True, exist_ok=True)
        for key in self.scenes:
            self.file(key).write_text(key)

    @property
    def splits(self) -> Mapping[str, Sequence[str]]:
        splits: dict[str, list[str]] = {}
        for key in self.scenes:
            splits.setdefault(key.split("/")[0], []).append(key.split("/")[1])
        return splits

    def file(self, key: str) -> pathlib.Path:
        return self.root / f"{key.replace('/', '-')}.txt"

    def files(self, split: str, name: str) -> Sequence[str]:
        return [str(self.file(f"{split}/{name}"))]

    def said(self, split: str, name: str) -> str:
        return self.words.get(f"{split}/{name}", "")

    def read(self, split: str, name: str) -> Scene:
        self.num_reads += 1
        return self.scenes[f"{split}/{name}"]


class DeadlySource(FakeSource):
    """Ends the process that reads it, as the system does when memory runs out."""

    def read(self, split: str, name: str) -> Scene:
        os._exit(1)
