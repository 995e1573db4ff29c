"""From feature columns of a cloud to normalized kernels: for NumPy on a CPU, else for JAX."""

import functools
import logging
from typing import NamedTuple

import jax
import numpy as np

from mprm_jax.crf import device_lattice
from mprm_jax.crf.filtering import Pairs
from mprm_jax.crf.host_lattice import build_lattice
from mprm_jax.crf.lattice import (
    Capacity,
    Lattice,
    bucket,
    bucket_capacity,
    needed_capacity,
)
from mprm_jax.crf.mean_field import Kernel, make_kernel
from mprm_jax.crf.settings import CrfSettings, KernelSettings
from mprm_jax.crf.sparse_kernel import SparseKernel, build_kernel
from mprm_jax.crf.threads import in_threads
from mprm_jax.crf.vertices import point_order
from mprm_jax.types import Array

METHODS = ("lattice", "exact")
BUILDERS = ("auto", "host", "device")
# Beyond, a float32 coordinate is off by more than 1/500 of a kernel width.
MAX_SPAN = 32768  # kernel widths
# First guess of a lattice built on a device, per point; dense scans have fewer vertices.
GUESSED_VERTICES = {1: 0.125, 2: 0.125, 3: 0.125, 4: 0.5, 5: 1.0}  # 2 with 6 dimensions or more

log = logging.getLogger(__name__)


class PointKernels(NamedTuple):
    """The kernels of a cloud, in an order in which neighbors are close in memory.

    They depend on the features and on who is ignored; any number of inferences can use them.
    """

    # On a CPU; or on the device, padded to a bucket of rows.
    kernels: tuple[SparseKernel, ...] | tuple[Kernel, ...]
    order: Array  # [N] int, row of the cloud that each kernel row stands for; on the host
    ignored: Array  # [N] bool, in the order of the cloud; on the host


def build_kernels(
    features: Array,
    settings: CrfSettings,
    *,
    ignored: Array | None = None,
    method: str = "lattice",
    builder: str = "auto",
    device: jax.Device | None = None,
) -> PointKernels:
    """Builds the kernels of a cloud.

    Args:
      features: [N, F] finite numbers, any origin; float64 where float32 would lose detail.
      ignored: [N] bool; these points send no messages.
      method: "lattice", or "exact" in time O(N²).
      builder: of lattices; "host" with NumPy, "device" in JAX; "auto" is "host" for a CPU and
        "device" for an accelerator. On a CPU, inference takes place where they are built.
      device: where to keep the kernels and to run; by default JAX's.

    Raises:
      ValueError: a feature is not finite, a column is missing, or the columns span too much.
    """
    features, ignored = _checked(features, settings, ignored)
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
    if on_cpu and method == "lattice" and builder == "host":
        build = functools.partial(build_kernel, sender=sender)
    else:
        method = builder if method == "lattice" else method
        build = functools.partial(_jax_kernel, sender=sender, method=method, device=device)
    # One after another, for their memory; each takes all cores.
    kernels = (
        build(np.take(columns, order, axis=0), normalization=settings.normalization)
        for columns in scaled
    )
    return PointKernels(tuple(kernels), order, ignored)


def _jax_kernel(
    scaled: Array, *, sender: Array, normalization: str, method: str, device: jax.Device
) -> Kernel:
    """A kernel on a device, padded; method is "exact", or who builds the lattice."""
    num_rows = bucket(len(scaled))
    if method == "exact":
        operator = _pairs(scaled, num_rows, device)
    elif method == "host":
        operator = jax.device_put(build_lattice(scaled, num_rows=num_rows), device)
    else:
        operator = _device_lattice(scaled, num_rows, device)
    sender = jax.device_put(np.pad(sender, (0, num_rows - len(sender))), device)
    return _make_kernel(operator, sender, normalization)


_make_kernel = jax.jit(make_kernel, static_argnames="normalization")


def _checked(features: Array, settings: CrfSettings, ignored: Array | None) -> tuple[Array, Array]:
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


def _pairs(scaled: Array, num_rows: int, device: jax.Device) -> Pairs:
    padded = np.zeros((num_rows, scaled.shape[1]), np.float32)
    padded[: len(scaled)] = scaled
    return jax.device_put(Pairs(padded, np.arange(num_rows) < len(scaled)), device)


def _device_lattice(scaled: Array, num_rows: int, device: jax.Device) -> Lattice:
    """Builds a lattice on the device, again with the next bucket as long as it does not fit."""
    pairs = _pairs(scaled, num_rows, device)
    vertices = GUESSED_VERTICES.get(scaled.shape[1], 2.0)
    capacity = bucket_capacity(Capacity(int(vertices * num_rows), num_rows), num_rows)
    while True:
        lattice = _build_on_device(pairs.features, pairs.valid, capacity=capacity)
        needed = needed_capacity(lattice)
        if needed.vertices <= capacity.vertices and needed.tails <= capacity.tails:
            return lattice
        log.info("lattice of %d points needs %s, had %s", len(scaled), needed, capacity)
        capacity = bucket_capacity(Capacity(*map(max, needed, capacity)), num_rows)


_build_on_device = jax.jit(device_lattice.build_lattice, static_argnames="capacity")
