"""Prepared stores of scans that lack what others have."""

import pathlib

import numpy as np
from fake_source import FakeSource, box_room, scene_tags
from prepared import CONFIG

from mprm_jax.store.prepare import prepare
from mprm_jax.store.scenes import SceneStore


def odd_store(path: pathlib.Path, kind: str) -> SceneStore:
    """Two rooms to train on; `kind` says what is odd about the first, or about both."""
    rooms = [box_room(0), box_room(1)]
    classes = ("wall", "floor", "table")
    if kind == "no balls":
        rooms[0] = rooms[0]._replace(labels=None)
    elif kind == "tags of the scene":
        rooms[0] = rooms[0]._replace(labels=None, weak_labels=scene_tags(0, 1))
    elif kind == "no colors":
        rooms = [room._replace(colors=None) for room in rooms]
    elif kind == "one class":
        rooms = [room._replace(labels=np.minimum(room.labels, 0)) for room in rooms]
        classes = ("thing",)
    elif kind == "one point":
        rooms[0] = rooms[0]._replace(
            coords=rooms[0].coords[:1] + 0.5,
            colors=rooms[0].colors[:1],
            labels=np.zeros(1, np.int32),
        )
    else:
        raise ValueError(f"no store is odd by {kind!r}")
    source = FakeSource(path / "scans", {f"train/room{i}": room for i, room in enumerate(rooms)})
    source.classes = classes
    return prepare(source, path / "store", CONFIG.data, workers=0).store
