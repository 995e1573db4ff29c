"""Which balls to tag: few that cover a scan, and of some balls those whose tags would tell most.

A voxel is in doubt by how many classes are left to it: with weight 1/|S| on each candidate, two
draws differ with probability 1 - 1/|S|. The tags of a ball part two candidates where just one of
them is tagged. How likely that is follows from where a class can be: a class that is tagged in a
known ball lies somewhere among the voxels there that may have it; another ball that holds a share
f of them has it with probability f, and tells most where that is near a half.
"""

import heapq
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from mprm_jax.geometry.balls import ball_rows, grid_seeds
from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.geometry.voxels import voxel_grid, voxel_means
from mprm_jax.types import Array

FINENESS = 8  # cells per radius that are covered as one: 25 cm for balls of 2 m
STEPS = 2  # centers per radius on each axis
UNCOVERED = 2.0  # weight of a voxel in no ball so far, beside at most 1 of one in doubt
NEVER_CONFUSED = 0.1  # weight of a pair that the network tells apart; it may be sure and wrong


class Balls(NamedTuple):
    """Balls of one scene, tagged or not."""

    centers: Array  # [S, 3] meters
    radii: Array  # [S] meters


def fewest_balls(voxels: Array, radius: float, count: int) -> Array:
    """Centers of at most `count` balls that together hold as many voxels as possible.

    Chosen one after the other from a grid, each the one that holds the most voxels not held yet;
    so they are within a factor 1 - 1/e of the best, and mostly nearer. They end when all are held.

    Args:
      voxels: [V, 3] meters.
      radius: meters.

    Returns:
      [count or fewer, 3] float64 meters, in the order in which they were chosen.
    """
    if len(voxels) == 0:
        return np.zeros((0, 3))
    grid = voxel_grid(voxels, radius / FINENESS)
    cells = voxel_means(np.asarray(voxels, np.float64), grid).astype(np.float32)
    centers = grid_seeds(cells, radius / STEPS, "centres")
    held = _members(cells, Balls(centers, np.full(len(centers), radius)))
    uncovered = grid.counts.copy()
    # What a ball adds only falls: one whose old gain is not the largest need not be looked at.
    queue = [(-int(uncovered[rows].sum()), i) for i, rows in enumerate(held)]
    heapq.heapify(queue)
    chosen: list[int] = []
    while queue and len(chosen) < count:
        _, ball = heapq.heappop(queue)
        gain = int(uncovered[held[ball]].sum())
        if not gain:
            continue
        if queue and (-gain, ball) > queue[0]:
            heapq.heappush(queue, (-gain, ball))
            continue
        chosen.append(ball)
        uncovered[held[ball]] = 0
    return centers[chosen]


def rank_balls(
    voxels: Array,
    balls: Balls,
    known: Array,
    tags: Array,
    confusion: Array | None = None,
    allowed: Array | None = None,
) -> Array:
    """The balls without an answer, the most telling first.

    Each ball is chosen given those before it: it counts the voxels that nobody has covered yet,
    and the doubt that its tags are expected to take away, weighed by what the network confuses.
    Without a known ball the voxels alone decide: cover first, then overlap that is no repetition.

    Args:
      voxels: [V, 3] meters, frame of `balls`.
      known: [S] bool, has an answer.
      tags: [S, C] bool, of the known balls.
      confusion: [C, C], of `mprm_jax.tagging.doubt`; all pairs weigh alike if None.
      allowed: [V, C] bool, candidates so far; what the known balls leave if None.

    Returns:
      [open balls] int64 into `balls`.
    """
    groups = _groups(voxels, balls, known, tags, allowed)
    open_balls = np.flatnonzero(~known)
    told = _expected_parting(groups, open_balls, known, tags, confusion)
    return open_balls[_one_after_another(groups, open_balls, np.flatnonzero(known), told)]


class _Groups(NamedTuple):
    """Voxels that lie in the same balls and have the same candidates, as one."""

    inside: csr_array  # [S, G] float64, 1: the ball holds the group
    sizes: Array  # [G] float64, voxels
    shares: Array  # [G, C] float64, 1/|S| for each candidate
    covered: Array  # [G] bool, in a known ball

    @property
    def doubt(self) -> Array:
        """How likely two draws from the candidates of a voxel differ, [G]."""
        return np.where(self.shares.any(axis=1), 1 - np.square(self.shares).sum(axis=1), 0)


def _groups(
    voxels: Array, balls: Balls, known: Array, tags: Array, allowed: Array | None
) -> _Groups:
    members = _members(voxels, balls)
    if allowed is None:
        # A voxel has no class that a known ball around it lacks.
        allowed = np.ones((len(voxels), tags.shape[1]), bool)
        for ball in np.flatnonzero(known):
            allowed[members[ball]] &= tags[ball]
    # Sums of random numbers tell sets of balls, and of classes, apart.
    numbers = np.random.default_rng(0).integers(0, 1 << 63, len(members) + allowed.shape[1])
    keys = allowed @ numbers[len(members) :]
    covered = np.zeros(len(voxels), bool)
    for ball, rows in enumerate(members):
        keys[rows] += numbers[ball]
        covered[rows] |= known[ball]
    _, first, group, sizes = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True
    )
    held = [np.unique(group[rows]) for rows in members]
    inside = _sparse(held, [np.ones(len(found)) for found in held], len(sizes))
    shares = allowed[first] / np.maximum(allowed[first].sum(axis=1, keepdims=True), 1)
    return _Groups(inside, sizes.astype(float), shares, covered[first])


