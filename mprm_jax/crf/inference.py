"""Dense CRF inference on NumPy arrays: checks the input, runs, returns NumPy arrays.

Kernels depend on features alone and serve any number of runs. On a CPU, NumPy and SciPy do the
work. For an accelerator arrays are padded to buckets, so that clouds of similar size share compiled
programs.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Integer, Real

from mprm_jax.crf.filtering import Pairs
from mprm_jax.crf.lattice_device import bucket, build_lattice_on_host, fitting_lattice
from mprm_jax.crf.lattice_host import BLOCK_POINTS, HostKernels, build_host_kernels, point_order
from mprm_jax.crf.mean_field import Kernel, make_kernel, mean_field, mean_field_on_host
from mprm_jax.crf.settings import CrfSettings, KernelSettings
from mprm_jax.crf.threads import in_threads
from mprm_jax.errors import UserError
from mprm_jax.types import IGNORED, Array

METHODS = ("lattice", "exact")
BUILDERS = ("auto", "host", "device")
# Beyond, a float32 coordinate is off by more than 1/500 of a kernel width.
MAX_SPAN = 32768  # kernel widths
# Marginals that differ by less are equal: float32 sums of a few hundred messages.
ROUNDING = np.float32(1e-6)


class CrfResult(NamedTuple):
    """What the CRF says about each point."""

    marginals: Float32[Array, "N C"]  # rows sum to 1; exactly 0 for a class that is not allowed
    labels: Int32[Array, " N"]  # class of the largest marginal; of equals, see `dense_crf`


class PointKernels(NamedTuple):
    """The kernels of a cloud, in an order in which neighbors are close in memory.

    They depend on the features and on who is ignored; any number of inferences can use them.
    """

    # On a CPU; or on the device, padded to a bucket of rows.
    kernels: HostKernels | tuple[Kernel, ...]
    order: Integer[Array, " N"]  # row of the cloud that each kernel row stands for; on the host
    ignored: Bool[Array, " N"]  # in the order of the cloud; on the host


def dense_crf(
    features: Real[Array, "N F"],
    unary: Float[Array, "N C"],
    settings: CrfSettings,
    *,
    allowed: Bool[Array, "N C"] | Bool[Array, " C"] | None = None,
    ignored: Bool[Array, " N"] | None = None,
    labels: Integer[Array, " N"] | None = None,
    compatibility: Real[Array, "C C"] | None = None,
    method: str = "lattice",
    builder: str = "auto",
    device: jax.Device | None = None,
) -> CrfResult:
    """Runs a fully connected CRF over a cloud.

    To run it several times over the same cloud, build the kernels once and call `infer`.

    Args:
      features: finite numbers, any origin; float64 where float32 would lose detail.
      unary: energies, negative log evidence; infinite for a class that is not allowed.
      allowed: classes each point may have; by default all.
      ignored: points without evidence of their own. They send no messages and get the
        marginals that the other points suggest: uniform over their allowed classes if out of reach
        of all others. Of their unary, only what is infinite counts.
      labels: the label that each point comes with, IGNORED (-1) for none; by default
        none. Where marginals are equal, no class is preferred for its number: the point keeps its
        label if that is among the largest, and gets IGNORED if not.
      compatibility: cost of class c at a point where another is of class e; by default
        Potts, 0 on the diagonal and 1 elsewhere.
      method, builder, device: see `build_kernels`.

    Raises:
      ValueError: numbers are missing, shapes disagree, a label is no class, or a point has no
        allowed class.
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
        labels=labels,
        compatibility=compatibility,
    )


