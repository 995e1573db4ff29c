"""Buckets of bare points, for networks that compute the geometry in their own step."""

import dataclasses
from typing import NamedTuple

import numpy as np

from mprm_jax.batches.balls import Balls
from mprm_jax.batches.packing import BucketShape
from mprm_jax.batches.plan import mixed
from mprm_jax.batches.shapes import bucket_shape, pyramid_spec
from mprm_jax.config import AugmentConfig, Config
from mprm_jax.errors import UserError
from mprm_jax.geometry.pyramid import Capacities, PyramidSpec
from mprm_jax.types import IGNORED, Array

AT_REST = -1  # epoch of balls that do not move


class Recipe(NamedTuple):
    """All that turns bare points into a network's input; static to compiled programs."""

    spec: PyramidSpec
    capacities: Capacities
    augment: AugmentConfig
    seed: int
    height: bool  # is a feature


@dataclasses.dataclass(frozen=True)
class BareBatch:
    """One bucket per device; across devices the buckets are concatenated along the first axis."""

    points: Array  # [T_0, 3] float32, meters, relative to the center of the ball
    clouds: Array  # [T_0] int32, place of the row's ball in the bucket; B on padding
    colors: Array  # [T_0, 3] uint8
    balls: Array  # [B] int32, the ball at a place: its random motion depends on it
    mixed: Array  # [B] int32, cloud of a ball: its own place, or that of the ball it is laid over
    epoch: Array  # [1] int32, of the random motion; AT_REST for none
    cloud_labels: Array  # as of `Batch`
    point_labels: Array  # as of `Batch`
    recipe: Recipe

    @property
    def num_clouds(self) -> int:
        """Places for clouds, of all buckets."""
        return len(self.balls)


class BareBucketBuilder:
    """Turns lists of balls into buckets; made once per worker."""

    def __init__(self, balls: Balls, config: Config):
        self._balls = balls
        self.shape: BucketShape = bucket_shape(config, balls.num_classes)
        self.recipe = make_recipe(config)

    def __call__(self, members: list[list[int]], epoch: int | None) -> BareBatch:
        """The concatenated buckets of a step.

        Raises:
          ValueError: more balls or points than a bucket holds.
        """
        batch = self._empty(len(members), AT_REST if epoch is None else epoch)
        rows, places = self.shape.rows[0], self.shape.clouds
        for bucket, balls in enumerate(members):
            start = bucket * rows
            for number, index in enumerate(balls):
                ball, labels = self._balls.bare(index)
                end = start + len(labels)
                if end > (bucket + 1) * rows or number == places:
                    raise UserError(f"{len(balls)} balls do not fit a bucket; calibrate again.")
                batch.points[start:end] = ball.points
                batch.colors[start:end] = self._balls.seen_colors(
                    ball.colors, index, epoch, self.recipe.augment.drop_color
                )
                batch.clouds[start:end] = number
                batch.point_labels[start:end] = labels
                place = bucket * places + number
                batch.balls[place] = index
                batch.cloud_labels[place] = self._balls.tags_of(index)
                start = end
            batch.mixed[bucket * places :][: len(balls)] = self._clouds(balls, epoch)
        return batch

    def _clouds(self, balls: list[int], epoch: int | None) -> Array:
        """The cloud of each ball of a bucket, by the place of its first ball."""
        clouds = mixed(balls, self.recipe.augment.mix, self.recipe.seed, epoch)
        sizes = np.array([len(cloud) for cloud in clouds], int)
        return np.repeat(np.cumsum(sizes) - sizes, sizes)

    def _empty(self, num_buckets: int, epoch: int) -> BareBatch:
        """Buckets of padding."""
        rows, places = num_buckets * self.shape.rows[0], num_buckets * self.shape.clouds
        return BareBatch(
            points=np.zeros((rows, 3), np.float32),
            clouds=np.full(rows, self.shape.clouds, np.int32),
            colors=np.zeros((rows, 3), np.uint8),
            balls=np.zeros(places, np.int32),
            mixed=np.tile(np.arange(self.shape.clouds, dtype=np.int32), num_buckets),
            epoch=np.full(num_buckets, epoch, np.int32),
            cloud_labels=np.zeros((places, self.shape.num_classes), bool),
            point_labels=np.full(rows, IGNORED, np.int32),
            recipe=self.recipe,
        )


def make_recipe(config: Config) -> Recipe:
    """The recipe of a calibrated config."""
    pyramid = config.pyramid
    capacities = Capacities(pyramid.coarse_points, pyramid.candidates, pyramid.upsample_candidates)
    spec, height = pyramid_spec(config), config.model.height
    return Recipe(spec, capacities, config.augment, config.seed, height)