def _members(voxels: Array, balls: Balls) -> list[Array]:
    """Rows of the voxels in each ball."""
    coords = np.asarray(voxels, np.float32)
    tree = make_tree(coords)
    centers = np.asarray(balls.centers, np.float32)
    return [ball_rows(coords, tree, c, r) for c, r in zip(centers, balls.radii, strict=True)]


def _sparse(columns: list[Array], values: list[Array], width: int) -> csr_array:
    """A matrix from the places and values of each row."""
    ends = np.cumsum([0, *map(len, columns)])
    joined = [
        np.concatenate([np.zeros(0, dtype), *parts])
        for dtype, parts in ((np.int64, columns), (float, values))
    ]
    return csr_array((joined[1], joined[0], ends), shape=(len(columns), width))


def _expected_parting(
    groups: _Groups, open_balls: Array, known: Array, tags: Array, confusion: Array | None
) -> csr_array:
    """The doubt that the tags of a ball are expected to take from a voxel, [open, G]."""
    weights = _pair_weights(confusion, tags.shape[1])
    columns = [groups.inside[[ball]].indices for ball in open_balls]
    values = []
    for held, present in zip(columns, _presence(groups, open_balls, known, tags), strict=True):
        just_first = present[:, None] * (1 - present[None])
        parted = weights * (just_first + just_first.T)
        values.append(np.sum((groups.shares[held] @ parted) * groups.shares[held], axis=1))
    return _sparse(columns, values, len(groups.sizes))


def _pair_weights(confusion: Array | None, num_classes: int) -> Array:
    """Weights of pairs of classes, [C, C]; 1 for the pair that is confused most."""
    others = 1 - np.eye(num_classes)
    if confusion is None:
        return others
    both = (confusion + confusion.T) * others
    return others * (NEVER_CONFUSED + (1 - NEVER_CONFUSED) * both / max(both.max(), 1e-12))


def _presence(groups: _Groups, open_balls: Array, known: Array, tags: Array) -> Array:
    """Probability that a class is tagged in a ball, [open, C]."""
    inside = groups.inside[open_balls]
    possible = groups.sizes[:, None] * (groups.shares > 0)
    absent = np.ones((len(open_balls), tags.shape[1]))
    for ball in np.flatnonzero(known):
        around = groups.inside[[ball]].indices
        total = np.maximum(possible[around].sum(axis=0), 1)
        share = (inside[:, around] @ possible[around]) / total[None]
        absent *= np.where(tags[ball][None], 1 - share, 1)
    # Where nobody has looked, a class is as frequent as in the balls that are known.
    usual = (tags[known].sum(axis=0) + 0.5) / (known.sum() + 1)
    unseen = (inside @ (groups.sizes * ~groups.covered)) / np.maximum(inside @ groups.sizes, 1)
    absent *= 1 - usual[None] * unseen[:, None]
    return np.where(inside @ possible > 0, 1 - absent, 0)


def _one_after_another(
    groups: _Groups, open_balls: Array, known_balls: Array, told: csr_array
) -> list[int]:
    """Places in `open_balls`, the rows of `told`, in greedy order."""
    inside = groups.inside[open_balls]
    left, uncovered = groups.sizes.copy(), UNCOVERED * groups.sizes * ~groups.covered
    doubt = np.maximum(groups.doubt, 1e-12)
    novelty = np.ones(len(open_balls))
    for ball in known_balls:
        novelty = np.minimum(novelty, 1 - _repeated(groups, inside, ball))
    order: list[int] = []
    for _ in open_balls:
        gains = inside @ uncovered + novelty * (told @ left)
        gains[order] = -1
        chosen = int(np.argmax(gains))
        order.append(chosen)
        held = inside[[chosen]].indices
        left[held] *= np.clip(1 - novelty[chosen] * told[[chosen]].data / doubt[held], 0, 1)
        uncovered[held] = 0
        novelty = np.minimum(novelty, 1 - _repeated(groups, inside, open_balls[chosen]))
    return order


def _repeated(groups: _Groups, inside: csr_array, ball: int | np.integer) -> Array:
    """Voxels that balls [O, G] have in common with one, of all that they hold together, [O]."""
    held = groups.inside[[ball]].indices
    in_both = inside[:, held] @ groups.sizes[held]
    in_one = inside @ groups.sizes + groups.sizes[held].sum() - in_both
    return in_both / np.maximum(in_one, 1)
