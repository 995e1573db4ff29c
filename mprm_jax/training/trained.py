"""Opens a trained network from its work directory, to use it."""

import hashlib
import pathlib
from typing import Any, NamedTuple

import jax
import optax

from mprm_jax.batches.packing import pack
from mprm_jax.batches.shapes import bucket_shape
from mprm_jax.config import Config
from mprm_jax.errors import MissingError, UserError
from mprm_jax.store.scenes import SceneStore
from mprm_jax.training.checkpoints import Checkpoints
from mprm_jax.training.parallel import replicated_shapes
from mprm_jax.training.stages import Stage, make_stage
from mprm_jax.training.steps import TrainState, state_shapes
from mprm_jax.training.workdir import read_workdir


class TrainedNetwork(NamedTuple):
    """A network and how it came about."""

    config: Config
    data: dict[str, Any]  # stage, data set, classes, fingerprint, place of the store
    stage: Stage
    state: TrainState
    step: int


def open_network(
    workdir: pathlib.Path,
    name: str | None,
    checkpoint: str,
    mesh: jax.sharding.Mesh,
) -> TrainedNetwork:
    """Restores a network on every device of a mesh.

    Args:
      name: of the stage the run must be of, "cls" or "seg"; None for either.
      checkpoint: "last", "best" or a step.

    Raises:
      FileNotFoundError: no run or no checkpoint there.
      ValueError: a run of the other stage, or files that cannot be read.
    """
    config, data = read_workdir(workdir)
    if data.get("stage") != (name or data.get("stage", "")):
        raise UserError(
            f"{workdir}: a run of stage {data.get('stage')}, needed is one of stage {name}; "
            "give another --workdir."
        )
    directory = workdir / "checkpoints"
    if not directory.is_dir():
        raise MissingError(f"{directory}: no checkpoint; train first with mprm train.")
    num_classes = len(data["classes"])
    stage = make_stage(data["stage"], config, num_classes)
    example = pack([], bucket_shape(config, num_classes)).batch
    # The optimizer's part of the state is of no use here, so that it need not be read.
    shapes = state_shapes(stage, optax.identity(), example, averages=config.optim.ema > 0)
    with Checkpoints(directory, read_only=True) as checkpoints:
        found = checkpoints.restore(replicated_shapes(shapes, mesh), checkpoint)
    return TrainedNetwork(config, data, stage, found.state, found.notes["position"]["step"])


def open_store(network: TrainedNetwork, path: pathlib.Path | None) -> SceneStore:
    """Prepared scenes for a network: those it was trained on, or others of the same kind.

    Raises:
      FileNotFoundError: they are gone.
      ValueError: other classes or voxels.
    """
    place = path or pathlib.Path(network.data["store"])
    try:
        store = SceneStore(place)
    except FileNotFoundError as error:
        raise MissingError(f"{error} Or say with --store where the scenes are.") from None
    known = network.data["classes"]
    if list(store.classes)[: len(known)] == known and len(store.classes) > len(known):
        raise UserError(
            f"{store.path}: class {store.classes[len(known)]!r} was added after the network was "
            "trained; train again, which goes on from its weights."
        )
    if list(store.classes) != network.data["classes"]:
        raise UserError(
            f"{store.path}: its {len(store.classes)} classes are not the "
            f"{len(network.data['classes'])} of the network; give another --store."
        )
    prepared, trained = store.manifest.settings.voxel_size, network.config.data.voxel_size
    if prepared != trained:
        raise UserError(
            f"{store.path}: voxels of {prepared:g} m, the network was trained on {trained:g} m; "
            "prepare the scans with the voxel size of the network."
        )
    return store


def weights_digest(weights: Any) -> str:
    """Tells networks apart that agree in settings, seed and step."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(weights)):
        digest.update(leaf.tobytes())
    return digest.hexdigest()[:16]
