"""Labels clouds with a trained network of either stage: `load(workdir).predict(coords, colors)`."""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Real

from mprm_jax.config import Config
from mprm_jax.errors import UserError
from mprm_jax.labeling.choice import ClassScale, decide, standardise
from mprm_jax.labeling.mining import make_mining
from mprm_jax.prediction.predictor import Prediction, Predictor, PredictSettings, voxelized
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.store.exports import Export
from mprm_jax.store.manifest import StoreSettings
from mprm_jax.training.answers import ReadyNetwork
from mprm_jax.training.parallel import choose_devices, make_mesh
from mprm_jax.training.steps import make_predict_step
from mprm_jax.training.trained import open_network
from mprm_jax.types import Array

logger = logging.getLogger(__name__)


class Network:
    """A trained network of either stage, on the devices of this host.

    Args:
      workdir: of a run of this or an older version.
      checkpoint: "last", "best" (by validation score), or a step.
      stage: the run must be of, "cls" or "seg"; None for either.
      num_devices: all if None.
      workers: processes that build input; 0 means one thread.

    Raises:
      FileNotFoundError: no run or no checkpoint there.
      ValueError: a run of the other stage, or files that cannot be read.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path,
        checkpoint: str | int = "last",
        *,
        stage: str | None = None,
        num_devices: int | None = None,
        workers: int = 0,
    ):
        self.workdir = pathlib.Path(workdir)
        mesh = make_mesh(choose_devices(num_devices))
        trained = open_network(self.workdir, stage, str(checkpoint), mesh)
        self.stage: str = trained.data["stage"]
        self.classes: tuple[str, ...] = tuple(trained.data["classes"])
        self.config: Config = trained.config
        self.step: int = trained.step
        self.uses_colors: bool = trained.data.get("has_colors", True)
        scores = trained.stage.scores
        if self.stage == "cls":
            scores = make_mining(trained.stage.model, trained.config.mining)
        predict = make_predict_step(scores, mesh)
        config = _for_tiles(trained.config, self.stage, workers)
        self._ready = ReadyNetwork(predict, trained.state, config, mesh)

    def predict(
        self,
        coords: Real[Array, "N 3"],
        colors: Real[Array, "N 3"] | None = None,
        *,
        classes: Sequence[str] | None = None,
        votes: int = 1,
        augment: bool = False,
        tile_voxels: int = PredictSettings.tile_voxels,
    ) -> Prediction:
        """Labels every point of a cloud; large ones are worked on tile by tile.

        A network of stage "seg" gives the most probable class and its probability; one of stage
        "cls" the class of the largest point class activation, on the scale of the training scenes
        if its pseudo-labels are beside it, with a softmax as confidence.

        Args:
          coords: meters; points that are not finite get label -1.
          colors: uint8, or floats in [0, 1]; may be left out if the network was trained
            without colors.
          classes: that may be chosen, e.g. those that are known to occur; all if None.
          votes: balls in which each point is seen at least.
          augment: move the balls at random, as in training.
          tile_voxels: of a tile at most, besides its margin; memory grows with it.

        Returns:
          Labels [N] int32 into `self.classes`, and confidences [N] float32 in [0, 1].

        Raises:
          ValueError: shapes disagree, no point is finite, colors are missing, a class is unknown.
        """
        cloud = _as_cloud(coords, colors)
        stored = dataclasses.replace(StoreSettings.of(self.config.data), scale=1.0)
        scan = voxelized(
            pathlib.Path("coords"),
            cloud,
            stored,
            use_colors=self.uses_colors,
            unit_flag="coords in meters",
        )
        settings = PredictSettings(votes, augment, tile_voxels)
        found = self.predictor(settings, classes).points(scan, "coords", lambda _: None)
        return found._replace(label=found.label.astype(np.int32))

    def predictor(
        self, settings: PredictSettings, classes: Sequence[str] | None = None
    ) -> Predictor:
        """What labels clouds whose voxels are known; arguments as of `predict`."""
        allowed = self._allowed(classes)
        choose = functools.partial(most_probable, allowed=allowed)
        if self.stage == "cls":
            choose = functools.partial(most_active, allowed=allowed, scale=self._class_scale())
        return Predictor(self._ready, len(self.classes), settings, choose)

    def _allowed(self, classes: Sequence[str] | None) -> Bool[Array, " num_classes"]:
        if classes is None:
            return np.ones(len(self.classes), bool)
        unknown = [name for name in classes if name not in self.classes]
        if unknown or not len(classes):
            raise UserError(
                f"classes={list(classes)}: choose some of {', '.join(self.classes)}, as the "
                "network was trained with."
            )
        return np.isin(self.classes, list(classes))

    def _class_scale(self) -> ClassScale | None:
        """How large the scores of each class are on the training scenes, if that was kept."""
        if self.config.mining.calibration == "none":
            return None
        try:
            export = Export(self.workdir / "pseudo_labels")
            scale = export.manifest.settings["class_scale"]
        except (FileNotFoundError, KeyError):
            logger.warning(
                "%s: no complete pseudo_labels, so scores of classes are compared as they are; "
                "mprm export makes them",
                self.workdir,
            )
            return None
        step = export.manifest.settings["origin"].get("step")
        if step != self.step:
            logger.warning(
                "%s: scores of classes are compared on the scale of step %s, the network is of "
                "step %d; mprm export --checkpoint with another --output, or load that step",
                export.path,
                step,
                self.step,
            )
        return ClassScale(np.array(scale["mean"]), np.array(scale["deviation"]))


def load(workdir: str | pathlib.Path, checkpoint: str | int = "last") -> Network:
    """Opens the network of a run; see `Network`.

    >>> net = load("runs/seg-rooms-quick-quick")  # doctest: +SKIP
    >>> labels, confidence = net.predict(coords, colors)  # doctest: +SKIP
    """
    return Network(workdir, checkpoint)


def most_probable(
    probabilities: Float32[Array, "V num_classes"], allowed: Bool[Array, " num_classes"]
) -> Prediction:
    """The most probable allowed class of each voxel."""
    masked = np.where(allowed[None], probabilities, -1.0)
    # Rounding may lift a mean of ones above 1.
    confidence = np.minimum(masked.max(axis=1), 1).astype(np.float32)
    return Prediction(masked.argmax(axis=1), confidence)


def most_active(
    scores: Float32[Array, "V num_classes"],
    allowed: Bool[Array, " num_classes"],
    scale: ClassScale | None,
) -> Prediction:
    """The allowed class with the largest point class activation (paper eq. 2).

    Args:
      scale: on which scores of classes compare; None compares them as they are.
    """
    scores = scores if scale is None else standardise(scores, scale)
    of_voxels = np.broadcast_to(allowed, scores.shape)
    return Prediction(*decide(scores, of_voxels, np.zeros((len(scores), 3))))


def _for_tiles(config: Config, stage: str, workers: int) -> Config:
    """Covers of a tile have the balls that the network was trained on."""
    radius = config.data.sphere_radius if stage == "cls" else config.seg.radius
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, workers=workers),
        seg=dataclasses.replace(config.seg, radius=radius),
    )


def _as_cloud(coords: Real[Array, "N 3"], colors: Real[Array, "N 3"] | None) -> CloudFile:
    """Checks arrays and makes bytes of colors."""
    coords = np.asarray(coords, np.float64)
    if coords.ndim != 2 or coords.shape[1] != 3:
        raise UserError(f"coords has shape {coords.shape}; give [N, 3] in meters.")
    if colors is not None:
        colors = np.asarray(colors)
        if colors.shape != coords.shape:
            raise UserError(f"colors has shape {colors.shape}; give {coords.shape}.")
        if colors.dtype.kind == "f":
            if not (colors.min(initial=0) >= 0 and colors.max(initial=0) <= 1):
                raise UserError("colors are floats outside of [0, 1]; divide them, or give uint8.")
            colors = np.rint(255 * colors)
        elif colors.dtype != np.uint8:
            raise UserError(f"colors is {colors.dtype}; give uint8, or floats in [0, 1].")
        colors = colors.astype(np.uint8)
    return CloudFile(coords, colors, labels=None, faces=None, label_name=None)
