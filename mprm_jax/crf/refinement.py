"""Refines class probabilities of a cloud with a dense CRF."""

import jax
import numpy as np
from jaxtyping import Bool, Float32, Integer, Real

from mprm_jax.crf.inference import CrfResult, allowed_classes, dense_crf
from mprm_jax.crf.settings import RELEASED, RELEASED_FLOOR, Smoothing
from mprm_jax.errors import UserError
from mprm_jax.geometry.normals import sign_free, surface_normals
from mprm_jax.types import Array


def refine(
    coords: Real[Array, "N 3"],
    colors: Real[Array, "N 3"] | None,
    probabilities: Real[Array, "N C"],
    smoothing: Smoothing = RELEASED,
    *,
    normals: Real[Array, "N 3"] | None = None,
    allowed: Bool[Array, "N C"] | Bool[Array, " C"] | None = None,
    ignored: Bool[Array, " N"] | None = None,
    labels: Integer[Array, " N"] | None = None,
    builder: str = "auto",
    device: jax.Device | None = None,
) -> CrfResult:
    """Smooths class probabilities over position, color and the normals of surfaces.

    Args:
      coords: meters, any origin; float64 if far from it.
      colors: uint8 or numbers in [0, 1]; None if `smoothing.color_width` is 0.
      probabilities: not negative; of each point only the shares among its allowed classes count.
      smoothing: by default that of the released code; `KERNELS["normals"]` is better on rooms.
      normals: unit length of either sign, zero where there is none; those of the points' own
        surfaces if None. Read only if a kernel looks at them, `smoothing.normal_width` above 0.
      allowed: classes each point may have; by default all.
      ignored: points without evidence of their own, which take what others suggest.
      labels: the label that each point keeps where nothing speaks for another,
        IGNORED (-1) for none.
      builder, device: see `build_kernels`.

    Returns:
      NumPy arrays: marginals [N, C] float32, rows sum to 1; and labels [N] int32.

    Raises:
      ValueError: the input is not as described; the text names the first point.

    Example: of two boards of different color, a third of the evidence is wrong.

      >>> import numpy as np
      >>> from mprm_jax.crf import refine
      >>> rng = np.random.default_rng(0)
      >>> coords = rng.uniform(size=(300, 3))
      >>> truth = (coords[:, 0] > 0.5).astype(int)
      >>> colors = np.where(truth[:, None] == 1, [[200, 60, 60]], [[60, 60, 200]]).astype(np.uint8)
      >>> said = np.where(rng.uniform(size=300) < 0.3, 1 - truth, truth)
      >>> refined = refine(coords, colors, 0.2 + 0.6 * np.eye(2)[said])
      >>> refined.labels.shape, refined.marginals.shape
      ((300,), (300, 2))
      >>> bool((refined.labels == truth).all())
      True

    Source: mprm `crf_postprocessing.py`; there, all classes are allowed at all points.
    """
    features = _features(coords, colors, with_colors=smoothing.color_width > 0)
    if smoothing.normal_width:
        if normals is None:
            normals = _own_normals(features[:, :3])
        features = np.concatenate([features, _normal_features(normals, len(features))], axis=1)
    if len(probabilities) != len(features):
        raise UserError(f"{len(probabilities)} rows of probabilities for {len(features)} points.")
    unary = unary_energies(probabilities, allowed=allowed, ignored=ignored, trust=smoothing.trust)
    return dense_crf(
        features,
        unary,
        smoothing.crf,
        ignored=ignored,
        labels=labels,
        builder=builder,
        device=device,
    )


def unary_energies(
    probabilities: Real[Array, "N C"],
    *,
    allowed: Bool[Array, "N C"] | Bool[Array, " C"] | None = None,
    ignored: Bool[Array, " N"] | None = None,
    trust: float = RELEASED.trust,
    floor: float = RELEASED_FLOOR,
) -> Float32[Array, "N C"]:
    """Energies -log(trust * p + (1 - trust) / number of allowed classes).

    Args:
      probabilities: not negative; scaled to sum to 1 over the allowed classes of a point,
        and taken as uniform where they are all 0.
      allowed: for each point, or for all; by default all.
      ignored: their probabilities are not read.
      floor: smallest probability whose logarithm is taken.

    Returns:
      Infinite where not allowed.

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


def _features(
    coords: Real[Array, "N 3"], colors: Real[Array, "N 3"] | None, *, with_colors: bool
) -> Real[Array, "N F"]:
    """Columns x, y, z, red, green, blue; colors that nobody compares are 0."""
    coords = np.asarray(coords)
    if coords.ndim != 2 or coords.shape[1] != 3:
        raise UserError(f"Coordinates have shape {coords.shape}; give [points, 3].")
    if colors is None:
        if with_colors:
            raise UserError(
                "A kernel compares colors, but there are none; leave it out with color_width=0."
            )
        return np.concatenate([coords, np.zeros_like(coords)], axis=1)
    colors = np.asarray(colors)
    if colors.shape != coords.shape:
        raise UserError(f"{colors.shape} colors for {coords.shape} coordinates; give one each.")
    if colors.dtype == np.uint8:
        colors = colors / np.float32(255)
    if colors.size and not (colors.min() >= 0 and colors.max() <= 1):
        raise UserError(
            f"Colors are in [{colors.min():g}, {colors.max():g}], not in [0, 1]; "
            "divide colors of 8 bits by 255."
        )
    return np.concatenate([coords, colors], axis=1)


def _own_normals(coords: Real[Array, "N 3"]) -> Real[Array, "N 3"]:
    finite = np.isfinite(coords).all(axis=1)
    normals = np.zeros(coords.shape)
    normals[finite] = surface_normals(coords[finite], coords[finite])
    return normals


def _normal_features(normals: Real[Array, "N 3"], num_points: int) -> Real[Array, "N 6"]:
    """Columns of normals, of either sign."""
    normals = np.asarray(normals)
    if normals.shape != (num_points, 3) or not np.isfinite(normals).all():
        raise UserError(
            f"Normals have shape {normals.shape}, or are not finite; give [{num_points}, 3], zeros "
            "where there is none."
        )
    return sign_free(normals)
