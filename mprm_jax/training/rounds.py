"""Rounds: after more tags and clicks, training goes on from the weights of the round before."""

import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from mprm_jax.training.steps import TrainState
from mprm_jax.training.trained import open_network
from mprm_jax.training.workdir import noted_data, seconds_before

logger = logging.getLogger(__name__)


def round_of(first: pathlib.Path, fingerprint: str) -> tuple[pathlib.Path, pathlib.Path | None]:
    """The work directory of the round with this evidence, and that of the round before, if any.

    The rounds of `runs/x` are `runs/x`, `runs/x-round2`, `runs/x-round3`, ...: the first that was
    begun with this evidence, or else the first that is free.

    Args:
      fingerprint: of the training scenes with their evidence.
    """
    before, workdir, number = None, first, 1
    while (noted := noted_data(workdir)) is not None and noted.get("fingerprint") != fingerprint:
        number += 1
        before, workdir = workdir, first.with_name(f"{first.name}-round{number}")
    if before is not None and noted is None:
        minutes = seconds_before(before) / 60
        took = f"; that one took {minutes:.1f} minutes, this one will take about as long"
        logger.info(
            "%s: tags, clicks or scans changed since %s was trained%s",
            workdir,
            before,
            took if minutes else "",
        )
    return workdir, before


def with_weights_of(
    workdir: pathlib.Path, fresh: TrainState, mesh: jax.sharding.Mesh
) -> TrainState:
    """A fresh state with the weights and running statistics that a run's last checkpoint uses.

    Arrays of another shape, as the last layer's after a class was added, stay as they are.

    Args:
      mesh: of all devices that train; every host reads the checkpoint.

    Raises:
      FileNotFoundError: no run or no checkpoint there.
      ValueError: files that cannot be read.
    """
    network = open_network(workdir, None, "last", mesh)
    found = _by_path(network.state.variables)
    num_kept, has_averages = 0, bool(fresh.averages)

    def choose(path: Any, value: Any) -> Any:
        nonlocal num_kept
        other = found.get(path)
        if other is None or other.shape != value.shape:
            num_kept += 1
            return value
        return other.astype(value.dtype)

    fresh = fresh._replace(averages={})
    chosen = jax.tree_util.tree_map_with_path(choose, fresh.variables)
    logger.info(
        "starting from the weights of %s, step %d%s",
        workdir,
        network.step,
        f"; {num_kept} arrays are of another shape and start anew" if num_kept else "",
    )
    averages = jax.tree.map(jnp.copy, chosen) if has_averages else {}
    return fresh._replace(**chosen, averages=averages)


def _by_path(variables: Any) -> dict[Any, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(variables))
    return dict(leaves)
