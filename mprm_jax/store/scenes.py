"""The scene store: prepared voxel clouds and weak labels on disk, read by scene.

Point labels lie in files of their own, which only `mprm_jax.store.truth` opens; nothing here does,
so that training cannot see them.
"""

import functools
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from mprm_jax.errors import MissingError, UserError, explain_damage
from mprm_jax.evidence.candidates import Candidates, candidate_sets
from mprm_jax.evidence.weak_labels import WeakLabelArrays
from mprm_jax.store.manifest import Manifest, SceneInfo, read_manifest
from mprm_jax.types import Array

COORD_FILE, COLOR_FILE, NORMAL_FILE = "coord.npy", "color.npy", "normal.npy"
VOXEL_COORD_FILE, VOXEL_COLOR_FILE = "voxel_coord.npy", "voxel_color.npy"
POINT_VOXEL_FILE = "point_voxel.npy"
WEAK_LABEL_FILE = "weak_labels.npz"
CANDIDATE_FILE = "candidates.npz"
_AGAIN = "delete its folder and prepare again"
SCENE_FILES = (
    COORD_FILE,
    COLOR_FILE,
    VOXEL_COORD_FILE,
    VOXEL_COLOR_FILE,
    POINT_VOXEL_FILE,
    WEAK_LABEL_FILE,
)
_MAPPED = (VOXEL_COORD_FILE, VOXEL_COLOR_FILE)
# Scenes whose files stay open, two each; systems allow a process a few hundred.
_OPEN = 32


class CloudArrays(NamedTuple):
    """Positions and colors of the points or of the voxels of a scene."""

    coords: Array  # [N, 3] float32, meters, relative to the scene's origin
    colors: Array  # [N, 3] uint8; 0 where the source has no colors


class SceneStore:
    """A complete store, opened by its folder; its `manifest` is read and checked at once.

    Raises:
      FileNotFoundError: no complete store there.
      ValueError: of another format.
    """

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        self.manifest: Manifest = read_manifest(self.path)

    @property
    def classes(self) -> Sequence[str]:
        return self.manifest.classes

    @property
    def splits(self) -> Sequence[str]:
        return tuple(self.manifest.splits)

    def scenes(self, split: str) -> Sequence[str]:
        """Names of the scenes of a split."""
        if split not in self.manifest.splits:
            raise UserError(
                f"{self.path}: no split {split!r}; it has {', '.join(self.manifest.splits)}."
            )
        return self.manifest.splits[split]

    def tagged_scenes(self, split: str) -> Sequence[str]:
        """The scenes of a split about which a weak label says something."""
        return tuple(scene for scene in self.scenes(split) if self.info(split, scene).has_tags)

    def info(self, split: str, scene: str) -> SceneInfo:
        """Counts and facts of one scene."""
        key = f"{split}/{scene}"
        if key not in self.manifest.scenes:
            raise UserError(f"{self.path}: no scene {key}; see its manifest.json.")
        return self.manifest.scenes[key]

    def folder(self, split: str, scene: str) -> pathlib.Path:
        """Where the arrays of a scene lie."""
        return self.path / split / scene

    def voxel_cloud(self, split: str, scene: str) -> CloudArrays:
        """One point per occupied voxel."""
        return _read_voxels(self.folder(split, scene))

    def points(self, split: str, scene: str) -> CloudArrays:
        """The points or mesh vertices of the scan, in its order."""
        folder = self.folder(split, scene)
        return CloudArrays(read_array(folder / COORD_FILE), read_array(folder / COLOR_FILE))

    def normals(self, split: str, scene: str) -> Array | None:
        """Normals of the points, as [N, 3] float32 of length 1; None if the scan has none.

        Rows are 0 where a point has none. Stores of older versions hold none.
        """
        path = self.folder(split, scene) / NORMAL_FILE
        return read_array(path) if path.is_file() else None

    def point_voxel(self, split: str, scene: str) -> Array:
        """Voxel nearest to each point of the scan, as [N] int32."""
        return read_array(self.folder(split, scene) / POINT_VOXEL_FILE)

    def weak_labels(self, split: str, scene: str) -> WeakLabelArrays:
        """The tagged balls of a scene."""
        return read_weak_labels(self.folder(split, scene) / WEAK_LABEL_FILE)

    def candidates(self, split: str, scene: str) -> Candidates:
        """The classes that all evidence leaves to each voxel of a scene."""
        if self.info(split, scene).set_sizes:
            return read_candidates(self.folder(split, scene) / CANDIDATE_FILE)
        # Prepared by an older version, which knew of tags alone.
        coords = self.voxel_cloud(split, scene).coords
        return candidate_sets(coords, self.weak_labels(split, scene))

    def require_files(self) -> None:
        """Raises `FileNotFoundError` if an array of a scene is missing; point labels may be."""
        for key in self.manifest.scenes:
            for name in SCENE_FILES:
                if not (self.path / key / name).is_file():
                    raise MissingError(
                        f"{self.path / key / name}: missing; prepare again from the scans."
                    )

    def fingerprint(self, split: str) -> str:
        """Changes when a voxel or the evidence of the split does."""
        digest = hashlib.sha256()
        for scene in self.scenes(split):
            digest.update(f"{scene} {self.info(split, scene).fingerprint}\n".encode())
        return digest.hexdigest()[:16]

    def clouds_fingerprint(self, split: str, scenes: Sequence[str]) -> str:
        """Changes when a voxel of some scenes does; "" if a scene is of an older version."""
        clouds = [self.info(split, scene).cloud for scene in scenes]
        digest = hashlib.sha256("\n".join(map(" ".join, zip(scenes, clouds, strict=True))).encode())
        return digest.hexdigest()[:16] if all(clouds) else ""


