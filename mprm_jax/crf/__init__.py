"""Fully connected conditional random fields over points, usable without the rest of the package.

Names load their module when they are first asked for: importing this folder imports no JAX.
"""

import importlib
from typing import Any

_MODULES = {
    "CrfResult": "inference",
    "CrfSettings": "settings",
    "KERNELS": "settings",
    "KernelSettings": "settings",
    "PointKernels": "inference",
    "Smoothing": "settings",
    "build_kernels": "inference",
    "dense_crf": "inference",
    "gaussian_filter": "filtering",
    "infer": "inference",
    "refine": "refinement",
    "unary_energies": "refinement",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
