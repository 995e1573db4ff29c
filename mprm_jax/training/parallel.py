"""Spreads buckets over all devices of all hosts and keeps one copy of the state on each."""

from typing import Any

import jax
from jax.experimental import multihost_utils

from mprm_jax.types import DATA_AXIS, Array, Batch


def choose_devices(count: int | None) -> list[jax.Device]:
    """The first `count` devices of all hosts; all of them if None.

    Raises:
      ValueError: there are fewer.
    """
    devices = jax.devices()
    if count is not None and count > len(devices):
        raise ValueError(
            f"--devices {count}: there are only {len(devices)} {jax.default_backend()} devices; "
            "give fewer, or leave it out to use all."
        )
    return devices[:count]


def make_mesh(devices: list[jax.Device] | None = None) -> jax.sharding.Mesh:
    """A one-axis mesh over `devices`, by default all devices of all hosts."""
    devices = devices or jax.devices()
    axis_type = jax.sharding.AxisType.Auto
    return jax.make_mesh((len(devices),), (DATA_AXIS,), axis_types=(axis_type,), devices=devices)


def describe_devices(mesh: jax.sharding.Mesh) -> str:
    """Number and kind of the devices of all hosts, e.g. "2 x cpu"."""
    return f"{mesh.size} x {mesh.devices.flat[0].device_kind}"


def use_cpu_cores(num_devices: int) -> None:
    """Makes `num_devices` devices of the CPU, if that is what computes; before any other JAX call.

    XLA:CPU gains next to nothing from a second thread inside a step of this size, but two devices
    on two cores gain about two thirds.
    """
    jax.config.update("jax_num_cpu_devices", num_devices)


def shard_batch(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
    """Puts this host's buckets on its devices, one each."""
    sharding = jax.NamedSharding(mesh, jax.P(DATA_AXIS))

    def put(local: Array) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, local)

    return jax.tree.map(put, batch)


def wait_for_all_hosts(place: str) -> None:
    """Returns once every host has come here; at once on a single host."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)


def replicated_shapes(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """Shapes of arrays, to be copied to each device."""
    sharding = jax.NamedSharding(mesh, jax.P())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def replicate(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """Puts a copy of every array on each device."""
    return jax.device_put(tree, jax.NamedSharding(mesh, jax.P()))
