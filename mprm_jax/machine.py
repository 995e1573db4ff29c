"""The machine: cores this process may use, versions, what names it in a measurement, memory."""

import functools
import hashlib
import importlib.metadata
import math
import os
import pathlib
import platform

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy")
# What processes that work as one must have in common.
_SHARED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "mprm_jax")
_CGROUPS = pathlib.Path("/sys/fs/cgroup")
# Parameters of glibc's mallopt, malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_LARGEST = 2**31 - 1  # bytes; mallopt takes an int
_GROW_BY = 64 * 2**20  # bytes


@functools.cache
def usable_cpus() -> int:
    """Cores that this process may use: fewer than the machine has under an affinity or a quota."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min([allowed, *map(math.ceil, _quotas(_CGROUPS, _own_group()))]))


def describe_machine() -> dict[str, str | int]:
    """Processor, cores, Python and package versions; no host name."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"processor": _processor(), "cores": os.cpu_count() or 1} | {
        "usable_cores": usable_cpus(),
        "system": platform.system(),
        "python": platform.python_version(),
        **versions,
    }


def version_facts() -> dict[str, str]:
    """Versions of what runs, and a fingerprint of this package's own source."""
    digest = hashlib.sha256()
    package = pathlib.Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _SHARED},
        "source of mprm_jax": digest.hexdigest()[:12],
    }


def keep_heap() -> bool:
    """Stops glibc from handing the buffers of each step back to the system.

    XLA:CPU allocates its temporaries anew in every step. By default glibc maps large ones from the
    system and unmaps them at once, and the kernel clears every page again. To be called before
    threads are started; does nothing without glibc.

    Returns:
      Whether the settings were accepted.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    import ctypes  # not on every system

    mallopt = ctypes.CDLL(None).mallopt
    settings = {
        _MMAP_MAX: 0,
        _TRIM_THRESHOLD: _LARGEST,
        _TOP_PAD: _GROW_BY,
        _ARENA_MAX: 1,
    }
    accepted = [mallopt(name, value) for name, value in settings.items()]
    return all(accepted)


def _own_group() -> str:
    """Path of this process's control group, "/" where there is none."""
    try:
        lines = pathlib.Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "/"
    # "0::/path" of version 2, "4:cpu,cpuacct:/path" of version 1
    groups = [line.split(":", 2) for line in lines]
    found = [path for _, kinds, path in groups if kinds == "" or "cpu" in kinds.split(",")]
    return found[0] if found else "/"


def _quotas(root: pathlib.Path, group: str) -> list[float]:
    """Cores that each control group around this process grants, where it limits them."""
    path = pathlib.PurePosixPath(group.lstrip("/"))
    folders = [root / base / part for base in (".", "cpu") for part in (path, *path.parents)]
    files = [(folder / "cpu.max",) for folder in folders]
    files += [(x / "cpu.cfs_quota_us", x / "cpu.cfs_period_us") for x in folders]
    found = [sum(map(_numbers, of_limit), ()) for of_limit in files]
    limits = [numbers for numbers in found if len(numbers) == 2 and min(numbers) > 0]
    return [quota / period for quota, period in limits]


def _numbers(file: pathlib.Path) -> tuple[int, ...]:
    """The numbers of a file; () if there is no such file or it says "max"."""
    try:
        return tuple(map(int, file.read_text(encoding="utf-8").split()))
    except (OSError, ValueError):
        return ()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
