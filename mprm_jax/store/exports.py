"""Exported pseudo-labels on disk: one file per scene, and a manifest that says how they were made.

```
export.json          written last: without it an export is not complete
<scene>.npz          the arrays of `ExportedScene`
.begun.json          what an export that is not complete will be; it continues where it stopped
```
"""

import dataclasses
import json
import logging
import pathlib
from typing import Any, NamedTuple

import numpy as np

from mprm_jax.errors import MissingError, UserError, explain_damage
from mprm_jax.reading import read_json
from mprm_jax.store.scenes import SceneStore
from mprm_jax.types import IGNORED, MAX_CLASSES, Array
from mprm_jax.writing import explain_failed_write, free_name, whole_file, write_whole

logger = logging.getLogger(__name__)

FORMAT = 1  # raised when a change makes older exports unreadable
MANIFEST_FILE = "export.json"
BEGUN_FILE = ".begun.json"
_NOT_COMPARED = ("settings", "store", "clouds", "made_by")  # settings are, one by one
UNLABELED = MAX_CLASSES  # stored where a scene has no allowed class at all


class ExportedScene(NamedTuple):
    """The pseudo-labels of one scene and what they were chosen from.

    Rows are the voxels of the store; `point_voxel` spreads them to the points of the scan, those
    apart that preparation leaves out of a folder's scans: not finite, or of a repeated position.
    """

    scores: Array  # [V, num_classes] float16, what labels were chosen by; see the manifest
    allowed: Array  # [V, num_classes] bool, classes among which labels were chosen
    label: Array  # [V] uint8; UNLABELED (255) where there is none
    confidence: Array  # [V] float16, softmax of the label's score over the allowed classes
    num_balls: Array  # [V] uint16, balls that hold the voxel; 0: the label is the nearest one's
    point_voxel: Array  # [N] int32, voxel nearest to each point of the scan, in its order


@dataclasses.dataclass(frozen=True)
class ExportManifest:
    """What an export says about itself."""

    data: str  # name of the data set
    classes: tuple[str, ...]
    split: str
    fingerprint: str  # of the split of the store
    store: str  # where the prepared scenes were; they may have moved
    voxel_size: float  # meters
    scenes: tuple[str, ...]
    settings: dict[str, Any]  # how scores were mined and labels chosen, as JSON reads them back
    clouds: str = ""  # fingerprint of the voxels of the split alone; "" in older exports
    # Of `mprm_jax.provenance`, once complete; empty in older exports.
    made_by: dict[str, Any] = dataclasses.field(default_factory=dict)
    format: int = FORMAT


