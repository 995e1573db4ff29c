"""The work directory of a run: which settings and data it belongs to."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from mprm_jax.config import Config, from_json, to_json
from mprm_jax.writing import explain_failed_write, write_whole

# What may change when a run is resumed, because no result depends on it.
_FREE = ("log", "data.workers", "data.prefetch")


def open_workdir(workdir: pathlib.Path, config: Config, identity: dict[str, Any]) -> None:
    """Claims a new work directory for a run, or checks that it holds this very run.

    Writes `config.json`, the calibrated settings, and `data.json`, what identifies the data.

    Args:
      identity: JSON values, e.g. the classes and the fingerprint of the prepared data.

    Raises:
      ValueError: the directory belongs to other settings or other data.
      OSError: it cannot be written.
    """
    require_writable(workdir)
    with explain_failed_write(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    settings, data = workdir / "config.json", workdir / "data.json"
    if settings.exists() and data.exists():
        _check_data(data, identity)
        _check_settings(settings, config)
        return
    write_whole(data, json.dumps(identity, indent=2))
    write_whole(settings, to_json(config))


def require_writable(workdir: pathlib.Path) -> None:
    """Raises `OSError` if a work directory can be neither made nor written; makes nothing."""
    place = workdir.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(f"{workdir}: {place} is a file; choose another --workdir.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"{workdir}: {place} is not writable; choose another --workdir.")


def _check_data(path: pathlib.Path, identity: dict[str, Any]) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in identity if found.get(name) != identity[name]]
    except (ValueError, AttributeError) as error:
        raise ValueError(_damaged(path, error)) from error
    if changed:
        raise ValueError(
            f"{path}: this run was started on other data ({', '.join(changed)} differ); "
            "choose another --workdir."
        )


def _check_settings(path: pathlib.Path, config: Config) -> None:
    try:
        found = from_json(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError) as error:
        raise ValueError(_damaged(path, error)) from error
    changed = _differences(dataclasses.asdict(found), dataclasses.asdict(config))
    changed = [line for line in changed if not line.startswith(_FREE)]
    if changed:
        raise ValueError(
            f"{path}: this run was started with other settings ({'; '.join(changed)}); "
            "use the same ones to resume, or another --workdir."
        )


def _damaged(path: pathlib.Path, error: Exception) -> str:
    return f"{path}: damaged, or of another version ({error}); choose another --workdir."


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for name, value in old.items():
        if isinstance(value, dict):
            lines += _differences(value, new[name], f"{prefix}{name}.")
        elif value != new[name]:
            lines.append(f"{prefix}{name}: {value} there, {new[name]} now")
    return lines
