"""From the words after `--data` to a source, and to a prepared store that is up to date."""

import dataclasses
import hashlib
import logging
import os
import pathlib
from collections.abc import Callable
from pathlib import Path

from mprm_jax.config import Config, DataConfig
from mprm_jax.errors import MissingError, UserError
from mprm_jax.evidence.archive import ArchiveTags
from mprm_jax.evidence.folder import Folder
from mprm_jax.evidence.known_labels import LabeledScenes
from mprm_jax.evidence.people import SaidByPeople, is_said
from mprm_jax.rooms import generate
from mprm_jax.scans.pointcept import Pointcept
from mprm_jax.scans.s3dis import S3DIS
from mprm_jax.scans.scannet import ScanNet
from mprm_jax.scans.scene import Source
from mprm_jax.store.manifest import MANIFEST_FILE, StoreSettings, read_manifest, require_settings
from mprm_jax.store.prepare import prepare
from mprm_jax.store.scenes import SceneStore

logger = logging.getLogger(__name__)

ROOMS_ROOT = pathlib.Path("rooms")
STORES_ROOT = pathlib.Path("prepared")
DEFAULT_SIZE = "quick"
ARCHIVE = "archive:"
KINDS = ("scannet", "s3dis", "pointcept", "folder")
VALID = ", ".join(["rooms", *(f"{kind}:PATH" for kind in KINDS)])


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
        return with_point_labels(source, data.point_labels)
    if data.scale != 1:
        raise UserError(f"--data {spec}: rooms are in meters; leave data.scale at 1.")
    size = detail or DEFAULT_SIZE
    generate(rooms_root / size, size)
    source = ScanNet(rooms_root / size)
    source.name = f"rooms-{size}"
    return with_point_labels(_with_people(source, rooms_root / size), data.point_labels)


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


def with_point_labels(source: Source, choice: str) -> Source:
    """The source with the point labels of some scenes as evidence; see `data.point_labels`.

    Raises:
      ValueError, OSError: in one line, if the list of scenes is wrong or not there.
    """
    return source if choice == "none" else LabeledScenes(source, choice)


def default_store(spec: str, config: Config) -> pathlib.Path:
    """Where a data set is prepared if nothing else is said.

    The name holds what the store depends on; data sets at different paths differ by a short hash.
    """
    kind, place = _scans(spec)
    name = f"{kind}-{place if kind == 'rooms' else _digest(place)}"
    data, usual = config.data, DataConfig()
    name += f"-{100 * data.voxel_size:g}cm-r{data.sphere_radius:g}-{data.seeds}"
    name += f"-scale{data.scale:g}" if data.scale != usual.scale else ""
    name += f"-area{data.test_area}" if data.test_area != usual.test_area else ""
    name += "-colorless" if data.colors == "none" else ""
    if data.point_labels != usual.point_labels:
        name += f"-labels{_digest(data.point_labels)}"
    return STORES_ROOT / name


def place_of_results(
    store: SceneStore,
    place: Callable[[str], pathlib.Path],
    is_of_data: Callable[[pathlib.Path], bool | None],
) -> pathlib.Path:
    """Where the results of a data set lie if nothing else is said; never among those of another.

    A folder of scans is called by its name, followed by a short hash where results of other data
    have that place. Earlier versions called it "folder": what they began stays where it is.

    Args:
      place: name of the data -> folder.
      is_of_data: whether the results in a folder are of these data; None if there are none.
    """
    former, name = store.manifest.name, _name(store)
    names = (former, name, f"{name}-{_digest(str(store.path.resolve()))}")
    found = {name: is_of_data(place(name)) for name in names}
    begun = [name for name in names if found[name]]
    free = [name for name in names[1:] if found[name] is None]
    return place([*begun, *free, names[-1]][0])


