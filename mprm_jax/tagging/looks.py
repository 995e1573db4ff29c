"""What a run made of the scans, opened for the page: labels, doubts, and what to ask."""

import functools
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from mprm_jax.errors import MissingError
from mprm_jax.store import manifest
from mprm_jax.store.exports import MANIFEST_FILE, Export
from mprm_jax.store.scenes import SceneStore
from mprm_jax.tagging.doubt import confusion_of
from mprm_jax.tagging.questions import Question, find_questions
from mprm_jax.tagging.review import Finding, find_findings, layers
from mprm_jax.types import Array

logger = logging.getLogger(__name__)

_PSEUDO_LABELS = "pseudo_labels"
_REFINED = "_crf"  # behind the name of the export that was refined
_KEPT_SCENES = 4  # whose layers are in memory

Placed = TypeVar("Placed", Question, Finding)


class Look:
    """Labels of a run beside its scans; questions and findings are made by `ask` and `review`."""

    def __init__(self, export: Export | None, labeled: Export | None, store: SceneStore):
        """Joins what belongs together.

        Args:
          export: whose evidence counts, not refined; None before any training.
          labeled: with the labels to look at: the refined one, if there is one.
          store: the prepared scans that both are of.
        """
        self.export, self.labeled, self.store = export, labeled, store
        self.split = labeled.manifest.split if labeled else "train"
        self.questions: Mapping[str, Sequence[Question]] = {}  # by scene, heaviest first
        self.findings: Mapping[str, Sequence[Finding]] = {}  # by scene, worst first
        self.layers = functools.lru_cache(_KEPT_SCENES)(self._layers)

    def ask(self, count: int, already: Mapping[str, Array]) -> list[Question]:
        """Finds what to ask, at most `count` questions a scene; see `find_questions`."""
        scenes = self.labeled.scenes if self.labeled else self.store.scenes(self.split)
        logger.info("looking for what to ask in %d scans", len(scenes))
        found = find_questions(self.export, self.store, count, already, labeled=self.labeled)
        self.questions = _by_scene(found)
        return found

    def review(self) -> None:
        """Finds what deserves a look; questions are among it, if they were found before."""
        logger.info("looking for what deserves a look in %d scans", len(self.labeled.scenes))
        questions = [question for found in self.questions.values() for question in found]
        self.findings = _by_scene(find_findings(self.export, self.store, questions, self.labeled))

    @functools.cached_property
    def confusion(self) -> Array | None:
        """What the network confuses, [C, C]; see `confusion_of`."""
        return None if self.export is None else confusion_of(self.export, self.store)

    def ball(self, scene: str, ball: int) -> Array:
        """Center and radius of a ball of the store, [4] meters, frame of the scan."""
        origin = self.store.info(self.split, scene).origin
        weak = self.store.weak_labels(self.split, scene)
        return np.array([*(weak.centers[ball].astype(np.float64) + origin), weak.radii[ball]])

    def _layers(self, scene: str) -> dict[str, Array]:
        """What the page can color the points of a scan by; nothing if there is no label of it."""
        if self.labeled is None or scene not in self.labeled.scenes:
            return {}
        before = self.export if self.export is not self.labeled else None
        return layers(self.labeled, before, self.store, scene)


def open_look(path: pathlib.Path, store: pathlib.Path | None = None) -> Look:
    """Opens the labels of a run or export, and those before or after the CRF beside them.

    Args:
      path: work directory of a run, folder of an export, or a prepared store, of which there are
        no labels yet.
      store: the prepared scans, if they moved.

    Raises:
      ValueError, OSError: in one line, if nothing was exported there, or of other data.
    """
    if (path / manifest.MANIFEST_FILE).is_file():
        return Look(None, None, SceneStore(path))
    if not (path / MANIFEST_FILE).is_file():
        run, path = path, path / _PSEUDO_LABELS
        if not (path / MANIFEST_FILE).is_file():
            raise MissingError(
                f"{run}: no pseudo-labels there, nor is it an export of some; make them with "
                f"mprm export --workdir {run}."
            )
    labeled = Export(path)
    refined = path.with_name(path.name + _REFINED)
    if "refined" in labeled.manifest.settings:
        export = Export(path.with_name(path.name.removesuffix(_REFINED)))
    elif (refined / MANIFEST_FILE).is_file():
        export, labeled = labeled, Export(refined)
    else:
        export = labeled
    return Look(export, labeled, export.open_store(store))


def _by_scene(found: Sequence[Placed]) -> dict[str, list[Placed]]:
    """In the order in which they were found."""
    scenes: dict[str, list[Placed]] = {}
    for one in found:
        scenes.setdefault(one.scene, []).append(one)
    return scenes
