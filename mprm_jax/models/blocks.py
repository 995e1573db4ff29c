"""Blocks of the backbone: a plain convolution, and residual bottlenecks."""

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Bool, Float, Int32

from mprm_jax.config import ModelConfig
from mprm_jax.models.layers import DeformableKPConv, KPConv, MaskedBatchNorm, UnaryBlock, unary
from mprm_jax.ops.pooling import neighbor_max
from mprm_jax.types import Array, PointPyramid


class Surroundings(NamedTuple):
    """What a convolution goes over: the rows it makes, the rows it reads, and its lists."""

    queries: Float[Array, "M 3"]  # meters
    supports: Float[Array, "N 3"]  # meters; the same rows as `queries` unless strided
    neighbors: Int32[Array, "M H"]  # into `supports`; N marks an empty slot
    query_mask: Bool[Array, " M"]  # False on padding
    support_mask: Bool[Array, " N"]


def surroundings(pyramid: PointPyramid, level: int, *, strided: bool = False) -> Surroundings:
    """What a block at `level` goes over; a strided one makes rows of the next level."""
    target = level + 1 if strided else level
    return Surroundings(
        queries=pyramid.points[target],
        supports=pyramid.points[level],
        neighbors=pyramid.pools[level] if strided else pyramid.neighbors[level],
        query_mask=pyramid.clouds[target] < pyramid.num_clouds,
        support_mask=pyramid.clouds[level] < pyramid.num_clouds,
    )


class SimpleBlock(nn.Module):
    """Rigid convolution, batch norm, leaky ReLU."""

    features: int
    extent: float  # meters
    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, around: Surroundings, x: Float[Array, "N C"], *, train: bool
    ) -> Float[Array, "M {self.features}"]:
        conv = KPConv(self.features, self.config.num_kernel_points, self.extent, name="conv")
        x = conv(around.queries, around.supports, around.neighbors, x)
        norm = MaskedBatchNorm(self.config.keep, self.axis_name, name="norm")
        x = norm(x, around.query_mask, train=train)
        return nn.leaky_relu(x, self.config.negative_slope)


class ResnetBottleneckBlock(nn.Module):
    """Residual block: 1x1 to a quarter of the features, a convolution, 1x1 back.

    Where the surroundings are strided, the shortcut takes the maximum over the pooled rows.
    """

    features: int
    extent: float  # meters
    deformable: bool
    strided: bool
    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, around: Surroundings, x: Float[Array, "N C"], *, train: bool
    ) -> Float[Array, "M {self.features}"]:
        keep, slope = self.config.keep, self.config.negative_slope
        inner = UnaryBlock(self.features // 4, keep, slope, self.axis_name, name="reduce")
        y = inner(x, around.support_mask, train=train)
        y = self._conv()(around.queries, around.supports, around.neighbors, y)
        y = self._norm("conv_norm")(y, around.query_mask, train=train)
        y = unary(self.features, "expand", y.dtype)(nn.leaky_relu(y, slope))
        y = self._norm("expand_norm")(y, around.query_mask, train=train)
        return nn.leaky_relu(y + self._shortcut(around, x, train), slope)

    def _conv(self) -> nn.Module:
        kernel = self.features // 4, self.config.num_kernel_points, self.extent
        if self.deformable:
            reads = self.config.reach_neighbors, self.config.modulated
            return DeformableKPConv(*kernel, *reads, name="conv")
        return KPConv(*kernel, name="conv")

    def _shortcut(
        self, around: Surroundings, x: Float[Array, "N C"], train: bool
    ) -> Float[Array, "M {self.features}"]:
        if self.strided:
            x = neighbor_max(x, around.neighbors)
        if x.shape[-1] == self.features:
            return x
        x = unary(self.features, "shortcut", x.dtype)(x)
        return self._norm("shortcut_norm")(x, around.query_mask, train=train)

    def _norm(self, name: str) -> MaskedBatchNorm:
        return MaskedBatchNorm(self.config.keep, self.axis_name, name=name)
