"""Balls cut out of voxel clouds: the clouds that networks are trained on and asked about."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mprm_jax.batches.kept import Kept
from mprm_jax.batches.packing import Cloud
from mprm_jax.config import Config
from mprm_jax.geometry.augmentation import jitter, random_transform
from mprm_jax.geometry.balls import scan_ball
from mprm_jax.geometry.pyramid import CloudPyramid, PyramidSpec, build_pyramid, coarsen
from mprm_jax.store.scenes import VoxelClouds
from mprm_jax.types import IGNORED, Array


class Ball(NamedTuple):
    """Points of one ball, as stored."""

    rows: Array  # [N] int32, ascending rows of the scene's voxel cloud
    points: Array  # [N, 3] float32, meters, relative to the ball's center
    colors: Array  # [N, 3] uint8


class BarePoints(NamedTuple):
    """Points of one ball without their rows."""

    points: Array  # [N, 3] float32, meters, relative to the ball's center
    colors: Array  # [N, 3] uint8


class Places(NamedTuple):
    """Where S balls lie; none of them is empty."""

    scene_of: Array  # [S] int, ascending
    centers: Array  # [S, 3] float32, meters
    radii: Array  # [S] meters
    num_points: Array  # [S] int, voxels inside


class Balls:
    """Balls in the order of their scenes; children add what is known of their points.

    A ball of more than `max_points` voxels is thinned to a fixed random choice of as many; the
    number of such balls is `num_thinned`. Travels to worker processes as a whole.

    In an epoch of training a ball moves at random. With `augment.grid` "fixed" its pyramid is built
    as it lies and moves with it, so that `keep` saves building it again.
    """

    def __init__(self, clouds: VoxelClouds, places: Places, num_classes: int, config: Config):
        self.clouds, self.num_classes, self.config = clouds, num_classes, config
        self.scenes: Sequence[str] = clouds.scenes
        self.scene_of, self.centers, self.radii = places.scene_of, places.centers, places.radii
        self.max_points = config.pyramid.bucket_points
        self.num_voxels_of: Array = places.num_points
        self.num_points: Array = np.minimum(places.num_points, self.max_points)
        self.num_thinned = int(np.sum(places.num_points > self.max_points))
        self._has_fixed_grid = config.augment.grid == "fixed"
        self._kept = Kept(0)

    def __len__(self) -> int:
        return len(self.scene_of)

    def keep(self, gigabytes: float) -> None:
        """Keeps pyramids, each process up to so much; none if no epoch uses them again."""
        self._kept = Kept(gigabytes if self._has_fixed_grid else 0)

    @property
    def passes(self) -> Sequence[Array]:
        """Balls that one pass over the scenes visits; passes take these lists in turn."""
        return (np.arange(len(self)),)

    def tags_of(self, index: int) -> Array:
        """Classes known to occur in a ball, [num_classes] bool."""
        return np.zeros(self.num_classes, bool)

    def labels_of(self, index: int, rows: Array) -> Array:
        """Labels to learn for `rows` of the ball's scene, int32."""
        return np.full(len(rows), IGNORED, np.int32)

    def num_voxels(self, scene: int) -> int:
        """Voxels of the scene with this place in `scenes`."""
        return self.clouds.num_voxels(scene)

    def name(self, index: int) -> str:
        """Scene and center of a ball, for messages."""
        center = ", ".join(f"{value:.2f}" for value in self.centers[index])
        return f"{self.scenes[self.scene_of[index]]} at ({center})"

    def rows(self, index: int) -> Array:
        """Ascending rows of all voxels of one ball, also of one too large for a bucket; int32."""
        coords, _ = self.clouds.cloud(int(self.scene_of[index]))
        return scan_ball(coords, self.centers[index], self.radii[index])

    def read(self, index: int) -> Ball:
        """The points of one ball; of a thinned one those that are kept."""
        return self.part(index, 0)

    def part(self, index: int, number: int) -> Ball:
        """One of the parts of a ball that are as large as a bucket, and hold all of it together.

        The parts are cut from one random order of the voxels, so that each is as spread out as the
        ball; the last one takes some voxels of others to be as large.
        """
        coords, colors = self.clouds.cloud(int(self.scene_of[index]))
        rows = self.rows(index)
        if len(rows) > self.max_points:
            order = np.random.default_rng((2, index)).permutation(len(rows))
            start = min(number * self.max_points, len(rows) - self.max_points)
            rows = rows[np.sort(order[start : start + self.max_points])]
        return Ball(rows, coords[rows] - self.centers[index][None], colors[rows])

    def level_sizes(self, index: int, epoch: int | None) -> list[int]:
        """Points of a ball at every level, once it has moved as in `cloud`."""
        points = self.read(index).points
        if epoch is not None and not self._has_fixed_grid:
            (points,) = self.moved((points,), index, epoch)
        num_levels = self.config.pyramid.num_levels
        return [len(x) for x in coarsen(points, self.config.data.voxel_size, num_levels)]

    def bare(self, index: int) -> tuple[BarePoints, Array]:
        """The points of one ball and the labels to learn, int32."""
        rows, points, colors = self.read(index)
        return BarePoints(points, colors), self.labels_of(index, rows)

    def cloud(
        self, members: Sequence[int], spec: PyramidSpec, epoch: int | None, drop_color: float = 0.0
    ) -> Cloud:
        """Balls laid over one another, with pyramid and features; a training epoch moves each.

        Args:
          members: the balls, mostly one.
          epoch: None leaves the points where they are.
          drop_color: as of `seen_colors`.
        """
        parts = [self._with_pyramid(index, spec, epoch) for index in members]
        balls = [
            Ball(
                ball.rows,
                pyramid.points[0],
                self.seen_colors(ball.colors, index, epoch, drop_color),
            )
            for index, (ball, pyramid) in zip(members, parts, strict=True)
        ]
        labels = [
            self.labels_of(index, ball.rows) for index, ball in zip(members, balls, strict=True)
        ]
        return Cloud(
            _one_pyramid([pyramid for _, pyramid in parts], spec),
            np.concatenate([self._features(ball) for ball in balls]),
            np.any([self.tags_of(index) for index in members], axis=0),
            np.concatenate(labels),
        )

    def moved(self, levels: tuple[Array, ...], index: int, epoch: int) -> tuple[Array, ...]:
        """Points of a ball, at one or more levels, after its random motion in a training epoch.

        The motion is a function of (seed, epoch, ball), so that neither the bucket nor the number
        of devices or workers changes it. Coarser points are means, in which noise is averaged out.
        """
        rng = np.random.default_rng((self.config.seed, 1, epoch, index))
        transform = random_transform(rng, self.config.augment)
        points, *coarser = (level @ transform for level in levels)
        return (jitter(points, rng, self.config.augment), *coarser)

    def _with_pyramid(
        self, index: int, spec: PyramidSpec, epoch: int | None
    ) -> tuple[Ball, CloudPyramid]:
        """A ball as it lies, and its pyramid after the motion of an epoch."""
        if self._has_fixed_grid or epoch is None:
            ball, pyramid = self._kept.get((index, spec), lambda: self._at_rest(index, spec))
            if epoch is None:
                return ball, pyramid
            return ball, pyramid._replace(points=self.moved(pyramid.points, index, epoch))
        ball = self.read(index)
        (points,) = self.moved((ball.points,), index, epoch)
        return ball, build_pyramid(points, spec)

    def _at_rest(self, index: int, spec: PyramidSpec) -> tuple[Ball, CloudPyramid]:
        ball = self.read(index)
        pyramid = build_pyramid(ball.points, spec)
        short = (tuple(map(_short, lists)) for lists in pyramid[1:])
        return ball, CloudPyramid(pyramid.points, *short)

    def seen_colors(self, colors: Array, index: int, epoch: int | None, drop_color: float) -> Array:
        """Colors of a ball, or 0 in place of all of them; a function as `moved` is.

        Args:
          epoch: of training; None keeps the colors.
          drop_color: probability of 0.
        """
        if epoch is None or drop_color == 0:
            return colors
        rng = np.random.default_rng((self.config.seed, 6, epoch, index))
        return np.zeros_like(colors) if rng.uniform() < drop_color else colors

    def _features(self, ball: Ball) -> Array:
        """1, red, green, blue, and the height above the ball's lowest point if asked for."""
        columns = [np.ones((len(ball.rows), 1), np.float32), ball.colors / np.float32(255)]
        if self.config.model.height:
            columns.append(ball.points[:, 2:] - ball.points[:, 2:].min())
        return np.concatenate(columns, axis=1)