def build_kernels(
    features: Real[Array, "N F"],
    settings: CrfSettings,
    *,
    ignored: Bool[Array, " N"] | None = None,
    method: str = "lattice",
    builder: str = "auto",
    device: jax.Device | None = None,
) -> PointKernels:
    """Builds the kernels of a cloud.

    Args:
      features: finite numbers, any origin; float64 where float32 would lose detail.
      ignored: these points send no messages.
      method: "lattice", or "exact" in time O(N²).
      builder: of lattices; "host" with NumPy, "device" in JAX; "auto" is "host" for a CPU and
        "device" for an accelerator. On a CPU, inference takes place where they are built.
      device: where to keep the kernels and to run; by default JAX's.

    Raises:
      ValueError: a feature is not finite, a column is missing, or the columns span too much.
    """
    features, ignored = _checked_features(features, settings, ignored)
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; give one of {METHODS}.")
    if builder not in BUILDERS:
        raise ValueError(f"builder is {builder!r}; give one of {BUILDERS}.")
    device = device or jax.local_devices()[0]
    on_cpu = device.platform == "cpu"
    if builder == "auto":
        builder = "host" if on_cpu else "device"
    scaled = [_scaled(features, kernel) for kernel in settings.kernels]
    if method == "exact":
        order = np.arange(len(features))
    else:
        order = point_order(max(scaled, key=lambda columns: columns.shape[1]))
    sender = (~ignored[order]).astype(np.float32)
    ordered = (np.take(columns, order, axis=0) for columns in scaled)
    if on_cpu and method == "lattice" and builder == "host":
        kernels = build_host_kernels(ordered, sender, settings.normalization)
        return PointKernels(kernels, order, ignored)
    build = functools.partial(
        _jax_kernel,
        sender=sender,
        normalization=settings.normalization,
        method=builder if method == "lattice" else method,
        device=device,
    )
    return PointKernels(tuple(map(build, ordered)), order, ignored)


def infer(
    kernels: PointKernels,
    unary: Float[Array, "N C"],
    *,
    weights: Real[Array, " K"] | Sequence[float],
    num_iterations: int,
    allowed: Bool[Array, "N C"] | Bool[Array, " C"] | None = None,
    labels: Integer[Array, " N"] | None = None,
    compatibility: Real[Array, "C C"] | None = None,
) -> CrfResult:
    """Runs mean-field inference with kernels built before; see `dense_crf`.

    Args:
      weights: of the kernels.
    """
    energies, used = _energies(unary, allowed, kernels)
    num_points, num_classes = energies.shape
    labels = _checked_labels(labels, energies.shape)
    if compatibility is not None and np.shape(compatibility) != (num_classes, num_classes):
        raise UserError(
            f"compatibility has shape {np.shape(compatibility)} for {num_classes} classes; "
            "give one row and one column for each."
        )
    on_host = isinstance(kernels.kernels, HostKernels)
    num_kernels = len(kernels.kernels.lattices if on_host else kernels.kernels)
    if len(weights) != num_kernels:
        raise UserError(f"{len(weights)} weights for {num_kernels} kernels.")
    if not num_points:
        return CrfResult(np.zeros((0, num_classes), np.float32), np.zeros(0, np.int32))
    if len(used) < num_classes:
        energies = np.take(energies, used, axis=1)
    if compatibility is not None:
        compatibility = np.asarray(compatibility, np.float32)[np.ix_(used, used)]
    run = mean_field_on_host if on_host else _mean_field_on_device
    marginals = run(
        kernels.kernels,
        energies,
        np.asarray(weights, np.float32),
        num_iterations=num_iterations,
        compatibility=compatibility,
    )
    return _result(marginals, used, kernels.order, labels, num_classes)


def allowed_classes(
    allowed: Bool[Array, "N C"] | Bool[Array, " C"], shape: tuple[int, int]
) -> Bool[Array, "N C"]:
    """Checks a mask of allowed classes, and broadcasts it to all points."""
    allowed = np.asarray(allowed)
    if allowed.dtype != bool or allowed.shape not in (shape, shape[1:]):
        raise UserError(f"allowed is {allowed.dtype} {allowed.shape}; give bool {shape} or a row.")
    return np.broadcast_to(allowed, shape)


