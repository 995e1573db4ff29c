"""Spreads buckets over all devices of all hosts and keeps one copy of the state on each."""

import importlib.metadata
import logging
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mprm_jax.batches.bare_buckets import BareBatch
from mprm_jax.errors import UserError
from mprm_jax.types import DATA_AXIS, Array, Batch

logger = logging.getLogger(__name__)

_MAX_NAMED = 8  # devices
# They compile scatter-adds, of which our gradients are made, to a loop that is hundreds of times
# slower on CUDA: openxla/xla#46225, jax#38806. The extras of pyproject.toml leave them out.
SLOW_ON_GPUS = ("0.10.2", "0.11.0")


def choose_devices(count: int | None) -> list[jax.Device]:
    """The first `count` devices of each host; all of them if None.

    Raises:
      ValueError: there are fewer.
    """
    _warn_of_slow_gradients()
    here = jax.local_device_count()
    if count is not None and count > here:
        raise UserError(
            f"--devices {count}: there are only {here} {jax.default_backend()} devices"
            f"{' on each host' * (jax.process_count() > 1)}; give fewer, or leave it out to use "
            "all."
        )
    hosts = range(jax.process_count())
    return [device for host in hosts for device in jax.local_devices(process_index=host)[:count]]


def _warn_of_slow_gradients() -> None:
    version = importlib.metadata.version("jaxlib")
    if jax.default_backend() == "gpu" and version in SLOW_ON_GPUS:
        logger.warning(
            "jaxlib %s trains many times slower on GPUs than others: install mprm_jax[cuda12] or "
            "mprm_jax[cuda13] again, which choose another version",
            version,
        )


def host_device() -> jax.Device:
    """A device of this host's CPU; one of the accelerator's where JAX may not use the CPU."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names others only
        return jax.local_devices()[0]


def make_mesh(devices: list[jax.Device] | None = None) -> jax.sharding.Mesh:
    """A one-axis mesh over `devices`, by default all devices of all hosts, host by host."""
    devices = devices or choose_devices(None)
    axis_types = (jax.sharding.AxisType.Auto,)
    return jax.sharding.Mesh(np.array(devices), (DATA_AXIS,), axis_types=axis_types)


def step_mesh(devices: list[jax.Device], buckets_per_step: int) -> jax.sharding.Mesh:
    """The mesh of a training step: of each host as many devices as share its buckets evenly.

    Args:
      devices: that may be used, of all hosts.

    Raises:
      ValueError: the hosts cannot share the buckets evenly.
    """
    num_hosts = len({device.process_index for device in devices})
    if buckets_per_step % num_hosts:
        raise UserError(
            f"pyramid.buckets_per_step={buckets_per_step} cannot be shared by {num_hosts} hosts; "
            f"set a multiple of {num_hosts} (another batch, so another result), or use as many "
            "hosts as divide it."
        )
    by_host = [[x for x in devices if x.process_index == i] for i in range(num_hosts)]
    most = min(map(len, by_host))
    share = buckets_per_step // num_hosts
    used = max(count for count in range(1, most + 1) if share % count == 0)
    chosen = [device for host in by_host for device in host[:used]]
    unused = [str(device) for device in devices if device not in chosen]
    if unused:
        logger.info(
            "a step has %d buckets (pyramid.buckets_per_step): %d of %d devices share them evenly, "
            "these do not train: %s%s",
            buckets_per_step,
            len(chosen),
            len(devices),
            ", ".join(unused[:_MAX_NAMED]),
            f" and {len(unused) - _MAX_NAMED} more" * (len(unused) > _MAX_NAMED),
        )
    return make_mesh(chosen)


def local_mesh(mesh: jax.sharding.Mesh) -> jax.sharding.Mesh:
    """The part of a mesh that is on this host."""
    return make_mesh(list(mesh.local_devices))


def local_buckets(
    steps: Sequence[list[list[int]]], mesh: jax.sharding.Mesh
) -> Sequence[list[list[int]]]:
    """This host's part of a plan, step -> bucket -> balls; devices take equally many buckets."""
    here = [i for i, x in enumerate(mesh.devices.flat) if x.process_index == jax.process_index()]

    def part(step: list[list[int]]) -> list[list[int]]:
        share = len(step) // mesh.size
        return [bucket for i in here for bucket in step[i * share : (i + 1) * share]]

    return [part(step) for step in steps]


def local_rows(sharded: jax.Array) -> Array:
    """The rows of an array over all devices that lie on this host."""
    parts = sorted(sharded.addressable_shards, key=lambda part: part.index[0].start or 0)
    return np.concatenate([np.asarray(part.data) for part in parts])


def describe_devices(mesh: jax.sharding.Mesh) -> str:
    """Number and kind of the devices of all hosts, e.g. "2 x cpu".

    Args:
      mesh: over all hosts, or the one of this host where each has one of its own.
    """
    shares = 1 if mesh.is_multi_process else jax.process_count()
    return f"{shares * mesh.size} x {mesh.devices.flat[0].device_kind}"


def use_cpu_cores(num_devices: int) -> None:
    """Makes `num_devices` devices of the CPU, if that is what computes; before any other JAX call.

    XLA:CPU gains next to nothing from a second thread inside a step of this size, but two devices
    on two cores gain about two thirds.
    """
    jax.config.update("jax_num_cpu_devices", num_devices)


def shard_batch(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
    """Puts this host's buckets on its devices, equally many each."""
    return jax.tree.map(lambda rows: shard_rows(rows, mesh), batch)


def shard_rows(rows: Array, mesh: jax.sharding.Mesh) -> jax.Array:
    """Puts this host's rows on its devices, in equal parts; all hosts' make one array."""
    devices = list(mesh.local_devices)
    # Not make_array_from_process_local_data: on several hosts a transfer guard forbids it.
    parts = jax.device_put(np.split(rows, len(devices)), devices)
    shape = (len(rows) // len(devices) * mesh.size, *rows.shape[1:])
    sharding = jax.NamedSharding(mesh, jax.P(DATA_AXIS))
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def replicated_shapes(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """Shapes of arrays, to be copied to each device."""
    sharding = jax.NamedSharding(mesh, jax.P())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def spread_shapes(
    bucket: Batch | BareBatch, mesh: jax.sharding.Mesh, num_buckets: int
) -> Batch | BareBatch:
    """Shapes of as many buckets like this one, spread over the devices."""
    sharding = jax.NamedSharding(mesh, jax.P(DATA_AXIS))

    def shape(x: Array) -> jax.ShapeDtypeStruct:
        rows = num_buckets * len(x)
        return jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype, sharding=sharding)

    return jax.tree.map(shape, bucket)


def replicate(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """Puts a copy of every array on each device."""
    return jax.device_put(tree, jax.NamedSharding(mesh, jax.P()))


def local_copy(tree: Any, here: jax.sharding.Mesh) -> Any:
    """Replicated arrays of a run's mesh as those of `here`, the mesh of this host's devices."""
    return replicate(jax.device_get(tree), here)
