"""Settings of a dense CRF: its kernels, and those of the released MPRM code."""

import dataclasses
import math

from mprm_jax.crf.mean_field import NORMALIZATIONS
from mprm_jax.errors import UserError


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
    """A fully connected CRF with Gaussian kernels."""

    kernels: tuple[KernelSettings, ...]
    num_iterations: int = 5
    normalization: str = "symmetric"

    def __post_init__(self):
        if self.num_iterations < 0:
            raise UserError(f"num_iterations is {self.num_iterations}; give 0 or more.")
        if self.normalization not in NORMALIZATIONS:
            raise UserError(
                f"normalization is {self.normalization!r}; give one of {[*NORMALIZATIONS]}."
            )


POSITION = (0, 1, 2)  # columns x, y, z in meters
POSITION_AND_COLOR = (0, 1, 2, 3, 4, 5)  # then red, green, blue in [0, 1]

# Of mprm crf_postprocessing.py, for columns x, y, z, r, g, b.
RELEASED = CrfSettings(
    kernels=(
        KernelSettings(POSITION, (0.2,) * 3, weight=3.0),
        KernelSettings(POSITION_AND_COLOR, (0.2,) * 3 + (0.04,) * 3, weight=10.0),
    ),
    num_iterations=5,
    normalization="symmetric",
)
RELEASED_TRUST = 0.5  # share of the probabilities in the unary, beside uniform ones
RELEASED_FLOOR = 1e-5  # smallest probability