def _checked_features(
    features: Array, settings: CrfSettings, ignored: Array | None
) -> tuple[Array, Array]:
    features = np.asarray(features)
    if features.ndim != 2:
        raise ValueError(f"Features have shape {features.shape}; give [points, columns].")
    last = max(column for kernel in settings.kernels for column in kernel.columns)
    if last >= features.shape[1]:
        raise ValueError(
            f"A kernel needs feature column {last}, but there are {features.shape[1]} columns."
        )
    finite = np.isfinite(features)
    if not finite.all():
        bad = np.flatnonzero(~finite.all(axis=1))
        raise ValueError(f"Features of {len(bad)} points are not finite, first of point {bad[0]}.")
    ignored = np.zeros(len(features), bool) if ignored is None else np.asarray(ignored)
    if ignored.shape != (len(features),) or ignored.dtype != bool:
        raise ValueError(
            f"ignored is {ignored.dtype} {ignored.shape}; give bool ({len(features)},)."
        )
    return features, ignored


def _scaled(features: Array, kernel: KernelSettings) -> Array:
    """Feature columns in kernel widths from the middle of the cloud: [N, d] float32."""
    scaled = np.empty((len(features), len(kernel.columns)), np.float32)
    if not len(features):
        return scaled

    def scale(place: int) -> None:
        column, width = kernel.columns[place], kernel.widths[place]
        values = features[:, column].astype(np.float64)
        low, high = values.min(), values.max()
        if high - low > MAX_SPAN * width:
            raise ValueError(
                f"Feature column {column} spans {high - low:g}, over {MAX_SPAN} kernel widths of "
                f"{width:g}; check its unit, remove stray points, or split the cloud."
            )
        # In float64, so that a cloud far from the origin keeps its detail.
        scaled[:, place] = (values - (low + high) / 2) / width

    in_threads(scale, range(len(kernel.columns)))
    return scaled


def _jax_kernel(
    scaled: Array, *, sender: Array, normalization: str, method: str, device: jax.Device
) -> Kernel:
    """A kernel on a device, padded; method is "exact", or who builds the lattice."""
    num_rows = bucket(len(scaled))
    if method == "exact":
        operator = Pairs(*_padded(scaled, num_rows, device))
    elif method == "host":
        operator = jax.device_put(build_lattice_on_host(scaled, num_rows=num_rows), device)
    else:
        operator = fitting_lattice(*_padded(scaled, num_rows, device))
    sender = jax.device_put(np.pad(sender, (0, num_rows - len(sender))), device)
    return _make_kernel(operator, sender, normalization)


_make_kernel = jax.jit(make_kernel, static_argnames="normalization")


def _padded(scaled: Array, num_rows: int, device: jax.Device) -> tuple[Array, Array]:
    """Features with rows of padding, and which rows are no padding, on a device."""
    padded = np.zeros((num_rows, scaled.shape[1]), np.float32)
    padded[: len(scaled)] = scaled
    return jax.device_put((padded, np.arange(num_rows) < len(scaled)), device)


def _checked_labels(labels: Array | None, shape: tuple[int, int]) -> Array:
    """[N] int32, what points come with."""
    num_points, num_classes = shape
    if labels is None:
        return np.full(num_points, IGNORED, np.int32)
    labels = np.asarray(labels)
    if labels.shape != (num_points,) or labels.dtype.kind not in "iu":
        raise UserError(f"labels is {labels.dtype} {labels.shape}; give integers ({num_points},).")
    bad = np.flatnonzero((labels != IGNORED) & ((labels < 0) | (labels >= num_classes)))
    if len(bad):
        raise UserError(
            f"Point {bad[0]} comes with label {labels[bad[0]]}; give one of {num_classes} classes, "
            f"or {IGNORED} for none."
        )
    return labels.astype(np.int32)


