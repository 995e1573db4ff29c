"""Predicts every voxel of prepared scenes with a segmentation network."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from mprm_jax.batches.covering import CoveringBalls
from mprm_jax.errors import UserError
from mprm_jax.progress import progress_bar
from mprm_jax.store.scenes import SceneStore, StoredClouds
from mprm_jax.training.answers import ReadyNetwork, scene_sums
from mprm_jax.training.steps import make_predict_step
from mprm_jax.training.trained import TrainedNetwork
from mprm_jax.types import Array

logger = logging.getLogger(__name__)


class Segmented(NamedTuple):
    """What the network says of a scene."""

    probabilities: Array  # [V, num_classes] float32, mean over the balls of a voxel
    num_seen: Array  # [V] int32, balls of a voxel; never less than there are covers


def segment_scenes(
    network: TrainedNetwork,
    store: SceneStore,
    split: str,
    scenes: Sequence[str],
    mesh: jax.sharding.Mesh,
    *,
    votes: int,
    augment: bool,
    places: Sequence[int] | None = None,
) -> Iterator[tuple[str, Segmented]]:
    """Yields the prediction of each scene, with a progress bar over the balls.

    Args:
      votes: balls that every voxel lies in at least.
      augment: move each ball at random, as in training.
      places: in `scenes`, of those to predict now, as if it were all of them; all if None.
    """
    require_same_colors(network, store, split, scenes)
    clouds = StoredClouds(store, split, scenes)
    balls = CoveringBalls(clouds, len(store.classes), network.config, votes)
    predict = make_predict_step(network.stage.scores, mesh)
    ready = ReadyNetwork(predict, network.state, network.config, mesh)
    mine = range(len(scenes)) if places is None else places
    with progress_bar(int(np.isin(balls.scene_of, mine).sum()), "balls", "predicting") as bar:
        yield from segment(ready, balls, scenes=mine, augment=augment, progress=bar.update)


def require_same_colors(
    network: TrainedNetwork, store: SceneStore, split: str, scenes: Sequence[str]
) -> None:
    """Raises `ValueError` if the network knows colors and a scene has none, or the reverse."""
    trained = has_colors(network)
    for scene in scenes:
        if store.info(split, scene).has_colors != trained:
            found, known = ("no colors", "with") if trained else ("colors", "without")
            raise UserError(
                f"{store.folder(split, scene)}: the scene has {found}, but the network was "
                f"trained {known} them; prepare scans like those it was trained on."
            )


def has_colors(network: TrainedNetwork) -> bool:
    """Whether the network was trained on scans with colors; a run notes only if not."""
    return network.data.get("has_colors", True)


def segment(
    network: ReadyNetwork,
    balls: CoveringBalls,
    *,
    scenes: Sequence[int] | None = None,
    augment: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[str, Segmented]]:
    """Yields the prediction of every scene in order.

    Args:
      network: its step returns class probabilities [num_devices * T_0, num_classes].
      balls: covers of the scenes, each of which votes once on every voxel.
      scenes: places in `balls.scenes`; all if None.
      augment: move each ball at random, as in training.
      progress: called with the number of balls just done, of `len(balls)`.
    """
    places = range(len(balls.scenes)) if scenes is None else scenes
    epochs = (0,) if augment else (None,)
    merged = scene_sums(network, balls, places, epochs, progress)
    for scene, (sums, num_votes) in merged:
        yield balls.scenes[scene], Segmented(sums / num_votes[:, None], num_votes)
