"""MPRM: a backbone, several paths of region mining, and the class scores of each."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32

from mprm_jax.config import ModelConfig
from mprm_jax.models.encoder import Encoder
from mprm_jax.models.paths import ChannelPath, Head, PointwisePath, SpatialPath
from mprm_jax.ops.pooling import cloud_log_mean_exp, cloud_mean
from mprm_jax.types import Array, MprmOutput, PointPyramid


class Mprm(nn.Module):
    """Multi-path region mining network (Wei et al. 2020, 4.2); one path "plain" is PCAM (4.1)."""

    num_classes: int
    config: ModelConfig = ModelConfig()
    voxel_size: float = 0.04  # meters, of level 0
    axis_name: str | None = None  # mesh axis that buckets are spread over, as of `nn.BatchNorm`

    @nn.compact
    def __call__(
        self, pyramid: PointPyramid, features: Float[Array, "T_0 C"], *, train: bool = False
    ) -> MprmOutput:
        """Scores the classes of every cloud and of every coarsest row, on each path.

        Args:
          pyramid: of a bucket.
          features: e.g. 1, red, green, blue.
          train: batch statistics and dropout, which draws from the key "dropout".
        """
        encoder = Encoder(self.config, self.voxel_size, self.axis_name, name="encoder")
        top = encoder(pyramid, features, train=train)[-1].astype(jnp.float32)
        scores = jnp.stack([self._scores(x, top, pyramid, train) for x in self.config.paths])
        logits = jax.vmap(lambda path: self._pool(path, pyramid))(scores)
        return MprmOutput(class_logits=logits, point_scores=scores)

    def _scores(
        self, path: str, features: Float32[Array, "T C"], pyramid: PointPyramid, train: bool
    ) -> Float32[Array, "T {self.num_classes}"]:
        clouds, num_clouds = pyramid.clouds[-1], pyramid.num_clouds
        if path == "spatial":
            spatial = SpatialPath(self.config, num_clouds, self.axis_name, name=path)
            features = spatial(features, clouds, train=train)
        elif path == "channel":
            features = ChannelPath(num_clouds, name=path)(features, clouds)
        elif path == "pointwise":
            pointwise = PointwisePath(self.config, num_clouds, self.axis_name, name=path)
            features = pointwise(features, clouds, train=train)
        head = Head(self.num_classes, num_clouds, self.config, self.axis_name, name=f"{path}_head")
        return head(features, clouds, train=train)

    def _pool(
        self, scores: Float32[Array, "T num_classes"], pyramid: PointPyramid
    ) -> Float32[Array, "B num_classes"]:
        clouds = pyramid.clouds[-1], pyramid.num_clouds
        if self.config.pooling == "mean":
            return cloud_mean(scores, *clouds)
        return cloud_log_mean_exp(scores, *clouds, self.config.pooling_sharpness)