def _energies(unary: Array, allowed: Array | None, kernels: PointKernels) -> tuple[Array, Array]:
    """Energies [N, C] in the order of the kernels: infinite if not allowed, else 0 if ignored.

    Returns:
      They, and the classes that some point may have.
    """
    unary = np.asarray(unary, np.float32)
    order, ignored = kernels.order, kernels.ignored
    if unary.ndim != 2 or len(unary) != len(ignored) or not unary.shape[1]:
        raise UserError(f"The unary has shape {unary.shape}; give [{len(ignored)}, classes].")
    mask = None if allowed is None else allowed_classes(allowed, unary.shape)
    energies = np.empty(unary.shape, np.float32)
    broken, barred = np.zeros(len(unary), bool), np.zeros(len(unary), bool)

    def fill(start: int) -> bool:
        points = order[start : start + BLOCK_POINTS]
        block = energies[start : start + BLOCK_POINTS]
        block[:] = np.take(unary, points, axis=0)
        unread = ignored[points]
        block[unread] = np.where(block[unread] == np.inf, np.inf, 0)
        # Extremes of a whole block are fast, those of its points are not.
        if not block.min() > -np.inf:  # also if NaN
            broken[points] = ~(block.min(axis=1) > -np.inf)
        if mask is not None:
            block[~mask[points]] = np.inf
        if some_infinite := block.max() == np.inf:
            barred[points] = block.min(axis=1) == np.inf
        return some_infinite

    some_infinite = in_threads(fill, range(0, len(unary), BLOCK_POINTS))
    if broken.any():
        raise UserError(
            f"The unary of {broken.sum()} points has NaN or -inf, first of point "
            f"{broken.argmax()}; give energies, or mark such points as ignored."
        )
    if barred.any():
        raise UserError(
            f"{barred.sum()} points have no allowed class, first is point {barred.argmax()}."
        )
    if not any(some_infinite):
        return energies, np.arange(unary.shape[1])
    return energies, np.flatnonzero(_lowest(energies) < np.inf)


def _lowest(energies: Array) -> Array:
    """The smallest energy of each class, [C]."""
    starts = range(0, len(energies), BLOCK_POINTS)
    return np.min(in_threads(lambda i: energies[i : i + BLOCK_POINTS].min(axis=0), starts), axis=0)


def _mean_field_on_device(
    kernels: tuple[Kernel, ...],
    unary: Array,
    weights: Array,
    *,
    num_iterations: int,
    compatibility: Array | None,
) -> Array:
    """Marginals of energies, [N, C] each; see `mean_field`."""
    num_points, num_classes = unary.shape
    padded = np.zeros((len(kernels[0].send), num_classes), np.float32)
    padded[:num_points] = unary
    padded = jax.device_put(padded, kernels[0].send.device)
    marginals = _mean_field(
        padded, kernels, weights, num_iterations=num_iterations, compatibility=compatibility
    )
    return np.asarray(marginals)[:num_points]


_mean_field = jax.jit(mean_field, static_argnames="num_iterations")


def _result(
    marginals: Array, used: Array, order: Array, came_with: Array, num_classes: int
) -> CrfResult:
    """Marginals [N, used] of points in order, for all classes and in the order of the cloud."""
    num_points = len(order)
    rows = np.empty(num_points, np.int32)
    rows[order] = np.arange(num_points, dtype=np.int32)
    result = np.empty((num_points, num_classes), np.float32)
    labels = np.empty(num_points, np.int32)
    numbers = np.arange(len(used), dtype=np.int32)[:, None]

    def fill(start: int) -> None:
        points = slice(start, start + BLOCK_POINTS)
        block = np.take(marginals, rows[points], axis=0)
        # Where the classes of a point lie apart, NumPy compares many points at a time.
        columns = np.ascontiguousarray(block.T)
        largest = columns.max(axis=0)
        is_largest = columns == largest[None]
        tied = is_largest.sum(axis=0, dtype=np.int32) > 1
        best = used[(is_largest * numbers).max(axis=0)]  # unless tied
        if len(used) < num_classes:
            result[points] = 0
            result[points, used] = block
        else:
            result[points] = block
        own = np.maximum(came_with[points], 0)
        own_marginal = np.take_along_axis(result[points], own[:, None], axis=1)
        keeps = (came_with[points] != IGNORED) & (own_marginal[:, 0] >= largest - ROUNDING)
        labels[points] = np.where(keeps, own, np.where(tied, IGNORED, best))

    in_threads(fill, range(0, num_points, BLOCK_POINTS))
    return CrfResult(result, labels)
