"""Names the machine and the versions that a measurement was made with."""

import importlib.metadata
import os
import platform

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy")


def describe_machine() -> dict[str, str | int]:
    """Processor, cores, Python and package versions; no host name."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"processor": _processor(), "cores": os.cpu_count() or 1} | {
        "system": platform.system(),
        "python": platform.python_version(),
        **versions,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
