"""Settings of a dense CRF: the kernels of the released MPRM code, and kernels that see normals."""

import dataclasses
import math

from mprm_jax.crf.normalization import check_normalization
from mprm_jax.errors import UserError

POSITION = (0, 1, 2)  # columns x, y, z in meters
COLOR = (3, 4, 5)  # red, green, blue in [0, 1]
NORMAL = (6, 7, 8, 9, 10, 11)  # of `geometry.normals.sign_free`
RELEASED_FLOOR = 1e-5  # smallest probability whose logarithm is taken


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """How class probabilities are smoothed over position, color and the normals of surfaces.

    All defaults of the CRF are declared here; they are those of mprm `crf_postprocessing.py`, which
    knows no normals. `KERNELS` has them, and those that do.
    """

    position_width: float = 0.2  # meters, of the kernel on position
    position_weight: float = 3.0
    pair_width: float = 0.2  # meters, of the kernel on position and color
    color_width: float = 0.04  # of it, colors in [0, 1]; 0: no kernel looks at colors
    pair_weight: float = 10.0
    normal_width: float = 0.0  # of the two kernels below; 0: no kernel looks at normals
    surface_width: float = 0.3  # meters, of the kernel on position and normal
    surface_weight: float = 10.0
    patch_width: float = 0.5  # meters, of the kernel on position, color and normal
    patch_color_width: float = 0.08  # of it
    patch_weight: float = 10.0
    trust: float = 0.5  # share of the given probabilities in the evidence, the rest uniform
    iterations: int = 5

    def __post_init__(self):
        for name in ("position_width", "pair_width", "surface_width", "patch_width"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}; give meters above 0.")
        if not 0 < self.patch_color_width < math.inf:
            raise UserError(f"patch_color_width is {self.patch_color_width}; give more than 0.")
        weights = ("position_weight", "pair_weight", "surface_weight", "patch_weight")
        for name in (*weights, "color_width", "normal_width", "iterations"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}; give 0 or more.")
        if not 0 <= self.trust <= 1:
            raise UserError(f"trust is {self.trust}; give a share in [0, 1].")

    @property
    def crf(self) -> "CrfSettings":
        """The kernels that have a weight, over the columns of position, color and normal."""
        near = (POSITION, self.position_width)
        kernels = [_kernel(self.position_weight, near)]
        if self.color_width:
            pair = (POSITION, self.pair_width), (COLOR, self.color_width)
            kernels.append(_kernel(self.pair_weight, *pair))
        if self.normal_width:
            normal = (NORMAL, self.normal_width)
            kernels.append(_kernel(self.surface_weight, (POSITION, self.surface_width), normal))
            color = [(COLOR, self.patch_color_width)] if self.color_width else []
            patch = (POSITION, self.patch_width)
            kernels.append(_kernel(self.patch_weight, patch, *color, normal))
        used = tuple(kernel for kernel in kernels if kernel.weight)
        return CrfSettings(used or (kernels[0],), self.iterations)


def _kernel(weight: float, *parts: tuple[tuple[int, ...], float]) -> "KernelSettings":
    """A kernel over some columns with one width each."""
    columns = sum((columns for columns, _ in parts), ())
    widths = sum(((width,) * len(columns) for columns, width in parts), ())
    return KernelSettings(columns, widths, weight)


RELEASED = Smoothing()
# Measured beside others in docs/labels.md.
NORMALS = Smoothing(position_weight=0.0, normal_width=0.3, trust=0.15)
KERNELS = {"released": RELEASED, "normals": NORMALS}


@dataclasses.dataclass(frozen=True)
class KernelSettings:
    """A Gaussian kernel exp(-sum of ((f - f') / width)² / 2) over some feature columns."""

    columns: tuple[int, ...]
    widths: tuple[float, ...]  # standard deviation in each column, in its unit
    weight: float

    def __post_init__(self):
        if not self.columns or len(self.columns) != len(self.widths):
            raise UserError(f"{self.columns} columns but {self.widths} widths; give one for each.")
        if not all(width > 0 and math.isfinite(width) for width in self.widths):
            raise UserError(f"Kernel widths are {self.widths}; give positive numbers.")
        if not math.isfinite(self.weight):
            raise UserError(f"The kernel's weight is {self.weight}; give a number.")


@dataclasses.dataclass(frozen=True)
class CrfSettings:
    """A fully connected CRF with Gaussian kernels over any columns."""

    kernels: tuple[KernelSettings, ...]
    num_iterations: int = RELEASED.iterations
    normalization: str = "symmetric"  # see `normalization.NORMALIZATIONS`

    def __post_init__(self):
        if self.num_iterations < 0:
            raise UserError(f"num_iterations is {self.num_iterations}; give 0 or more.")
        check_normalization(self.normalization)
