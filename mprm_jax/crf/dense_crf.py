"""Dense CRF inference on NumPy arrays: checks the input, picks sizes, runs, returns NumPy arrays.

Arrays are padded to buckets, so that clouds of similar size share compiled programs. Classes run in
blocks: on a CPU they are spread over the cores, and a block bounds the memory of a lattice.
"""

import math
import os
from typing import NamedTuple

import jax
import numpy as np

from mprm_jax.crf.class_blocks import mean_field_in_blocks
from mprm_jax.crf.point_kernels import PointKernels, build_kernels
from mprm_jax.crf.settings import CrfSettings
from mprm_jax.types import Array

# On a CPU, values of 100 k lattice vertices x 10 classes stay in the cache.
CPU_BLOCK_CLASSES = 10


class CrfResult(NamedTuple):
    """What the CRF says about each point."""

    marginals: Array  # [N, C] float32, rows sum to 1; exactly 0 for a class that is not allowed
    labels: Array  # [N] int32, class of the largest marginal; of equals, the lowest


def dense_crf(
    features: Array,
    unary: Array,
    settings: CrfSettings,
    *,
    allowed: Array | None = None,
    ignored: Array | None = None,
    compatibility: Array | None = None,
    method: str = "lattice",
    builder: str = "auto",
    device: jax.Device | None = None,
    block_classes: int | None = None,
) -> CrfResult:
    """Runs a fully connected CRF over a cloud.

    To run it several times over the same cloud, build the kernels once and call `infer`.

    Args:
      features: [N, F] finite numbers, any origin; float64 where float32 would lose detail.
      unary: [N, C] energies, negative log evidence; infinite for a class that is not allowed.
      allowed: [N, C] or [C] bool, classes each point may have; by default all.
      ignored: [N] bool, points without evidence of their own. Their unary is not read, they send
        no messages, and get the marginals that the other points suggest.
      compatibility: [C, C], cost of class c at a point where another is of class e; by default
        Potts, 0 on the diagonal and 1 elsewhere.
      method, builder, device: see `build_kernels`.
      block_classes: classes filtered at a time, fewer for less memory; by default all of them on
        an accelerator, and their share of a core, up to 10, on a CPU.

    Raises:
      ValueError: numbers are missing, shapes disagree, or a point has no allowed class.
    """
    kernels = build_kernels(
        features, settings, ignored=ignored, method=method, builder=builder, device=device
    )
    return infer(
        kernels,
        unary,
        weights=[kernel.weight for kernel in settings.kernels],
        num_iterations=settings.num_iterations,
        allowed=allowed,
        compatibility=compatibility,
        block_classes=block_classes,
    )


def infer(
    kernels: PointKernels,
    unary: Array,
    *,
    weights: Array,
    num_iterations: int,
    allowed: Array | None = None,
    compatibility: Array | None = None,
    block_classes: int | None = None,
) -> CrfResult:
    """Runs mean-field inference with kernels built before; see `dense_crf`.

    Args:
      weights: [K] of the kernels.
    """
    energies = _energies(unary, allowed, kernels.ignored)
    num_points, num_classes = energies.shape
    if compatibility is not None and np.shape(compatibility) != (num_classes, num_classes):
        raise ValueError(
            f"compatibility has shape {np.shape(compatibility)} for {num_classes} classes; "
            "give one row and one column for each."
        )
    if len(weights) != len(kernels.kernels):
        raise ValueError(f"{len(weights)} weights for {len(kernels.kernels)} kernels.")
    if not num_points:
        return CrfResult(np.zeros((0, num_classes), np.float32), np.zeros(0, np.int32))
    used = np.flatnonzero((energies < np.inf).any(axis=0))
    width = _block_width(len(used), block_classes, kernels.kernels[0].send.device)
    blocks = _split(energies, used, kernels, width)
    del energies  # as large as the result
    if compatibility is not None:
        padding = (0, len(blocks) * width - len(used))
        used_only = np.asarray(compatibility, np.float32)[np.ix_(used, used)]
        compatibility = np.pad(used_only, (padding, padding))
    blocks = mean_field_in_blocks(kernels.kernels, blocks, weights, num_iterations, compatibility)
    marginals = _join(blocks, used, kernels, num_classes)
    return CrfResult(marginals, marginals.argmax(axis=1).astype(np.int32))


