"""What is known and believed of each voxel: its candidates, a network's evidence, the doubt left.

Evidence w is a distribution over the candidates of a voxel. From MPRM it is the softmax of the
scores that labels were chosen by; from a segmentation network p / mean p, normalised, because
without that division rare classes are never believed; without a network all candidates are alike.
Marginals of the CRF are nearly 0 or 1 also where they are wrong, so they are refused here.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.geometry.balls import ball_rows
from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.labeling.choice import ClassScale, exported_probabilities, standardise
from mprm_jax.store.exports import Export
from mprm_jax.store.scenes import SceneStore
from mprm_jax.types import Array

UNCOVERED = 0.8  # doubt in no ball, where nothing was mined; measured with the weights of regions
_TINY = 1e-30


class Belief(NamedTuple):
    """What is known of the voxels of a scene, and what a network makes of it."""

    allowed: Array  # [V, C] bool, candidates; none: known to hold no class
    shares: Array  # [V, C] float32, evidence within them; rows sum to 1, or to 0 without any
    covered: Array  # [V] bool, in a tagged ball
    certain: Array  # [V] bool, a person said it of this point

    @property
    def doubt(self) -> Array:
        """How far a voxel is from one sure candidate, [V] float32 in [0, 1)."""
        unsure = np.where(self.covered, 1 - self.shares.max(axis=1, initial=0), UNCOVERED)
        settled = self.certain | ~self.allowed.any(axis=1)
        return np.where(settled, 0, unsure).astype(np.float32)


class Beliefs:
    """The beliefs of an export about the scenes of its store; without one, those of the sets alone.

    Raises:
      ValueError: the export is of other data, or holds marginals of the CRF.
    """

    def __init__(self, store: SceneStore, export: Export | None, split: str = "train"):
        """Opens nothing yet; `split` counts where there is no export."""
        if export is not None:
            export.require_scenes(store)
            _require_evidence(export)
        self.store, self.export = store, export
        self.split: str = export.manifest.split if export else split
        self.scenes: Sequence[str] = export.scenes if export else store.scenes(split)

    def of(self, scene: str) -> Belief:
        """The belief about one scene."""
        allowed, certain = self.store.candidates(self.split, scene)
        shares = _normalised(allowed.astype(np.float32))
        if self.export is not None:
            found = self.export.load(scene)
            if self._frequency is None:
                # MPRM has not looked at voxels in no ball; their scores mean nothing.
                mined = exported_probabilities(self.export, found, allowed)
                shares = np.where(found.num_balls[:, None] > 0, mined, shares)
            else:
                compared = found.scores.astype(np.float32) / self._frequency[None]
                shares = _normalised(np.where(allowed, compared, 0))
        return Belief(allowed, shares, self._covered(scene), certain)

    def unrestricted(self, scene: str) -> Array:
        """What the network believes if every class were a candidate, [V, C] float32.

        Rows sum to 1, or to 0 where it has not looked: MPRM in no ball.
        """
        found = self.export.load(scene)
        if self._frequency is not None:
            return _normalised(found.scores.astype(np.float32) / self._frequency[None])
        scale = self.export.manifest.settings["class_scale"]
        scale = ClassScale(**{key: np.array(x) for key, x in scale.items()})
        scores = standardise(found.scores, scale)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return _normalised(np.where(found.num_balls[:, None] > 0, shares, 0))

    @functools.cached_property
    def _frequency(self) -> Array | None:
        """Mean probability of each class, [C] float32, if a segmentation network predicted them."""
        if "predicted" not in self.export.manifest.settings:
            return None
        total, count = np.zeros(len(self.export.classes)), 0
        for scene in self.scenes:
            scores = self.export.load(scene).scores
            total, count = total + scores.sum(axis=0, dtype=np.float64), count + len(scores)
        return np.maximum(total / max(count, 1), _TINY).astype(np.float32)

    def _covered(self, scene: str) -> Array:
        coords = self.store.voxel_cloud(self.split, scene).coords
        weak, tree = self.store.weak_labels(self.split, scene), make_tree(coords)
        covered = np.zeros(len(coords), bool)
        for center, radius in zip(weak.centers, weak.radii, strict=True):
            covered[ball_rows(coords, tree, center, radius)] = True
        return covered


def confusion_of(export: Export, store: SceneStore) -> Array:
    """How much of the evidence for a class goes with evidence for another, [C, C] float64.

    Rows sum to 1, or to 0 for a class without evidence. Row a is the mean of w over the voxels,
    weighed by w_a; where the network is always sure, it is the identity.
    """
    beliefs, num_classes = Beliefs(store, export), len(store.classes)
    together = np.zeros((num_classes, num_classes))
    for scene in beliefs.scenes:
        belief = beliefs.of(scene)
        shares = belief.shares[belief.covered].astype(np.float64)
        # Not by BLAS, whose threads wait for each other on a busy machine: 15 times the time.
        together += np.einsum("vc,vd->cd", shares, shares)
    return together / np.maximum(together.sum(axis=1, keepdims=True), _TINY)


def _require_evidence(export: Export) -> None:
    if "refined" in export.manifest.settings:
        raise UserError(
            f"{export.path}: its scores were refined, and those are sure even where they are "
            "wrong; name the export that it was refined from."
        )


def _normalised(weights: Array) -> Array:
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), _TINY)
