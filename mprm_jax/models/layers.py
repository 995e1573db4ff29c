"""Layers with parameters: 1x1 and kernel point convolutions, and batch norm that skips padding."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Int32

from mprm_jax.geometry.kernel_points import KERNEL_RADIUS, unit_kernel
from mprm_jax.ops.deformable import (
    deformable_kpconv,
    find_reach,
    fitting_loss,
    left_out,
    repulsion_loss,
)
from mprm_jax.ops.dropout import kept_features
from mprm_jax.ops.kpconv import kpconv
from mprm_jax.ops.norm import masked_moments
from mprm_jax.types import Array, Ratio

# He et al. 2015 with the fan-in of a kernel that is only partly reached: on voxelized surfaces the
# influences of all neighbors, squared and summed over 15 kernel points, come to 4 where neighbors
# have independent features and to 12 where they have equal ones. K / 2 lies between.
_REACHED_SHARE = 0.5
_kernel_init = nn.initializers.variance_scaling(2.0 / _REACHED_SHARE, "fan_in", "truncated_normal")


class MaskedBatchNorm(nn.Module):
    """Batch norm over the valid rows of all devices; running statistics when not training.

    Computes in float32 and returns the type of its input.
    """

    keep: float  # share of the running statistics a step keeps
    axis_name: str | None = None  # mesh axis that rows are spread over, as of `nn.BatchNorm`
    epsilon: float = 1e-6  # mprm network_blocks_mprm.py, batch_norm

    @nn.compact
    def __call__(
        self, x: Float[Array, "T C"], mask: Bool[Array, " T"], *, train: bool
    ) -> Float[Array, "T C"]:
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        x, dtype = x.astype(jnp.float32), x.dtype
        if train:
            mean, var = masked_moments(x, mask, self.axis_name)
            running_mean.value = self.keep * running_mean.value + (1 - self.keep) * mean
            running_var.value = self.keep * running_var.value + (1 - self.keep) * var
        else:
            mean, var = running_mean.value, running_var.value
        slope = scale * jax.lax.rsqrt(var + self.epsilon)
        return (x * slope[None] + (bias - mean * slope)[None]).astype(dtype)


class UnaryBlock(nn.Module):
    """1x1 convolution, batch norm, leaky ReLU."""

    features: int
    keep: float
    negative_slope: float
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "T C"], mask: Bool[Array, " T"], *, train: bool
    ) -> Float[Array, "T {self.features}"]:
        x = unary(self.features, dtype=x.dtype)(x)
        x = MaskedBatchNorm(self.keep, self.axis_name, name="norm")(x, mask, train=train)
        return nn.leaky_relu(x, self.negative_slope)


class CloudDropout(nn.Module):
    """Dropout that draws by cloud, so that neither packing nor devices change the draw."""

    rate: float  # share that is set to 0 in training
    axis_name: str | None = None  # mesh axis that clouds are spread over

    @nn.compact
    def __call__(
        self, x: Float[Array, "T C"], clouds: Int32[Array, " T"], num_clouds: int, *, train: bool
    ) -> Float[Array, "T C"]:
        if not train or self.rate == 0:
            return x
        keep, device = 1.0 - self.rate, 0
        if self.axis_name is not None:
            device = jax.lax.axis_index(self.axis_name)
        kept = kept_features(
            self.make_rng("dropout"),
            clouds,
            num_clouds,
            x.shape[-1],
            keep=keep,
            first_cloud=device * num_clouds,
        )
        return jnp.where(kept, x / keep, 0.0).astype(x.dtype)


class KPConv(nn.Module):
    """Rigid kernel point convolution with learned weights."""

    features: int
    num_kernel_points: int
    extent: float  # meters

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "M 3"],
        supports: Float[Array, "N 3"],
        neighbors: Int32[Array, "M H"],
        x: Float[Array, "N C"],
    ) -> Float[Array, "M {self.features}"]:
        points = scaled_kernel(self.num_kernel_points, self.extent)
        shape = (self.num_kernel_points, x.shape[-1], self.features)
        weights = self.param("weights", _kernel_init, shape)
        kernel = {"kernel_points": points, "weights": weights, "extent": self.extent}
        return kpconv(queries, supports, neighbors, x, **kernel)


class DeformableKPConv(nn.Module):
    """Kernel point convolution whose kernel each query deforms by offsets it predicts.

    Sows the Ratios "fitting" and "repulsion" into the collection "losses", and into "shares"
    "left_out", neighbors in reach that the kernel does not read.
    """

    features: int
    num_kernel_points: int
    extent: float  # meters
    reach_neighbors: int  # the most that a kernel reads of its list
    modulated: bool = False

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "M 3"],
        supports: Float[Array, "N 3"],
        neighbors: Int32[Array, "M H"],
        x: Float[Array, "N C"],
    ) -> Float[Array, "M {self.features}"]:
        shape = (self.num_kernel_points, x.shape[-1], self.features)
        weights = self.param("weights", _kernel_init, shape)
        # The kernel that predicts is rigid, so that the nearest neighbors are all it reaches.
        near = neighbors[:, : self.reach_neighbors]
        offsets, modulations = self._predict(queries, supports, near, x)
        kernel = {"kernel_points": self._points(), "offsets": offsets, "extent": self.extent}
        reach = find_reach(queries, supports, neighbors, width=self.reach_neighbors, **kernel)
        fitting = fitting_loss(queries, supports, reach.nearest, **kernel)
        repulsion = repulsion_loss(neighbors, len(supports), **kernel)
        if not self.is_initializing():  # `init` then returns parameters and statistics only
            self._sow("losses", "fitting", fitting)
            self._sow("losses", "repulsion", repulsion)
            self._sow("shares", "left_out", left_out(reach.num_reached, self.reach_neighbors))
        lists = queries, supports, reach.neighbors
        return deformable_kpconv(*lists, x, weights=weights, modulations=modulations, **kernel)

    def _predict(
        self,
        queries: Float[Array, "M 3"],
        supports: Float[Array, "N 3"],
        neighbors: Int32[Array, "M H"],
        x: Float[Array, "N C"],
    ) -> tuple[Float32[Array, "M K 3"], Float32[Array, "M K"] | None]:
        """Offsets in meters, and modulations in (0, 2) if asked for."""
        num_points, zeros = self.num_kernel_points, nn.initializers.zeros
        width = num_points * (4 if self.modulated else 3)
        weights = self.param("offset_weights", zeros, (num_points, x.shape[-1], width))
        bias = self.param("offset_bias", zeros, (width,))
        kernel = {"kernel_points": self._points(), "weights": weights, "extent": self.extent}
        moves = kpconv(queries, supports, neighbors, x, **kernel)
        moves = moves.astype(jnp.float32) + bias[None]
        offsets = moves[:, : 3 * num_points].reshape(-1, num_points, 3) * self.extent
        modulations = 2.0 * nn.sigmoid(moves[:, 3 * num_points :]) if self.modulated else None
        return offsets, modulations

    def _points(self) -> Float32[Array, "K 3"]:
        return scaled_kernel(self.num_kernel_points, self.extent)

    def _sow(self, collection: str, name: str, value: Ratio) -> None:
        self.sow(collection, name, value, init_fn=lambda: None, reduce_fn=lambda _, new: new)


def unary(features: int, name: str = "unary", dtype: Any = jnp.float32) -> nn.Dense:
    """1x1 convolution without a bias, computed in a type; its parameters are float32."""
    init = nn.initializers.he_normal()
    return nn.Dense(features, use_bias=False, kernel_init=init, name=name, dtype=dtype)


def scaled_kernel(num_points: int, extent: float) -> Float32[Array, "{num_points} 3"]:
    """Kernel points in meters."""
    return jnp.asarray(unit_kernel(num_points) * (KERNEL_RADIUS * extent))
