"""The work directory of a run: which settings and data it belongs to."""

import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from mprm_jax.config import OPEN, Config, flat, from_values, to_json, to_values
from mprm_jax.errors import MissingError, UserError
from mprm_jax.presets import FORMER, PRESETS
from mprm_jax.reading import read_json
from mprm_jax.writing import FailedWriteError, explain_failed_write, write_whole

logger = logging.getLogger(__name__)

# What may change when a run is resumed, because no result depends on it.
_FREE = ("log.", "data.workers", "data.prefetch", "data.keep_gb")
_IDENTITY = ("stage", "data", "classes", "store")  # in every data.json
_MAX_LISTED = 5
_SECONDS_FILE = "seconds.json"


def open_workdir(
    workdir: pathlib.Path, config: Config, identity: dict[str, Any], store: pathlib.Path
) -> None:
    """Claims a new work directory for a run, or checks that it holds this very run.

    Writes `config.json`, the calibrated settings, and `data.json`, what identifies the data.

    Args:
      identity: JSON values, e.g. the stage, the classes, the fingerprint of the prepared data.
      store: of the prepared data; noted for later commands, it may move.

    Raises:
      ValueError: the directory belongs to other settings or other data.
      OSError: it cannot be written.
    """
    require_writable(workdir)
    with explain_failed_write(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    settings, data = workdir / "config.json", workdir / "data.json"
    if settings.exists() and data.exists():
        _require_same_data(data, identity)
        require_same_settings(settings, _read(settings), config)
        return
    values = identity | {"store": str(store.absolute())}
    write_whole(data, json.dumps(values, indent=2))
    write_whole(settings, to_json(config))


def read_workdir(workdir: pathlib.Path) -> tuple[Config, dict[str, Any]]:
    """The calibrated settings of a run, and what identifies its stage and data.

    Raises:
      FileNotFoundError: no run was started there.
      ValueError: a file is damaged, or of a newer version.
    """
    settings, data = workdir / "config.json", workdir / "data.json"
    if not settings.is_file() or not data.is_file():
        raise MissingError(
            f"{workdir}: not the work directory of a run; give the --workdir of mprm train."
        )
    identity = _read(data)
    missing = [name for name in _IDENTITY if name not in identity]
    if missing:
        raise UserError(f"{data}: damaged (no {', '.join(missing)}); choose another --workdir.")
    config = _config(settings, _read(settings))
    coarser = ("coarse_points", "pool_neighbors") if config.pyramid.num_levels > 1 else ()
    sizes = ("max_clouds", "conv_neighbors", *coarser)
    open_sizes = [name for name in sizes if not getattr(config.pyramid, name)]
    if open_sizes:
        raise UserError(
            f"{settings}: damaged (no pyramid.{open_sizes[0]}); restore it, or choose another "
            "--workdir."
        )
    return config, identity


def begun_with(workdir: pathlib.Path, stage: str) -> dict[str, Any] | None:
    """The settings with which the run of a stage was begun there; None if there is none.

    Raises:
      ValueError: they are damaged, or those of another stage.
    """
    settings, data = workdir / "config.json", workdir / "data.json"
    if not (settings.exists() and data.exists()):
        return None
    _require_stage(data, _read(data), stage)
    return _read(settings)


def noted_data(workdir: pathlib.Path) -> dict[str, Any] | None:
    """What the run there notes of its data: stage, name, fingerprint, store; None if there is none.

    Raises:
      ValueError: it is damaged.
    """
    data = workdir / "data.json"
    return _read(data) if data.exists() and (workdir / "config.json").exists() else None


def continued(
    path: pathlib.Path, begun: dict[str, Any], asked: Config, stage: str, num_devices: int
) -> Config:
    """The config with which a run goes on: as it was begun, but for what no result depends on.

    A setting that the run lacks, because it was begun by an older version, is as before; so is one
    that has another value in the preset by now. Both are logged.

    Args:
      path: of the settings it was begun with, for messages.
      begun: these settings, as of `begun_with`.
      asked: by the command; need not be calibrated.
      num_devices: that may train. Before `pyramid.buckets_per_step` a step had one bucket of each.

    Raises:
      ValueError: the command asks for other settings than the run was begun with, or a newer
        version began it.
    """
    config = _config(path, begun)
    old, new = flat(begun), flat(to_values(asked))
    preset = flat(to_values(PRESETS[asked.preset](stage))) if asked.preset in PRESETS else {}
    former = FORMER.get(asked.preset, {})
    if (steps := "pyramid.buckets_per_step") not in old:
        wished = new[steps] != preset.get(steps)
        pyramid = dataclasses.replace(
            config.pyramid, buckets_per_step=new[steps] if wished else num_devices
        )
        config = dataclasses.replace(config, pyramid=pyramid)
    kept, changed = {}, []
    for name, value in flat(to_values(config)).items():
        if name.startswith(_FREE) or value == new[name] or _is_left_open(name, new):
            continue
        was_preset = new[name] == preset.get(name) and value in former.get(name, ())
        if name not in old or was_preset:
            kept[name] = value
        else:
            changed.append(f"{name}: {value} there, {new[name]} now")
    _require_none(path, changed)
    if kept:
        logger.warning(
            "%s: goes on as it was begun by an older version, with %s",
            path,
            ", ".join(f"{name}={value} (now {new[name]})" for name, value in kept.items()),
        )
    data = dataclasses.replace(
        config.data,
        workers=asked.data.workers,
        prefetch=asked.data.prefetch,
        keep_gb=asked.data.keep_gb,
    )
    return dataclasses.replace(config, data=data, log=asked.log)


def require_writable(workdir: pathlib.Path) -> None:
    """Raises `OSError` if a work directory can be neither made nor written; makes nothing."""
    place = workdir.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise FailedWriteError(f"{workdir}: {place} is a file; choose another --workdir.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise FailedWriteError(f"{workdir}: {place} is not writable; choose another --workdir.")


def require_same_settings(path: pathlib.Path, found: dict[str, Any], config: Config) -> None:
    """Raises `ValueError` if a run had other settings, those apart on which no result depends.

    Settings that one of them lacks, because it is of another version, are not compared.

    Args:
      path: where they were found, for the message.
      found: of the run, as of `to_values`.
    """
    old, new = flat(found), flat(to_values(config))
    _require_none(
        path,
        [
            f"{name}: {old[name]} there, {new[name]} now"
            for name in new
            if not name.startswith(_FREE) and name in old and old[name] != new[name]
        ],
    )


def _require_none(path: pathlib.Path, changed: Sequence[str]) -> None:
    if changed:
        listed = "; ".join(changed[:_MAX_LISTED]) + "; ..." * (len(changed) > _MAX_LISTED)
        raise UserError(
            f"{path}: this run was started with other settings ({listed}); "
            "use the same ones to resume, or another --workdir."
        )


def _is_left_open(name: str, asked: dict[str, Any]) -> bool:
    """Whether the command leaves a setting to be calibrated, which happened at the start."""
    if name == "pyramid.bucket_points":
        return bool(asked["pyramid.memory_gb"])
    return name in OPEN and asked[name] == OPEN[name]


def _config(path: pathlib.Path, values: dict[str, Any]) -> Config:
    try:
        return from_values(values)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); choose another --workdir.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: damaged (no values by name); choose another --workdir.")
    return values


def _require_same_data(path: pathlib.Path, identity: dict[str, Any]) -> None:
    found = _read(path)
    _require_stage(path, found, identity.get("stage"))
    changed = [name for name in identity if found.get(name) != identity[name]]
    if changed:
        raise UserError(
            f"{path}: this run was started on other data ({', '.join(changed)} differ); "
            "choose another --workdir."
        )


def _require_stage(path: pathlib.Path, found: dict[str, Any], stage: str | None) -> None:
    if found.get("stage") != stage:
        raise UserError(
            f"{path}: of a run of stage {found.get('stage')}, this is stage {stage}; "
            "choose another --workdir."
        )


def seconds_before(workdir: pathlib.Path) -> float:
    """Wall time that earlier starts of a run noted; what is noted survives a kill.

    Raises:
      ValueError: the note is damaged.
    """
    path = workdir / _SECONDS_FILE
    if not path.is_file():
        return 0.0
    try:
        return float(read_json(path)["seconds"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it.") from error


def note_seconds(workdir: pathlib.Path, seconds: float) -> None:
    """Notes the wall time of a run, all its starts together."""
    write_whole(workdir / _SECONDS_FILE, json.dumps({"seconds": round(seconds, 1)}))
