"""Weakly supervised point cloud segmentation from class tags (MPRM, CVPR 2020) in JAX.

What `docs/api.md` lists can be read from here; its module is imported at first use, so that
importing the package costs nothing and starts no device.
"""

import importlib
from typing import Any

_MODULES = {
    "prediction.network": ("Network", "load"),
    "prediction.predictor": ("Prediction",),
    "clouds": ("Voxels", "pyramid", "voxelize"),
    "crf": (
        *("KERNELS", "CrfResult", "CrfSettings", "KernelSettings", "Smoothing"),
        *("dense_crf", "refine"),
    ),
    "models.mprm": ("Mprm",),
    "models.unet": ("UNet",),
    "config": ("Config", "ModelConfig"),
    "types": ("MprmOutput", "PointPyramid"),
    "ops.kpconv": ("kpconv",),
    "ops.deformable": ("deformable_kpconv",),
    "ops.attention": ("channel_attention", "spatial_attention"),
    "ops.pcam": ("class_scores", "merge_paths"),
    "ops.pooling": ("cloud_log_mean_exp", "cloud_mean", "nearest_upsample", "neighbor_max"),
    "ops.losses": ("multilabel_loss", "point_loss"),
    "scans.formats": ("read_cloud",),
    "store.scenes": ("SceneStore",),
    "store.exports": ("Export",),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
