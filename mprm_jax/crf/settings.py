"""Settings of a dense CRF, and their defaults: those of the released MPRM code."""

import dataclasses
import math

from mprm_jax.crf.normalization import check_normalization
from mprm_jax.errors import UserError

POSITION = (0, 1, 2)  # columns x, y, z in meters
POSITION_AND_COLOR = (0, 1, 2, 3, 4, 5)  # then red, green, blue in [0, 1]
RELEASED_FLOOR = 1e-5  # smallest probability whose logarithm is taken


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """How class probabilities are smoothed over position and color.

    All defaults of the CRF are declared here; they are those of mprm `crf_postprocessing.py`.
    """

    position_width: float = 0.2  # meters, of the kernel on position
    position_weight: float = 3.0
    pair_width: float = 0.2  # meters, of the kernel on position and color
    color_width: float = 0.04  # of it, colors in [0, 1]; 0: no kernel looks at colors
    pair_weight: float = 10.0
    trust: float = 0.5  # share of the given probabilities in the evidence, the rest uniform
    iterations: int = 5

    def __post_init__(self):
        for name in ("position_width", "pair_width"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}; give meters above 0.")
        for name in ("color_width", "position_weight", "pair_weight", "iterations"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}; give 0 or more.")
        if not 0 <= self.trust <= 1:
            raise UserError(f"trust is {self.trust}; give a share in [0, 1].")

    @property
    def crf(self) -> "CrfSettings":
        """The kernels, over the columns x, y, z, red, green, blue."""
        kernels = [KernelSettings(POSITION, (self.position_width,) * 3, self.position_weight)]
        if self.color_width:
            widths = (self.pair_width,) * 3 + (self.color_width,) * 3
            kernels.append(KernelSettings(POSITION_AND_COLOR, widths, self.pair_weight))
        return CrfSettings(tuple(kernels), self.iterations)


RELEASED = Smoothing()


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