class VoxelClouds(Protocol):
    """One point per occupied voxel of every scene; a scene is known by its place in `scenes`."""

    scenes: Sequence[str]
    origin: str  # where they come from, for messages

    def num_voxels(self, scene: int) -> int:
        """Voxels of a scene."""

    def cloud(self, scene: int) -> CloudArrays:
        """Positions and colors of the voxels of a scene, not to be written to."""


class StoredClouds:
    """Scenes of a split, all of them if not told which.

    Their files are mapped: all processes share what the system can spare of them, and any number of
    scenes in any order needs no memory beyond.
    """

    def __init__(self, store: SceneStore, split: str, scenes: Sequence[str] | None = None):
        self.store, self.split = store, split
        self.scenes = tuple(store.scenes(split) if scenes is None else scenes)
        self.origin = str(store.path)

    def num_voxels(self, scene: int) -> int:
        return self.store.info(self.split, self.scenes[scene]).voxels

    def cloud(self, scene: int) -> CloudArrays:
        folder, fingerprint = self._version(scene)
        found = _mapped_cloud(folder, fingerprint)
        for name, array in zip(_MAPPED, found, strict=True):
            _require_whole(folder / name, array)
        return found

    def _version(self, scene: int) -> tuple[pathlib.Path, str]:
        """Where a scene lies, and what tells its voxels from those of another preparation."""
        name = self.scenes[scene]
        info = self.store.info(self.split, name)
        return self.store.folder(self.split, name), info.fingerprint


class LooseClouds:
    """Scenes that belong to no store."""

    def __init__(self, clouds: Mapping[str, CloudArrays], origin: str):
        self._clouds, self.origin = tuple(clouds.values()), origin
        self.scenes: Sequence[str] = tuple(clouds)

    def num_voxels(self, scene: int) -> int:
        return len(self._clouds[scene].coords)

    def cloud(self, scene: int) -> CloudArrays:
        return self._clouds[scene]


@functools.lru_cache(maxsize=_OPEN)
def _mapped_cloud(folder: pathlib.Path, _fingerprint: str) -> CloudArrays:
    return CloudArrays(*(read_array(folder / name, mapped=True) for name in _MAPPED))


def _require_whole(path: pathlib.Path, mapped: Array) -> None:
    """Raises `UserError` if a file was cut since it was mapped: reading there ends the process."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return  # what was mapped stays until it is let go
    if size < mapped.base.offset + mapped.nbytes:
        _mapped_cloud.cache_clear()
        raise UserError(f"{path}: cut short while it is read; {_AGAIN}.")


def _read_voxels(folder: pathlib.Path) -> CloudArrays:
    return CloudArrays(read_array(folder / VOXEL_COORD_FILE), read_array(folder / VOXEL_COLOR_FILE))


def read_array(path: pathlib.Path, *, mapped: bool = False) -> Array:
    """An array of a store.

    Args:
      mapped: leaves it in its file, to be read from there; it cannot be written to.

    Raises:
      FileNotFoundError, ValueError: in one line that names the file.
    """
    with explain_damage(path, _AGAIN):
        found = np.load(path, "r" if mapped else None, allow_pickle=False)
    return np.asarray(found)


def read_weak_labels(path: pathlib.Path) -> WeakLabelArrays:
    """The weak labels in one file of a store.

    Raises:
      FileNotFoundError, ValueError: in one line that names the file.
    """
    return WeakLabelArrays(**_read_archive(path, WeakLabelArrays._fields))


def save_candidates(path: pathlib.Path, candidates: Candidates) -> None:
    """Writes candidate sets, a bit for each class."""
    packed = np.packbits(candidates.allowed, axis=1)
    count = np.int32(candidates.allowed.shape[1])
    np.savez(path, allowed=packed, num_classes=count, certain=candidates.certain)


def read_candidates(path: pathlib.Path) -> Candidates:
    """The candidate sets in one file of a store.

    Raises:
      FileNotFoundError, ValueError: in one line that names the file.
    """
    found = _read_archive(path, ("allowed", "num_classes", "certain"))
    allowed = np.unpackbits(found["allowed"], axis=1, count=int(found["num_classes"]))
    return Candidates(allowed.astype(bool), found["certain"])


def _read_archive(path: pathlib.Path, names: Sequence[str]) -> dict[str, Array]:
    # Opened here: np.load leaves a file open that is not an archive after all.
    with (
        explain_damage(path, _AGAIN),
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        missing = set(names) - set(archive.files)
        if not missing:
            return {name: archive[name] for name in names}
    raise UserError(f"{path}: lacks {', '.join(sorted(missing))}; prepare it again.")
