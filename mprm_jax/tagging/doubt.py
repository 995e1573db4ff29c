"""What is known and believed of each voxel: its candidates, a network's evidence, the doubt left.

Evidence w is a distribution over the candidates of a voxel. From MPRM it is the softmax of the
scores that labels were chosen by; from a segmentation network p / mean p, normalised, because
without that division rare classes are never believed; without a network all candidates are alike.
Marginals of the CRF are nearly 0 or 1 also where they are wrong, so they are refused here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.geometry.balls import ball_rows
from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.labeling.choice import exported_probabilities
from mprm_jax.store.exports import Export
from mprm_jax.store.scenes import SceneStore
from mprm_jax.types import Array

UNCOVERED = 0.8  # doubt in no ball, where nothing was mined; measured with the weights of regions


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
        shares = allowed / np.maximum(allowed.sum(axis=1, keepdims=True), 1)
        if self.export is not None:
            shares = self._shares(scene, allowed, shares)
        return Belief(allowed, shares.astype(np.float32), self._covered(scene), certain)

    def unrestricted(self, scene: str) -> Array:
        """What the network believes if every class is a candidate, [V, C] float32.

        Rows sum to 1, or to 0 where it has not looked.
        """
        shape = (self.store.info(self.split, scene).voxels, len(self.store.classes))
        return self._shares(scene, np.ones(shape, bool), np.zeros(shape, np.float32))

    def _shares(self, scene: str, allowed: Array, elsewhere: Array) -> Array:
        """Evidence of the network; scores mean nothing where it has not looked."""
        found = self.export.load(scene)
        shares = exported_probabilities(self.export, found, allowed)
        return np.where(found.num_balls[:, None] > 0, shares, elsewhere)

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
    return together / np.maximum(together.sum(axis=1, keepdims=True), 1e-30)


def _require_evidence(export: Export) -> None:
    if "refined" in export.manifest.settings:
        raise UserError(
            f"{export.path}: its scores were refined, and those are sure even where they are "
            "wrong; name the export that it was refined from."
        )
