"""Array types that cross module borders; free of jax, so that input workers start fast.

Letters used everywhere: `T_l` rows of a bucket at level `l`, `B` clouds of a bucket, `N`/`M`
support and query rows, `H` neighbor slots, `K` kernel points, `C`/`D` input and output channels.
An index equal to the number of rows it points into (the shadow index) means "no row".

Signatures name shapes by these letters: `Float[Array, "N 3"]`. A shape of one name begins with a
space, `Int32[Array, " T"]`, or linters take it for a type.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Bool, Float32, Int32

if TYPE_CHECKING:
    import jaxtyping
    import numpy as np

    Array: TypeAlias = np.ndarray | jaxtyping.Array  # on the host, and jax.Array in traced code
else:

    @runtime_checkable
    class Array(Protocol):
        """np.ndarray on the host, jax.Array in traced code; known by what both have."""

        shape: tuple[int, ...]
        dtype: Any


IGNORED = -1  # point label of unannotated points and of padding
MAX_CLASSES = 255  # pseudo-labels are stored in bytes, 255 for none
DATA_AXIS = "data"  # mesh axis over which buckets are spread
PATHS = ("plain", "spatial", "channel", "pointwise")


class PointPyramid(NamedTuple):
    """A bucket of clouds packed end to end, at every resolution; the last rows are padding.

    Level 0 is the finest; there are L levels. Lists never cross clouds and are nearest first.
    """

    points: tuple[Array, ...]  # L x [T_l, 3] float32, meters, relative to the center of the ball
    clouds: tuple[Array, ...]  # L x [T_l] int32, cloud of the row; B on padding
    neighbors: tuple[Array, ...]  # L x [T_l, H_l] int32 into level l
    pools: tuple[Array, ...]  # (L-1) x [T_{l+1}, P_l] int32 into level l
    upsamples: tuple[Array, ...]  # (L-1) x [T_l] int32 into level l+1
    real: Bool[Array, " B"]  # the cloud has a row of the coarsest level; False for an empty place

    @property
    def num_clouds(self) -> int:
        """B, places for clouds; marks padding in `clouds`."""
        return len(self.real)


class Batch(NamedTuple):
    """One bucket per device; across devices the buckets are concatenated along the first axis."""

    pyramid: PointPyramid
    features: Float32[Array, "T_0 C"]  # 1, red, green, blue in [0, 1]; zero on padding
    cloud_labels: Bool[Array, "B num_classes"]  # class present in the ball
    point_labels: Int32[Array, " T_0"]  # to learn; IGNORED on padding and where there is none


class Ratio(NamedTuple):
    """A mean kept as its parts, so that it sums over devices and steps."""

    total: Array
    count: Array


class MprmOutput(NamedTuple):
    """What the classification network says about a bucket, one entry per path."""

    class_logits: Float32[Array, "num_paths B num_classes"]
    point_scores: Float32[Array, "num_paths T_top num_classes"]  # of the coarsest rows
