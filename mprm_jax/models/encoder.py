"""The backbone: two blocks per level, the second of which strides to the next."""

import flax.linen as nn
from jaxtyping import Float

from mprm_jax.config import ModelConfig
from mprm_jax.errors import UserError
from mprm_jax.models.blocks import ResnetBottleneckBlock, SimpleBlock, surroundings
from mprm_jax.types import Array, PointPyramid


class Encoder(nn.Module):
    """Residual KPConv backbone over every level of a pyramid.

    With F first features, on three levels: simple F and bottleneck 2F, stride 2F; bottleneck 4F,
    stride 4F; bottleneck 8F. Source: Wei et al. 2020, 5.2; mprm `training_mprm.py`.
    """

    config: ModelConfig
    voxel_size: float  # meters, of level 0
    axis_name: str | None = None  # mesh axis that buckets are spread over

    @nn.compact
    def __call__(
        self, pyramid: PointPyramid, features: Float[Array, "T_0 C"], *, train: bool = False
    ) -> tuple[Float[Array, "_ _"], ...]:
        """Computes the features of every level, each before its stride.

        Args:
          pyramid: L levels.
          train: batch statistics, over `axis_name` too, instead of running ones.

        Returns:
          L arrays, [T_l, 2 ** (l + 1) * first_features], of the config's type.
        """
        if len(features) != len(pyramid.points[0]):
            raise UserError(
                f"{len(features)} rows of features for {len(pyramid.points[0])} points of level 0."
            )
        around = surroundings(pyramid, 0)
        simple = SimpleBlock(
            self.config.first_features,
            self._extent(0),
            self.config,
            self.axis_name,
            name="level0_simple",
        )
        x = simple(around, features.astype(self.config.dtype), train=train)
        outputs = []
        for level in range(len(pyramid.points)):
            around = surroundings(pyramid, level)
            x = self._block(level, strided=False)(around, x, train=train)
            outputs.append(x)
            if level + 1 < len(pyramid.points):
                around = surroundings(pyramid, level, strided=True)
                x = self._block(level, strided=True)(around, x, train=train)
        return tuple(outputs)

    def _block(self, level: int, *, strided: bool) -> nn.Module:
        return ResnetBottleneckBlock(
            features=self.config.first_features * 2 ** (level + 1),
            extent=self._extent(level),
            deformable=self.config.deformable and level >= self.config.first_deformable,
            strided=strided,
            config=self.config,
            axis_name=self.axis_name,
            name=f"level{level}_{'stride' if strided else 'block'}",
        )

    def _extent(self, level: int) -> float:
        return self.config.kernel_extent * self.voxel_size * 2**level
