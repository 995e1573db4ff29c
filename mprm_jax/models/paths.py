"""The paths of region mining: what each makes of the backbone's features, and its classifier.

Every path but the plain one takes features of the coarsest rows and the cloud of each row, where
`num_clouds` marks padding.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Int32

from mprm_jax.config import ModelConfig
from mprm_jax.models.layers import CloudDropout, UnaryBlock, unary
from mprm_jax.ops.attention import channel_attention, spatial_attention
from mprm_jax.ops.pcam import class_scores
from mprm_jax.types import Array


class SpatialPath(nn.Module):
    """Adds to each point what it aggregates over the points of its cloud."""

    config: ModelConfig
    num_clouds: int
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: Float[Array, "T C"], clouds: Int32[Array, " T"], *, train: bool
    ) -> Float[Array, "T C"]:
        attention = PointAttention(self.config, self.num_clouds, self.axis_name, name="attention")
        aggregated = attention(features, clouds, train=train)
        gate = self.param("gate", nn.initializers.zeros, ())  # alpha of eq. 4
        return gate * unary(features.shape[-1], "expand")(aggregated) + features


class ChannelPath(nn.Module):
    """Adds to each channel what it aggregates over the channels of its cloud."""

    num_clouds: int

    @nn.compact
    def __call__(
        self, features: Float[Array, "T C"], clouds: Int32[Array, " T"]
    ) -> Float[Array, "T C"]:
        gate = self.param("gate", nn.initializers.zeros, ())  # beta of eq. 6
        return gate * channel_attention(features, clouds, self.num_clouds) + features


class PointwisePath(nn.Module):
    """Puts beside each point what it aggregates over the points of its cloud (paper 4.2.3)."""

    config: ModelConfig
    num_clouds: int
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: Float[Array, "T C"], clouds: Int32[Array, " T"], *, train: bool
    ) -> Float[Array, "T C+{self.config.attention_features}"]:
        attention = PointAttention(self.config, self.num_clouds, self.axis_name, name="attention")
        aggregated = attention(features, clouds, train=train)
        return jnp.concatenate([features, aggregated], axis=-1)


class PointAttention(nn.Module):
    """Attention between the points of each cloud, by three 1x1 convolutions to C1 features."""

    config: ModelConfig
    num_clouds: int
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: Float[Array, "T C"], clouds: Int32[Array, " T"], *, train: bool
    ) -> Float[Array, "T {self.config.attention_features}"]:
        def dense(name: str) -> Float[Array, "T C1"]:
            width = self.config.attention_features
            if self.config.attention_unary == "plain":
                return unary(width, name)(features)
            norm = self.config.keep, self.config.negative_slope, self.axis_name
            block = UnaryBlock(width, *norm, name=name)
            return block(features, clouds < self.num_clouds, train=train)

        rows = dense("queries"), dense("keys"), dense("values")
        return spatial_attention(*rows, clouds, self.num_clouds)


class Head(nn.Module):
    """Dropout, then a linear classifier: the class scores of every row."""

    num_classes: int
    num_clouds: int
    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: Float[Array, "T C"], clouds: Int32[Array, " T"], *, train: bool
    ) -> Float[Array, "T {self.num_classes}"]:
        dropout = CloudDropout(self.config.dropout, self.axis_name, name="dropout")
        features = dropout(features, clouds, self.num_clouds, train=train)
        shape = (features.shape[-1], self.num_classes)
        weights = self.param("weights", nn.initializers.lecun_normal(), shape)
        bias = None
        if self.config.head_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.num_classes,))
        return class_scores(features, weights, bias)
