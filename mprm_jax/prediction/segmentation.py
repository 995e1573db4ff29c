"""Predicts every voxel of whole scenes with a segmentation network; needs no label of any kind.

```python
network = open_network(workdir, "seg", seg_stage, "last", mesh)
clouds = StoredClouds(store, "val")  # or LooseClouds of any voxel cloud
balls = CoveringBalls(clouds, num_classes, network.config, num_covers=rounds)
predict = make_predict_step(network.stage.scores, mesh)
for scene, segmented in segment(predict, network.state, balls, network.config, mesh):
    ...
```
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from mprm_jax.batches.covering import CoveringBalls
from mprm_jax.config import Config
from mprm_jax.training.outputs import scene_sums
from mprm_jax.types import Array


class Segmented(NamedTuple):
    """What the network says of a scene."""

    probabilities: Array  # [V, num_classes] float32, mean over the balls of a voxel
    num_seen: Array  # [V] int32, balls of a voxel; never less than there are covers


def segment(
    predict: Callable[[Any, Any], Any],
    state: Any,
    balls: CoveringBalls,
    config: Config,
    mesh: jax.sharding.Mesh,
    *,
    scenes: Sequence[int] | None = None,
    augment: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[str, Segmented]]:
    """Yields the prediction of every scene in order.

    Args:
      predict: step that returns class probabilities [num_devices * T_0, num_classes].
      balls: covers of the scenes, each of which votes once on every voxel.
      config: of the network.
      mesh: of this host's devices.
      scenes: places in `balls.scenes`; all if None.
      augment: move each ball at random, as in training.
      progress: called with the number of balls just done, of `len(balls)`.
    """
    places = range(len(balls.scenes)) if scenes is None else scenes
    epochs = (0,) if augment else (None,)
    merged = scene_sums(predict, state, balls, config, mesh, places, epochs, progress)
    for scene, (sums, num_votes) in merged:
        yield balls.scenes[scene], Segmented(sums / num_votes[:, None], num_votes)
