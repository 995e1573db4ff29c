"""What a prepared store says about itself: settings, scenes, counts; kept as JSON."""

import dataclasses
import json
import pathlib
import typing
from collections.abc import Mapping
from typing import Any

from mprm_jax.config import DataConfig
from mprm_jax.errors import MissingError, UserError
from mprm_jax.reading import read_json
from mprm_jax.writing import write_whole

FORMAT = 1  # raised when a change makes older stores unreadable
MANIFEST_FILE = "manifest.json"
SCENE_FILE = "scene.json"

Stamps = Mapping[str, tuple[int, int]]  # file -> size in bytes, CRC or nanoseconds of change


@dataclasses.dataclass(frozen=True)
class StoreSettings:
    """What the stored arrays depend on besides the scans."""

    voxel_size: float  # meters
    sphere_radius: float  # meters
    seeds: str  # placement of grid seeds
    tags: str = "auto"  # "auto": people's tags, else from point labels; "archive:DIR"
    scale: float = 1.0  # meters per unit of the scans
    test_area: int = 5  # of S3DIS, the split "val"
    colors: str = "auto"  # "none": those of the scans were left out
    point_labels: str = "none"  # scenes whose point labels may be learned

    @classmethod
    def of(cls, data: DataConfig, tags: str = "auto") -> "StoreSettings":
        """The settings of a store that serves `data`."""
        return cls(
            data.voxel_size,
            data.sphere_radius,
            data.seeds,
            tags,
            data.scale,
            data.test_area,
            data.colors,
            data.point_labels,
        )


@dataclasses.dataclass(frozen=True)
class SceneInfo:
    """Counts and facts of one prepared scene."""

    points: int  # points or mesh vertices of the scan
    voxels: int
    subclouds: int  # balls that hold at least one voxel
    seeds: int  # balls of the full grid, empty ones included
    origin: tuple[float, float, float]  # meters, was subtracted from all coordinates
    has_labels: bool  # the source had point labels
    has_colors: bool  # False: all colors are stored as 0
    has_tags: bool  # some weak label exists
    fingerprint: str  # of the voxel cloud and the evidence, never of labels not to be learned
    cloud: str = ""  # fingerprint of the voxel cloud alone; "" in stores of older versions
    clicks: int = 0
    clicks_outside: int = 0  # of them, those whose class a ball around had not been tagged with
    set_sizes: tuple[int, ...] = ()  # voxels with 0, 1, 2, 3, 4 or more candidates; () as above


@dataclasses.dataclass(frozen=True)
class BrokenScene:
    """A scene left out because it cannot be read."""

    reason: str
    files: Stamps  # source files at the time; a change earns it another look


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of a complete store."""

    spec: str  # data set as the user named it, e.g. "scannet:/data/scannet"
    name: str  # short name of the source, e.g. "scannet"
    classes: tuple[str, ...]
    settings: StoreSettings
    splits: Mapping[str, tuple[str, ...]]  # split -> scene names
    scenes: Mapping[str, SceneInfo]  # by "split/scene"
    broken: Mapping[str, BrokenScene]  # by "split/scene": left out on purpose
    format: int = FORMAT


@dataclasses.dataclass(frozen=True)
class SceneRecord:
    """What a scene folder says of itself, so that an interrupted run need not repeat it."""

    settings: StoreSettings
    classes: tuple[str, ...]
    files: Stamps  # source files at the time
    info: SceneInfo
    format: int = FORMAT


def require_settings(store: pathlib.Path, manifest: Manifest, asked: StoreSettings) -> None:
    """Raises `ValueError` naming the first setting in which a store differs from the asked."""
    for field in dataclasses.fields(StoreSettings):
        there, wanted = getattr(manifest.settings, field.name), getattr(asked, field.name)
        if there != wanted:
            raise UserError(
                f"{store}: prepared with {field.name} {there}, asked for {wanted}; "
                "choose another --store or delete this one."
            )


def write_json(value: Any, path: pathlib.Path) -> None:
    """Writes a dataclass whole or not at all."""
    write_whole(path, json.dumps(dataclasses.asdict(value), indent=1))


def read_manifest(store: pathlib.Path) -> Manifest:
    """The manifest of the store at a path.

    Raises:
      FileNotFoundError: there is none: nothing was prepared here, or not to the end.
      ValueError: another format, or not a manifest.
    """
    path = store / MANIFEST_FILE
    if not path.is_file():
        raise MissingError(
            f"{store}: no {MANIFEST_FILE}, so no complete store; run mprm prepare first."
        )
    return _read(Manifest, path)


def read_record(folder: pathlib.Path) -> SceneRecord | None:
    """The record of a scene folder; None where there is none that can be used."""
    try:
        return _read(SceneRecord, folder / SCENE_FILE)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _read(kind: type, path: pathlib.Path) -> Any:
    remedy = "prepare it again in a new or emptied folder."
    try:
        values = read_json(path)
        found = values["format"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not readable as JSON of a store; {remedy}") from None
    if found != FORMAT:
        raise UserError(f"{path}: store format {found}, this version reads {FORMAT}; {remedy}")
    try:
        return _convert(kind, values)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: incomplete ({error}); {remedy}") from None


def _convert(kind: Any, value: Any) -> Any:
    """JSON values as the declared type: dataclasses, tuples and mappings of them."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _convert(hints[name], value[name]) for name in hints.keys() & value})
    if typing.get_origin(kind) is tuple:
        return tuple(value)
    if typing.get_origin(kind) is not None:
        item = typing.get_args(kind)[1]
        return {key: _convert(item, entry) for key, entry in value.items()}
    return value
