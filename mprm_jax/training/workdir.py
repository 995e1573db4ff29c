"""The work directory of a run: which settings and data it belongs to."""

import json
import os
import pathlib
from typing import Any

from mprm_jax.config import Config, from_json, to_json, to_values
from mprm_jax.writing import explain_failed_write, write_whole

# What may change when a run is resumed, because no result depends on it.
_FREE = ("log.", "data.workers", "data.prefetch")
_MAX_LISTED = 5


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
      ValueError: a file is damaged or of another version.
    """
    settings, data = workdir / "config.json", workdir / "data.json"
    if not settings.is_file() or not data.is_file():
        raise FileNotFoundError(
            f"{workdir}: not the work directory of a run; give the --workdir of train.py."
        )
    try:
        return from_json(settings.read_text(encoding="utf-8")), _read(data)
    except ValueError as error:
        raise ValueError(f"{settings}: not of this version ({error}); train again.") from error


def begun_with(workdir: pathlib.Path) -> int | None:
    """`pyramid.bucket_points` of the run that was started there; None if there is none.

    Raises:
      ValueError: its settings are damaged.
    """
    settings = workdir / "config.json"
    if not (settings.exists() and (workdir / "data.json").exists()):
        return None
    return _flat(_read(settings)).get("pyramid.bucket_points")


def require_writable(workdir: pathlib.Path) -> None:
    """Raises `OSError` if a work directory can be neither made nor written; makes nothing."""
    place = workdir.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(f"{workdir}: {place} is a file; choose another --workdir.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"{workdir}: {place} is not writable; choose another --workdir.")


def require_same_settings(path: pathlib.Path, found: dict[str, Any], config: Config) -> None:
    """Raises `ValueError` if a run had other settings, those apart on which no result depends.

    Args:
      path: where they were found, for the message.
      found: of the run, as of `to_values`.
    """
    old, new = _flat(found), _flat(to_values(config))
    changed = [
        f"{name}: {old.get(name, 'not set')} there, {new.get(name, 'not set')} now"
        for name in new | old
        if not name.startswith(_FREE) and (name not in old or old[name] != new.get(name))
    ]
    if changed:
        listed = "; ".join(changed[:_MAX_LISTED]) + "; ..." * (len(changed) > _MAX_LISTED)
        raise ValueError(
            f"{path}: this run was started with other settings ({listed}); "
            "use the same ones to resume, or another --workdir."
        )


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); choose another --workdir.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: damaged (no values by name); choose another --workdir.")
    return values


def _require_same_data(path: pathlib.Path, identity: dict[str, Any]) -> None:
    found = _read(path)
    changed = [name for name in identity if found.get(name) != identity[name]]
    if "stage" in changed:
        raise ValueError(
            f"{path}: of a run of stage {found.get('stage')}, this is stage {identity['stage']}; "
            "choose another --workdir."
        )
    if changed:
        raise ValueError(
            f"{path}: this run was started on other data ({', '.join(changed)} differ); "
            "choose another --workdir."
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by `section.field`."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
