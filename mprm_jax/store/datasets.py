"""From the words after `--data` to a source, and to a prepared store that is up to date."""

import hashlib
import logging
import pathlib

from mprm_jax.config import Config, DataConfig
from mprm_jax.errors import UserError
from mprm_jax.evidence.archive import ArchiveTags
from mprm_jax.evidence.folder import Folder
from mprm_jax.rooms import generate
from mprm_jax.scans.scannet import ScanNet
from mprm_jax.scans.scene import Source
from mprm_jax.store.manifest import MANIFEST_FILE, StoreSettings, read_manifest, require_settings
from mprm_jax.store.prepare import prepare
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.source import open_source

logger = logging.getLogger(__name__)

ROOMS_ROOT = pathlib.Path("rooms")
STORES_ROOT = pathlib.Path("prepared")
DEFAULT_SIZE = "quick"
ARCHIVE = "archive:"


def open_dataset(spec: str, data: DataConfig, rooms_root: pathlib.Path = ROOMS_ROOT) -> Source:
    """The scans of a specification; Rooms are made where they are missing.

    Args:
      spec: rooms, rooms:SIZE, or `kind:path` of a kind of `open_source`.
      data: scale and test area count.
      rooms_root: Rooms of a size lie in the folder of that name below it.

    Raises:
      ValueError, OSError: in one line, if the data set is unknown or not there.
    """
    kind, _, detail = spec.partition(":")
    if kind == "store":
        raise UserError(f"--data {spec}: a prepared store holds no scans; name the data set.")
    if kind != "rooms":
        source = open_source(spec, scale=data.scale, test_area=data.test_area)
        if isinstance(source, Folder):
            source.require_tags()
        return source
    if data.scale != 1:
        raise UserError(f"--data {spec}: rooms are in meters; leave data.scale at 1.")
    size = detail or DEFAULT_SIZE
    generate(rooms_root / size, size)
    source = ScanNet(rooms_root / size)
    source.name = f"rooms-{size}"
    return source


def with_tags(source: Source, tags: str, radius: float) -> Source:
    """The source with tags from "archive:DIR" in place of its own; "auto" leaves it.

    Args:
      radius: meters, of the balls of the archive.
    """
    if tags == "auto":
        return source
    if not tags.startswith(ARCHIVE) or tags == ARCHIVE:
        raise UserError(f"--tags {tags}: choose auto or archive:DIR.")
    return ArchiveTags(source, pathlib.Path(tags.removeprefix(ARCHIVE)).expanduser(), radius)


def default_store(spec: str, config: Config) -> pathlib.Path:
    """Where a data set is prepared if nothing else is said.

    The name holds what the store depends on; data sets at different paths differ by a short hash.
    """
    kind, _, detail = spec.partition(":")
    if kind == "rooms":
        name = f"rooms-{detail or DEFAULT_SIZE}"
    else:
        path = pathlib.Path(detail).expanduser().resolve()
        name = f"{kind}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"
    data, usual = config.data, DataConfig()
    name += f"-{100 * data.voxel_size:g}cm-r{data.sphere_radius:g}-{data.seeds}"
    name += f"-scale{data.scale:g}" if data.scale != usual.scale else ""
    name += f"-area{data.test_area}" if data.test_area != usual.test_area else ""
    name += "-colorless" if data.colors == "none" else ""
    return STORES_ROOT / name


def ensure_store(
    spec: str,
    config: Config,
    path: pathlib.Path | None = None,
    *,
    rooms_root: pathlib.Path = ROOMS_ROOT,
    workers: int | None = None,
) -> SceneStore:
    """The prepared store of a data set: opened if it is there and fits, else made.

    Args:
      spec: as of `open_dataset`, or store:PATH for a store whose scans are elsewhere.
      path: of the store, `default_store` if None.

    Raises:
      ValueError: broken scenes, a store of other settings, no scene to train on.
      OSError: missing data, or no place to write.
    """
    kind, _, detail = spec.partition(":")
    if kind == "store":
        if path is not None:
            raise UserError(f"--data {spec} names a store already; leave out --store {path}.")
        return _open_as_it_is(pathlib.Path(detail).expanduser(), config)
    path = path or default_store(spec, config)
    tags = "auto"
    if (path / MANIFEST_FILE).is_file():
        # What people or the archive said when the store was made still holds.
        tags = read_manifest(path).settings.tags
        gone = [name for name in _folders(spec, tags) if not name.exists()]
        if gone:
            logger.warning("%s is gone; using %s as it was prepared.", gone[0], path)
            return _open_as_it_is(path, config)
    source = open_dataset(spec, config.data, rooms_root)
    source = with_tags(source, tags, config.data.sphere_radius)
    return prepare(source, path, config.data, spec=spec, tags=tags, workers=workers).store


def _folders(spec: str, tags: str) -> list[pathlib.Path]:
    """Folders that scans and tags come from, Rooms apart."""
    kind, _, detail = spec.partition(":")
    names = [] if kind == "rooms" else [detail]
    if tags != "auto":
        names.append(tags.removeprefix(ARCHIVE))
    return [pathlib.Path(name).expanduser() for name in names]


def _open_as_it_is(path: pathlib.Path, config: Config) -> SceneStore:
    store = SceneStore(path)
    asked = StoreSettings.of(config.data, store.manifest.settings.tags)
    require_settings(path, store.manifest, asked)
    store.require_files()
    return store
