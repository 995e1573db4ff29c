"""The work directory of a run: which settings and data it belongs to."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from mprm_jax.config import Config, from_json, to_json

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
    workdir.mkdir(parents=True, exist_ok=True)
    if not os.access(workdir, os.W_OK):
        raise ValueError(f"{workdir}: not writable; choose another --workdir.")
    settings, data = workdir / "config.json", workdir / "data.json"
    if settings.exists() and data.exists():
        _check_settings(settings, config)
        if json.loads(data.read_text(encoding="utf-8")) != identity:
            raise ValueError(
                f"{data}: this run was started on other data; choose another --workdir."
            )
        return
    write_atomically(data, json.dumps(identity, indent=2))
    write_atomically(settings, to_json(config))


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file that is either whole or not there."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _check_settings(path: pathlib.Path, config: Config) -> None:
    try:
        found = from_json(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error} Choose another --workdir.") from error
    changed = _differences(dataclasses.asdict(found), dataclasses.asdict(config))
    changed = [line for line in changed if not line.startswith(_FREE)]
    if changed:
        raise ValueError(
            f"{path}: this run was started with other settings ({'; '.join(changed)}); "
            "use the same ones to resume, or another --workdir."
        )


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for name, value in old.items():
        if isinstance(value, dict):
            lines += _differences(value, new[name], f"{prefix}{name}.")
        elif value != new[name]:
            lines.append(f"{prefix}{name}: {value} there, {new[name]} now")
    return lines