class Export:
    """A complete export, opened by its folder.

    Raises:
      FileNotFoundError: nothing was exported there, or not to the end; or a scene is missing.
      ValueError: not an export, or of another format.
    """

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        if not (self.path / MANIFEST_FILE).is_file():
            raise MissingError(
                f"{self.path}: no {MANIFEST_FILE}, so no complete export; run mprm export first."
            )
        self.manifest = _read_manifest(self.path / MANIFEST_FILE)
        missing = [scene for scene in self.scenes if not scene_file(self.path, scene).is_file()]
        if missing:
            raise MissingError(
                f"{scene_file(self.path, missing[0])}: missing, with {len(missing) - 1} more; "
                "export the pseudo-labels again."
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.classes

    @property
    def scenes(self) -> tuple[str, ...]:
        return self.manifest.scenes

    def open_store(self, path: pathlib.Path | None = None) -> SceneStore:
        """The prepared scenes that it was made from.

        Args:
          path: where they are; where they were then if None.

        Raises:
          FileNotFoundError: they are not there.
          ValueError: other scenes.
        """
        try:
            store = SceneStore(path or self.manifest.store)
        except FileNotFoundError as error:
            raise MissingError(f"{error} Or say with --store where the scenes are.") from None
        self.require_scenes(store)
        return store

    def require_store(self, store: SceneStore) -> None:
        """Raises `ValueError` unless the export was made from just this data."""
        manifest, remedy = self.manifest, "export the pseudo-labels again, or give its --store."
        num_known = len(manifest.classes)
        if tuple(store.classes)[:num_known] == manifest.classes and len(store.classes) > num_known:
            raise UserError(
                f"{self.path}: made before class {store.classes[num_known]!r} was added; train "
                "again, which goes on from the weights that are there."
            )
        if tuple(store.classes) != manifest.classes:
            raise UserError(
                f"{self.path}: its {len(manifest.classes)} classes are not the "
                f"{len(store.classes)} of {store.path}; {remedy}"
            )
        if manifest.split not in store.splits:
            raise UserError(f"{self.path}: {store.path} has no split {manifest.split}; {remedy}")
        if store.fingerprint(manifest.split) != manifest.fingerprint:
            raise UserError(
                f"{self.path}: made from another version of the data than {store.path}; {remedy}"
            )

    def require_scenes(self, store: SceneStore) -> None:
        """Raises `ValueError` unless it is of these scenes; evidence may have come since."""
        clouds = self.manifest.clouds
        if (
            not clouds
            or tuple(store.classes) != self.classes
            or self.manifest.split not in store.splits
            or not set(self.scenes) <= set(store.scenes(self.manifest.split))
            or clouds != store.clouds_fingerprint(self.manifest.split, self.scenes)
        ):
            self.require_store(store)

    def load(self, scene: str) -> ExportedScene:
        """The arrays of a scene.

        Raises:
          ValueError: the file is damaged.
        """
        return load_scene(scene_file(self.path, scene))


def scene_file(folder: pathlib.Path, scene: str) -> pathlib.Path:
    """Where the arrays of a scene lie."""
    return folder / f"{scene}.npz"


def save_scene(path: pathlib.Path, arrays: NamedTuple) -> None:
    """Writes a tuple of arrays, whole or not at all."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays._asdict())


def load_scene(path: pathlib.Path, kind: type = ExportedScene) -> Any:
    """The tuple of arrays that `save_scene` wrote.

    Raises:
      FileNotFoundError, ValueError: in one line that names the file.
    """
    # Opened here: np.load leaves a file open that is not an archive after all.
    with (
        explain_damage(path, "delete it and export the pseudo-labels again"),
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        return kind(**{name: arrays[name] for name in kind._fields})


def begin_export(folder: pathlib.Path, manifest: ExportManifest) -> Export | None:
    """Claims a folder; returns what is there if that is this very export, complete.

    Raises:
      ValueError: the folder holds another export, complete or not.
      OSError: it cannot be written.
    """
    for name in (MANIFEST_FILE, BEGUN_FILE):
        if (folder / name).is_file():
            _require_same(folder / name, manifest)
    if (folder / MANIFEST_FILE).is_file():
        return Export(folder)
    with explain_failed_write(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / BEGUN_FILE, json.dumps(dataclasses.asdict(manifest), indent=1))
    return None


def set_aside_another(folder: pathlib.Path, manifest: ExportManifest) -> None:
    """Moves an export that is another one to a free name beside it; does nothing for this one."""
    changed = [
        difference
        for name in (MANIFEST_FILE, BEGUN_FILE)
        if (folder / name).is_file()
        for difference in _differences(folder / name, manifest)
    ]
    if changed:
        aside = free_name(folder)
        with explain_failed_write(folder):
            folder.rename(aside)
        why = ", ".join(dict.fromkeys(changed))
        logger.warning("%s: held an earlier export (%s differ), now %s", folder, why, aside)


def finish_export(
    folder: pathlib.Path,
    manifest: ExportManifest,
    made_by: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Declares an export complete.

    Args:
      made_by: of `mprm_jax.provenance`.
      settings: JSON values found on the way, added to those of the manifest.
    """
    settings = manifest.settings | settings
    manifest = dataclasses.replace(manifest, settings=settings, made_by=made_by or {})
    write_whole(folder / MANIFEST_FILE, json.dumps(dataclasses.asdict(manifest), indent=1))
    (folder / BEGUN_FILE).unlink(missing_ok=True)


def as_labels(stored: Array) -> Array:
    """Stored labels as int32, IGNORED where there is none."""
    return np.where(stored == UNLABELED, IGNORED, stored.astype(np.int32))


def as_stored(labels: Array) -> Array:
    """Labels as bytes, UNLABELED where they are IGNORED."""
    return np.where(labels == IGNORED, UNLABELED, labels).astype(np.uint8)


def _require_same(path: pathlib.Path, manifest: ExportManifest) -> None:
    """Raises `ValueError` if what is there is another export."""
    if changed := _differences(path, manifest):
        raise UserError(
            f"{path}: of another export ({', '.join(changed)} differ); "
            "choose another folder or delete this one."
        )


def _differences(path: pathlib.Path, manifest: ExportManifest) -> list[str]:
    """In what the export there is another one."""
    found = _read_manifest(path)
    names = [field.name for field in dataclasses.fields(manifest)]
    names = [name for name in names if name not in _NOT_COMPARED]
    changed = [name for name in names if getattr(found, name) != getattr(manifest, name)]
    return changed + [key for key, x in manifest.settings.items() if found.settings.get(key) != x]


def _read_manifest(path: pathlib.Path) -> ExportManifest:
    try:
        values = read_json(path)
        found = values["format"]
        values |= {name: tuple(values[name]) for name in ("classes", "scenes")}
        manifest = ExportManifest(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); export the pseudo-labels again.") from None
    if found != FORMAT:
        raise UserError(
            f"{path}: export format {found}, this version reads {FORMAT}; export again."
        )
    return manifest
