"""Starts or goes on with a training run: its settings, its shapes, and its work directory."""

import json
import logging
import os
import pathlib
from typing import Any

import jax

from mprm_jax.batches.balls import Balls
from mprm_jax.config import Config
from mprm_jax.overrides import setting_values
from mprm_jax.store.scenes import SceneStore
from mprm_jax.training.hosts import (
    exchange,
    is_first_host,
    require_equal,
    require_shared,
    wait_for_all_hosts,
)
from mprm_jax.training.stages import Stage
from mprm_jax.training.static_sizes import choose_sizes
from mprm_jax.training.workdir import begun_with, continued, open_workdir

logger = logging.getLogger(__name__)


def settings_of_run(workdir: pathlib.Path, stage: str, config: Config, num_devices: int) -> Config:
    """The settings of the run that was begun in a work directory, or `config` if there is none.

    Args:
      stage: its name, "cls" or "seg".
      config: what the command asks for.
      num_devices: of all hosts, that may train.

    Raises:
      ValueError: it asks for other settings than those of the run; the run is of the other stage,
        or of a newer version.
    """
    heard = exchange(json.dumps(begun_with(workdir, stage)), "settings of the run")
    begun = json.loads(heard[0])
    if begun is None:
        return config
    return continued(workdir / "config.json", begun, config, stage, num_devices)


def start_run(
    name: str,
    stage: Stage,
    store: SceneStore,
    train: Balls,
    config: Config,
    mesh: jax.sharding.Mesh,
    workdir: pathlib.Path,
    **identity: Any,
) -> Config:
    """The calibrated config of a run in a new work directory, or in that of the same run.

    Args:
      name: of the stage, "cls" or "seg".
      train: balls to train on, cut out with `whole_balls(config)`.
      config: as of `settings_of_run`.
      identity: JSON values that a resumed run must share, besides stage and data.

    Raises:
      ValueError: the work directory is of another run, hosts differ or do not share it, or the
        memory is too little.
      OSError: it cannot be written.
    """
    identity |= {
        "stage": name,
        "data": store.manifest.name,
        "classes": list(store.classes),
        "fingerprint": store.fingerprint("train"),
    }
    # Only noted if not, so that runs of earlier versions, on data with colors, can be resumed.
    if not any(store.info("train", scene).has_colors for scene in store.scenes("train")):
        identity["has_colors"] = False
    facts = {name: json.dumps(value) for name, value in identity.items()}
    # Data first: where they differ, so does what is calibrated from them.
    require_equal(facts, "data")
    is_new = json.loads(exchange(json.dumps(begun_with(workdir, name)), "settings")[0]) is None
    config = choose_sizes(config, stage, train, mesh, is_new=is_new)
    require_equal(setting_values(config), "settings")
    require_shared(workdir)
    if is_first_host():
        open_workdir(workdir, config, identity, store.path)
    wait_for_all_hosts("work directory")
    keep_programs(workdir)
    logger.info(
        "%s: %d scenes, %d balls, %d classes; %d %s devices; work directory %s",
        store.path,
        len(train.scenes),
        len(train),
        len(store.classes),
        mesh.size,
        jax.default_backend(),
        workdir,
    )
    return config


def keep_programs(workdir: pathlib.Path) -> None:
    """Keeps compiled programs in the work directory, for the next command on it.

    Does nothing where the user chose another place, or where nothing can be written.
    """
    # Not None: set by JAX_COMPILATION_CACHE_DIR.
    if jax.config.jax_compilation_cache_dir is None and os.access(workdir, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str((workdir / "xla_cache").absolute()))
        if jax.default_backend() == "cpu":
            # A cache for GPUs, whose place would be part of each program's key: none would be
            # found again after the work directory moved.
            jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