def is_same_data(store: SceneStore, fingerprint: str | None, other: pathlib.Path) -> bool:
    """Whether something is of the scans of a store, whatever the settings they were prepared with.

    Args:
      fingerprint: of its training scenes.
      other: its store, which may be gone.
    """
    if fingerprint == store.fingerprint("train") or other == store.path.absolute():
        return True
    if not store.manifest.spec or not (other / MANIFEST_FILE).is_file():
        return False
    return _scans(read_manifest(other).spec) == _scans(store.manifest.spec)


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


def refreshed(store: SceneStore) -> SceneStore:
    """The store with what people said since it was prepared, if its scans are where they were.

    Raises:
      ValueError, OSError: as of `prepare`.
    """
    spec, settings = store.manifest.spec, store.manifest.settings
    kind, _, place = spec.partition(":")
    folders = [ROOMS_ROOT / (place or DEFAULT_SIZE)] if kind == "rooms" else []
    folders += _folders(spec, settings.tags)
    gone = [folder for folder in folders if not folder.is_dir()]
    if not spec:
        return store
    if gone or not os.access(store.path, os.W_OK):
        why = f"{gone[0]} is not here" if gone else "it cannot be written"
        logger.info("%s: used as it was prepared, %s", store.path, why)
        return store
    if kind != "folder" and not is_said(folders[0]):
        return store  # nothing is said of them but by their labels
    known = {field.name for field in dataclasses.fields(DataConfig)}
    values = {name: x for name, x in dataclasses.asdict(settings).items() if name in known}
    data = DataConfig(**values)
    source = with_tags(open_dataset(spec, data), settings.tags, data.sphere_radius)
    there = {scene for scenes in source.splits.values() for scene in scenes}
    if not {key.partition("/")[2] for key in store.manifest.scenes} <= there:
        logger.info("%s: used as it was prepared, %s holds other scans", store.path, folders[0])
        return store
    return prepare(source, store.path, data, spec=spec, tags=settings.tags).store


def open_source(spec: str, *, scale: float = 1.0, test_area: int = 5) -> Source:
    """Opens the data set of a specification `kind:path`.

    Args:
      spec: kind is one of scannet, s3dis, pointcept and folder; `~` is the home folder.
      scale: meters per unit of the scans of a folder; the other kinds are in meters.
      test_area: S3DIS area that validates, also of S3DIS prepared for Pointcept.

    Raises:
      OSError: the path does not exist or holds no data of this kind.
      ValueError: the kind is unknown or has no scale, or the data are wrong.
    """
    kind, _, text = spec.partition(":")
    if kind not in KINDS or not text:
        hint = f" Scans in a folder: --data folder:{spec}." if Path(spec).is_dir() else ""
        raise UserError(f"--data {spec}: unknown data set; valid are {VALID}.{hint}")
    root = Path(text).expanduser()
    if not root.is_dir():
        raise MissingError(f"--data {spec}: no folder {root}; check the path.")
    if scale != 1 and kind != "folder":
        raise UserError(f"--data {spec}: {kind} is in meters; leave data.scale at 1.")
    if kind == "scannet":
        return _with_people(ScanNet(root), root)
    if kind == "s3dis":
        return _with_people(S3DIS(root, test_area), root)
    if kind == "pointcept":
        return _with_people(Pointcept(root, test_area=test_area), root)
    return Folder(root, scale)


def _with_people(source: Source, root: pathlib.Path) -> Source:
    """The source with what people said of its scenes in the root folder, if they did."""
    if not is_said(root):
        return source
    logger.info("%s: tags and clicks of people count before tags made from point labels", root)
    return SaidByPeople(source, root)


def _name(store: SceneStore) -> str:
    """What people call a data set."""
    kind, place = _scans(store.manifest.spec)
    return (kind == "folder" and pathlib.Path(place).name) or store.manifest.name


def _scans(spec: str) -> tuple[str, str]:
    """Kind and place of the scans of a specification, however it is spelled."""
    kind, _, detail = spec.partition(":")
    if kind == "rooms":
        return kind, detail or DEFAULT_SIZE
    return kind, str(pathlib.Path(detail).expanduser().resolve())


def _digest(place: str) -> str:
    return hashlib.sha256(place.encode()).hexdigest()[:6]


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