def allowed_classes(allowed: Array, shape: tuple[int, int]) -> Array:
    """Checks and broadcasts a mask of allowed classes, [N, C] or [C], to [N, C] bool."""
    allowed = np.asarray(allowed)
    if allowed.dtype != bool or allowed.shape not in (shape, shape[1:]):
        raise ValueError(f"allowed is {allowed.dtype} {allowed.shape}; give bool {shape} or a row.")
    return np.broadcast_to(allowed, shape)


def _energies(unary: Array, allowed: Array | None, ignored: Array) -> Array:
    """Energies with infinity for what is not allowed, and 0 for what is ignored."""
    unary = np.asarray(unary, np.float32)
    if unary.ndim != 2 or len(unary) != len(ignored) or not unary.shape[1]:
        raise ValueError(f"The unary has shape {unary.shape}; give [{len(ignored)}, classes].")
    bad = np.flatnonzero(~(unary > -np.inf).all(axis=1) & ~ignored)
    if len(bad):
        raise ValueError(
            f"The unary of {len(bad)} points has NaN or -inf, first of point {bad[0]}; "
            "give energies, or mark such points as ignored."
        )
    energies = np.where(ignored[:, None], np.float32(0), unary)
    if allowed is not None:
        mask = allowed_classes(allowed, unary.shape)
        energies = np.where(mask, energies, np.float32(np.inf))
    none = np.flatnonzero(~(energies < np.inf).any(axis=1))
    if len(none):
        raise ValueError(f"{len(none)} points have no allowed class, first is point {none[0]}.")
    return energies


def _block_width(num_classes: int, block_classes: int | None, device: jax.Device) -> int:
    """Classes of a block, such that blocks are of equal width."""
    if block_classes is None:
        cpu = device.platform == "cpu"
        block_classes = CPU_BLOCK_CLASSES if cpu else num_classes
        at_least = min(os.cpu_count() or 1, num_classes) if cpu else 1
    elif block_classes < 1:
        raise ValueError(f"block_classes is {block_classes}; give at least 1.")
    else:
        at_least = 1
    num_blocks = max(at_least, math.ceil(num_classes / block_classes))
    return math.ceil(num_classes / num_blocks)


def _split(energies: Array, used: Array, kernels: PointKernels, width: int) -> tuple[Array, ...]:
    """Blocks of the used classes on the device, in the order of the kernels.

    Rows that fill the bucket are 0, classes that fill the last block are ruled out.
    """
    num_points, num_rows = len(energies), len(kernels.kernels[0].send)
    energies = np.take(energies, kernels.order, axis=0)
    blocks = []
    for start in range(0, len(used), width):
        columns = used[start : start + width]
        block = np.zeros((num_rows, width), np.float32)
        block[:, len(columns) :] = np.inf
        for i, column in enumerate(columns):
            block[:num_points, i] = energies[:, column]
        blocks.append(jax.device_put(block, kernels.kernels[0].send.device))
    return tuple(blocks)


def _join(blocks: tuple[Array, ...], used: Array, kernels: PointKernels, num_classes: int) -> Array:
    """Undoes `_split`; classes not used get 0."""
    num_points = len(kernels.order)
    ordered = np.zeros((num_points, num_classes), np.float32)
    columns = (column for block in blocks for column in np.asarray(block)[:num_points].T)
    for column, values in zip(used, columns, strict=False):  # the last block may hold more
        ordered[:, column] = values
    marginals = np.empty_like(ordered)
    marginals[kernels.order] = ordered
    return marginals
