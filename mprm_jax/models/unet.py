"""The segmentation network: the backbone, and a decoder back to every point (KP-FCNN)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Float32

from mprm_jax.config import ModelConfig
from mprm_jax.models.encoder import Encoder
from mprm_jax.models.layers import CloudDropout, UnaryBlock
from mprm_jax.ops.pooling import nearest_upsample
from mprm_jax.types import Array, PointPyramid


class UNet(nn.Module):
    """KPConv U-Net: each decoder level joins coarse features and skip by a 1x1 convolution.

    With F first features, level l of the decoder has F * 2^l; the skips are the encoder's outputs
    before each stride. Source: Thomas et al. 2019, supplementary B; mprm `training_segmentation.py`
    and `models/network_blocks_original.py`.
    """

    num_classes: int
    config: ModelConfig = ModelConfig()
    voxel_size: float = 0.04  # meters, of level 0
    axis_name: str | None = None  # mesh axis that buckets are spread over, as of `nn.BatchNorm`

    @nn.compact
    def __call__(
        self, pyramid: PointPyramid, features: Float[Array, "T_0 C"], *, train: bool = False
    ) -> Float32[Array, "T_0 {self.num_classes}"]:
        """Scores the classes of every row of level 0.

        Args:
          pyramid: of a bucket.
          features: e.g. 1, red, green, blue.
          train: batch statistics and dropout, which draws from the key "dropout".

        Returns:
          Logits; without meaning on padding.
        """
        encoder = Encoder(self.config, self.voxel_size, self.axis_name, name="encoder")
        *skips, x = encoder(pyramid, features, train=train)
        masks = [clouds < pyramid.num_clouds for clouds in pyramid.clouds]
        for level in reversed(range(len(skips))):
            x = jnp.concatenate(
                [nearest_upsample(x, pyramid.upsamples[level]), skips[level]], axis=-1
            )
            x = self._unary(level, f"level{level}_decoder")(x, masks[level], train=train)
        x = self._unary(0, "head")(x, masks[0], train=train)
        dropout = CloudDropout(self.config.dropout, self.axis_name, name="dropout")
        x = dropout(x, pyramid.clouds[0], pyramid.num_clouds, train=train).astype(jnp.float32)
        return nn.Dense(self.num_classes, use_bias=self.config.head_bias, name="classifier")(x)

    def _unary(self, level: int, name: str) -> UnaryBlock:
        width = self.config.first_features * 2**level
        norm = self.config.keep, self.config.negative_slope, self.axis_name
        return UnaryBlock(width, *norm, name=name)
