"""What people said of the scans in a folder: its `tags.csv` and `clicks.csv`, as arrays of a scene.

A folder of anyone's scans has them beside the scans; other data sets in their root folder, where
they count instead of tags that point labels would give.
"""

import logging
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from mprm_jax.errors import UserError
from mprm_jax.evidence.clicks import NO, UNSURE, ClickRow, ClickTable, read_clicks
from mprm_jax.evidence.tags import TagTable, read_tags
from mprm_jax.scans.scan_files import CLICKS_FILE, TAGS_FILE
from mprm_jax.scans.scene import Clicks, Scene, Source, WeakLabels
from mprm_jax.types import Array

logger = logging.getLogger(__name__)

SAME_PLACE = 0.02  # meters, within which two clicks mean one place
STRAY = 0.5  # meters from every point of the scan, from where a click cannot be meant

_SOME_POINTS = 100_000


class Said:
    """What people said of the scenes of a data set; `classes` is empty if nothing names them."""

    def __init__(
        self,
        folder: Path,
        scenes: Collection[str],
        classes: Sequence[str] | None,
        scale: float = 1.0,
    ):
        """Reads the files that are there.

        Args:
          folder: that holds `tags.csv` and `clicks.csv`; neither need be there.
          scenes: the scans that exist.
          classes: in index order; those of `tags.csv` if None.
          scale: meters per unit of the files.

        Raises:
          ValueError: a file is wrong.
        """
        self.folder, self._scale = folder, scale
        tags, clicks = folder / TAGS_FILE, folder / CLICKS_FILE
        self._tags = TagTable(tuple(classes or ()), {}, {})
        if tags.is_file():
            self._tags = read_tags(tags, scenes, classes)
        self.classes: Sequence[str] = self._tags.classes
        self._clicks = ClickTable({})
        if clicks.is_file():
            if not self.classes:
                raise UserError(
                    f"{clicks}: nothing says which classes there are; write all names to "
                    f"{folder / 'classes.txt'}, one per line."
                )
            self._clicks = read_clicks(clicks, scenes, self.classes)

    def names(self) -> set[str]:
        """Scenes that people said something of that counts."""
        clicked = {name for name in self._clicks.rows if self._counting(name)}
        return clicked | set(self._tags.rows)

    def digest(self, name: str) -> str:
        """What they said of a scene, in a text that changes when that does; "" for nothing."""
        rows = [row._replace(line=0, seconds=None) for row in self._tags.rows.get(name, ())]
        parts = [f"{row.ball} {sorted(row.present)}" for row in rows]
        parts += [str(row._replace(line=0, seconds=None)) for row in self._counting(name)]
        text = "\n".join(parts)
        return f"{zlib.crc32(text.encode()):08x}" if parts else ""

    def weak_labels(self, name: str, path: Path | None, coords: Array) -> WeakLabels | None:
        """The tags of a scene as arrays; a tag of the whole scan sits in its middle.

        Args:
          path: of the scan, for messages; None if it is not one file.
          coords: [N, 3] meters.

        Raises:
          ValueError: no point is in a ball.
        """
        rows = self._tags.rows.get(name)
        if not rows:
            return None
        middle = (coords.min(axis=0) + coords.max(axis=0)) / 2
        centers = np.tile(middle, (len(rows), 1)).astype(np.float64)
        radii = np.full(len(rows), np.inf, np.float32)
        for i, row in enumerate(rows):
            if row.ball is None:
                continue
            centers[i] = np.array(row.ball[:3]) * self._scale
            radii[i] = row.ball[3] * self._scale
            if not any(
                np.any(np.sum(np.square(points - centers[i]), axis=1) < np.square(radii[i]))
                for points in _some_then_all(coords)
            ):
                low, high = (
                    np.round(edge / self._scale, 2) for edge in (coords.min(0), coords.max(0))
                )
                raise UserError(
                    f"{self.folder / TAGS_FILE}: line {row.line}: no point of "
                    f"{path.name if path else name} is in this ball, the scan spans {low} to "
                    f"{high}; give x, y, z, radius in the unit and frame of the scan file."
                )
        tags = np.array([[known in row.present for known in self.classes] for row in rows])
        return WeakLabels(centers, radii, tags)

    def clicks(self, name: str, path: Path | None, coords: Array) -> Clicks | None:
        """The clicks of a scene that say something; None if there are none.

        Args:
          path, coords: as of `weak_labels`.

        Raises:
          ValueError: a click is far from every point.
        """
        rows = self._counting(name)
        if not rows:
            return None
        points = np.array([row.point for row in rows], np.float64) * self._scale
        for row, point in zip(rows, points, strict=True):
            if not any(
                np.any(np.all(np.abs(some - point[None]) < STRAY, axis=1))
                for some in _some_then_all(coords)
            ):
                raise UserError(
                    f"{self.folder / CLICKS_FILE}: line {row.line}: no point of "
                    f"{path.name if path else name} is within {STRAY} m; give x, y, z in the unit "
                    "and frame of the scan file."
                )
        named = np.array([[known == row.class_name for known in self.classes] for row in rows])
        negative = np.array([row.answer == NO for row in rows])
        allowed = named ^ negative[:, None]
        self._report_clashes(rows, points, allowed)
        return Clicks(points, allowed, ~negative)

    def _report_clashes(self, rows: Sequence[ClickRow], points: Array, allowed: Array) -> None:
        """Names the lines that say of one place what cannot both be."""
        for i, j in cKDTree(points).query_pairs(SAME_PLACE):
            if not np.any(allowed[i] & allowed[j]) and np.any(allowed[i] | allowed[j]):
                first, second = sorted((rows[i].line, rows[j].line))
                logger.warning(
                    "%s: lines %d and %d contradict each other; the class, or none, that was "
                    "named last counts.",
                    self.folder / CLICKS_FILE,
                    first,
                    second,
                )

    def _counting(self, name: str) -> list[ClickRow]:
        return [row for row in self._clicks.rows.get(name, ()) if row.answer != UNSURE]


class SaidByPeople:
    """A data set of which people said something, in its root folder."""

    def __init__(self, source: Source, folder: Path):
        """Joins a source with the files in `folder`.

        Raises:
          ValueError: a file is wrong, or names a scene or class that the source lacks.
        """
        scenes = [scene for names in source.splits.values() for scene in names]
        self._said = Said(folder, scenes, source.classes)
        self.source, self.name = source, source.name
        self.classes: Sequence[str] = source.classes
        self.splits: Mapping[str, Sequence[str]] = source.splits
        self.optional: Collection[str] = source.optional

    def files(self, split: str, name: str) -> Sequence[str]:
        return self.source.files(split, name)

    def said(self, split: str, name: str) -> str:
        return self._said.digest(name)

    def read(self, split: str, name: str) -> Scene:
        """Reads a scene; what people tagged counts, not what its labels would say."""
        scene = self.source.read(split, name)
        weak = self._said.weak_labels(name, None, scene.coords) or scene.weak_labels
        return scene._replace(weak_labels=weak, clicks=self._said.clicks(name, None, scene.coords))


def is_said(folder: Path) -> bool:
    """Whether people left tags or clicks in a folder."""
    return (folder / TAGS_FILE).is_file() or (folder / CLICKS_FILE).is_file()


def _some_then_all(coords: Array) -> Iterator[Array]:
    """Points to look for one among: of large scans some nearly always do, and take far less."""
    yield coords[:: max(1, len(coords) // _SOME_POINTS)]
    yield coords
