"""Refines class probabilities of a scene with a dense CRF, as the released MPRM code does."""

import jax
import numpy as np

from mprm_jax.crf.dense_crf import CrfResult, allowed_classes, dense_crf
from mprm_jax.crf.settings import RELEASED, RELEASED_FLOOR, RELEASED_TRUST, CrfSettings
from mprm_jax.errors import UserError
from mprm_jax.types import Array


def refine_marginals(
    coords: Array,
    colors: Array | None,
    probabilities: Array,
    settings: CrfSettings = RELEASED,
    *,
    allowed: Array | None = None,
    ignored: Array | None = None,
    labels: Array | None = None,
    trust: float = RELEASED_TRUST,
    builder: str = "auto",
    device: jax.Device | None = None,
) -> CrfResult:
    """Smooths class probabilities over position and color.

    Args:
      coords: [N, 3] meters, any origin; float64 if far from it.
      colors: [N, 3] in [0, 1]; None if no kernel looks at columns 3 to 5.
      probabilities: [N, C]; of each point only the shares among its allowed classes count.
      settings: kernels over the columns x, y, z, red, green, blue.
      allowed, ignored, labels, builder, device: see `dense_crf`.
      trust: share of `probabilities` in the evidence; the rest is uniform.

    Raises:
      ValueError: the input is not as described, for each point that counts.

    Source: mprm `crf_postprocessing.py`; there, all classes are allowed at all points.
    """
    features = _features(coords, colors, settings)
    unary = unary_energies(probabilities, allowed=allowed, ignored=ignored, trust=trust)
    return dense_crf(
        features,
        unary,
        settings,
        ignored=ignored,
        labels=labels,
        builder=builder,
        device=device,
    )


def unary_energies(
    probabilities: Array,
    *,
    allowed: Array | None = None,
    ignored: Array | None = None,
    trust: float = RELEASED_TRUST,
    floor: float = RELEASED_FLOOR,
) -> Array:
    """Energies -log(trust * p + (1 - trust) / number of allowed classes).

    Args:
      probabilities: [N, C], not negative; scaled to sum to 1 over the allowed classes of a point,
        and taken as uniform where they are all 0.
      allowed: [N, C] or [C] bool; by default all.
      ignored: [N] bool; their probabilities are not read.
      floor: smallest probability whose logarithm is taken.

    Returns:
      [N, C] float32; infinite where not allowed.

    Source: mprm `crf_postprocessing.py`, where all classes are allowed.
    """
    probabilities = np.asarray(probabilities, np.float32)
    if probabilities.ndim != 2:
        raise UserError(f"Probabilities have shape {probabilities.shape}; give [points, classes].")
    if not 0 <= trust <= 1:
        raise UserError(f"trust is {trust}; give a share in [0, 1].")
    if ignored is not None:
        if np.shape(ignored) != probabilities.shape[:1]:
            raise UserError(f"ignored is {np.shape(ignored)}; give ({len(probabilities)},) bool.")
        probabilities = np.where(np.asarray(ignored)[:, None], np.float32(0), probabilities)
    bad = np.flatnonzero(~((probabilities >= 0) & (probabilities < np.inf)).all(axis=1))
    if len(bad):
        raise UserError(
            f"Probabilities of {len(bad)} points are negative or not finite, first of point "
            f"{bad[0]}; take the softmax of scores, or mark such points as ignored."
        )
    allowed = np.ones(probabilities.shape[1], bool) if allowed is None else allowed
    mask = allowed_classes(allowed, probabilities.shape)
    shares = np.where(mask, probabilities, np.float32(0))
    uniform = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1).astype(np.float32)
    total = shares.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, shares / np.where(total > 0, total, 1), uniform)
    mixed = np.clip(trust * shares + (1 - trust) * uniform, floor, 1)
    return np.where(mask, -np.log(mixed), np.inf).astype(np.float32)


def _features(coords: Array, colors: Array | None, settings: CrfSettings) -> Array:
    coords = np.asarray(coords)
    if coords.ndim != 2 or coords.shape[1] != 3:
        raise UserError(f"Coordinates have shape {coords.shape}; give [points, 3].")
    if colors is None:
        if any(max(kernel.columns) >= 3 for kernel in settings.kernels):
            raise UserError("A kernel compares colors, but there are none; leave it out.")
        return coords
    colors = np.asarray(colors)
    if colors.shape != coords.shape:
        raise UserError(f"{colors.shape} colors for {coords.shape} coordinates; give one each.")
    if colors.size and not (colors.min() >= 0 and colors.max() <= 1):
        raise UserError(
            f"Colors are in [{colors.min():g}, {colors.max():g}], not in [0, 1]; "
            "divide colors of 8 bits by 255."
        )
    return np.concatenate([coords, colors], axis=1)
