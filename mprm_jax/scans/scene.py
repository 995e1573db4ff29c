"""What a reader returns for one scan, and what every reader offers."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from mprm_jax.scans.formats.notes import Note
from mprm_jax.types import Array


class WeakLabels(NamedTuple):
    """Class tags of the balls of one scene; a scene-level tag is one row that covers everything."""

    centers: Array  # [S, 3] float64, meters, frame of the scan
    radii: Array  # [S] float32, meters; inf for a tag of the whole scene
    tags: Array  # [S, num_classes] bool, class occurs in the ball


class Clicks(NamedTuple):
    """What people said about single points of one scene."""

    points: Array  # [K, 3] float64, meters, frame of the scan
    allowed: Array  # [K, num_classes] bool, classes that the point may have after that
    certain: Array  # [K] bool, the answer was a class, or that it has none


class Scene(NamedTuple):
    """One scan as its source holds it, before voxels; `None` where the source has nothing."""

    coords: Array  # [N, 3] float64, meters, +z up
    colors: Array | None  # [N, 3] uint8
    labels: Array | None  # [N] int32 class index, IGNORED (-1) where unannotated
    faces: Array | None  # [F, 3] int32 into coords, if the scan is a mesh
    weak_labels: WeakLabels | None  # tags given by people, if the source has them
    notes: tuple[Note, ...] = ()  # what its reader took for granted or found odd
    clicks: Clicks | None = None  # made by people, if the source has some
    labels_known: bool = False  # the labels may be learned, not only measured with
    normals: Array | None = None  # [N, 3] float32 of length 1, or 0 where a point has none


class Source(Protocol):
    """A data set on disk: `classes` in index order, scene names by split, and one read method.

    `files(split, name)` lists what `read` opens, so that a change of the source can be noticed;
    a file that is listed but missing is one that `read` will complain about.
    Readers raise `ValueError` or `OSError` with one line naming file, reason and remedy.
    """

    name: str  # short, for folder names: "scannet"
    classes: Sequence[str]
    splits: Mapping[str, Sequence[str]]  # "train", "val", "test" -> scene names
    optional: Collection[str]  # "split/scene" of files that nobody named: they may be anything

    def files(self, split: str, name: str) -> Sequence[str]: ...

    def said(self, split: str, name: str) -> str:
        """What people said of a scene in files of their own; another text once that changes."""

    def read(self, split: str, name: str) -> Scene: ...