class BallParts(Balls):
    """The balls of another list, those too large for a bucket in parts; `ball_of` each is of.

    What a network says of the parts covers every voxel of every ball.
    """

    def __init__(self, balls: Balls):
        num_parts = -(-balls.num_voxels_of // balls.max_points)
        self._balls = balls
        self.ball_of: Array = np.repeat(np.arange(len(balls)), num_parts)
        self._number = np.arange(len(self.ball_of)) - np.repeat(
            np.cumsum(num_parts) - num_parts, num_parts
        )
        places = Places(balls.scene_of, balls.centers, balls.radii, balls.num_points)
        of_parts = Places(*(values[self.ball_of] for values in places))
        super().__init__(balls.clouds, of_parts, balls.num_classes, balls.config)

    def read(self, index: int) -> Ball:
        return self._balls.part(int(self.ball_of[index]), int(self._number[index]))

    def tags_of(self, index: int) -> Array:
        return self._balls.tags_of(int(self.ball_of[index]))

    def labels_of(self, index: int, rows: Array) -> Array:
        return self._balls.labels_of(int(self.ball_of[index]), rows)

    def moved(self, levels: tuple[Array, ...], index: int, epoch: int) -> tuple[Array, ...]:
        return self._balls.moved(levels, int(self.ball_of[index]), epoch)


def _one_pyramid(pyramids: Sequence[CloudPyramid], spec: PyramidSpec) -> CloudPyramid:
    """The pyramid of clouds that are laid over one another."""
    if len(pyramids) == 1:
        return pyramids[0]
    return build_pyramid(np.concatenate([pyramid.points[0] for pyramid in pyramids]), spec)


def _short(index: Array) -> Array:
    """Row numbers in half of the bytes, where they fit."""
    return index.astype(np.uint16) if index.max(initial=0) < 2**16 else index
