"""Begins and finishes an export on all hosts of a run: the first one writes, the others wait."""

import pathlib
from typing import Any

from mprm_jax.store.exports import (
    Export,
    ExportManifest,
    begin_export,
    finish_export,
    set_aside_another,
)
from mprm_jax.training.hosts import (
    exchange,
    is_first_host,
    require_shared,
    wait_for_all_hosts,
)


def begin_together(
    folder: pathlib.Path, manifest: ExportManifest, *, is_own: bool = False
) -> Export | None:
    """Claims a folder for all hosts; returns what is there if that is this export, complete.

    Args:
      is_own: the folder is for this export alone; another one that it holds is set aside.

    Raises:
      ValueError: the folder holds another export, or hosts do not share it.
      OSError: it cannot be written.
    """
    require_shared(folder)
    if is_own and is_first_host():
        set_aside_another(folder, manifest)
    found = begin_export(folder, manifest) if is_first_host() else None
    complete = exchange("complete" if found else "begun", f"begin {folder}")[0] == "complete"
    return Export(folder) if complete else None


def finish_together(folder: pathlib.Path, manifest: ExportManifest, **settings: Any) -> Export:
    """Declares an export complete once all hosts have written their scenes.

    Args:
      settings: JSON values found on the way, added to those of the manifest.
    """
    wait_for_all_hosts(f"scenes of {folder}")
    if is_first_host():
        finish_export(folder, manifest, **settings)
    wait_for_all_hosts(f"finish {folder}")
    return Export(folder)
