"""MPRM: a backbone, several paths of region mining, and the class scores of each."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mprm_jax.config import ModelConfig
from mprm_jax.models.encoder import Encoder
from mprm_jax.models.paths import ChannelPath, Head, PointwisePath, SpatialPath
from mprm_jax.ops.pooling import cloud_log_mean_exp, cloud_mean
from mprm_jax.types import Array, MprmOutput, PointPyramid


class Mprm(nn.Module):
    """Multi-path region mining network (Wei et al. 2020, 4.2); one path "plain" is PCAM (4.1)."""

    config: ModelConfig
    num_classes: int
    voxel_size: float  # meters, of level 0

    @nn.compact
    def __call__(
        self, pyramid: PointPyramid, features: Array, num_clouds: int, *, train: bool
    ) -> MprmOutput:
        """Scores the classes of every cloud and of every coarsest row, on each path.

        Args:
          pyramid: of a bucket.
          features: [T_0, C].
          num_clouds: B, places for clouds in the bucket.
          train: batch statistics over the mesh axis `DATA_AXIS`, and dropout.
        """
        encoder = Encoder(self.config, self.voxel_size, name="encoder")
        top = encoder(pyramid, features, num_clouds, train=train)[-1].astype(jnp.float32)
        clouds = pyramid.clouds[-1]
        scores = [self._scores(path, top, clouds, num_clouds, train) for path in self.config.paths]
        scores = jnp.stack(scores)
        logits = jax.vmap(lambda path: self._pool(path, clouds, num_clouds))(scores)
        return MprmOutput(class_logits=logits, point_scores=scores)

    def _scores(
        self, path: str, features: Array, clouds: Array, num_clouds: int, train: bool
    ) -> Array:
        if path == "spatial":
            features = SpatialPath(self.config, num_clouds, name=path)(
                features, clouds, train=train
            )
        elif path == "channel":
            features = ChannelPath(num_clouds, name=path)(features, clouds)
        elif path == "pointwise":
            features = PointwisePath(self.config, num_clouds, name=path)(
                features, clouds, train=train
            )
        head = Head(self.num_classes, num_clouds, self.config, name=f"{path}_head")
        return head(features, clouds, train=train)

    def _pool(self, scores: Array, clouds: Array, num_clouds: int) -> Array:
        if self.config.pooling == "mean":
            return cloud_mean(scores, clouds, num_clouds)
        return cloud_log_mean_exp(scores, clouds, num_clouds, self.config.pooling_sharpness)
