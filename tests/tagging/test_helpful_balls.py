"""Balls that cover with few, and balls whose tags tell most, on scenes whose truth is known."""

import numpy as np
import pytest

from mprm_jax.geometry.balls import grid_seeds
from mprm_jax.tagging.helpful_balls import Balls, fewest_balls, rank_balls

RADIUS = 1.5
SIZE = np.array([6.0, 5.0, 2.4])
NUM_CLASSES = 6


@pytest.fixture(scope="module")
def room():
    """Voxels of a floor, four walls and small objects on the floor, and their classes."""
    rng = np.random.default_rng(0)
    floor = rng.uniform(0, 1, (2000, 3)) * (SIZE * (1, 1, 0))
    walls = rng.uniform(0, 1, (2000, 3)) * SIZE
    walls[np.arange(2000), np.arange(2000) % 2] = SIZE[np.arange(2000) % 2] * rng.integers(0, 2)
    coords, labels = [floor, walls], [np.zeros(2000, int), np.ones(2000, int)]
    for number in range(8):
        coords.append(rng.uniform(0, 0.8, (200, 3)) + rng.uniform(0, 1, 3) * (SIZE - 0.8))
        labels.append(np.full(200, 2 + number % (NUM_CLASSES - 2)))
    return np.concatenate(coords), np.concatenate(labels)


@pytest.fixture(scope="module")
def balls(room):
    centers = grid_seeds(room[0], RADIUS, "centres")
    return Balls(centers, np.full(len(centers), RADIUS))


def held(coords, balls):
    """[S, V] bool, by the naive rule."""
    dist = np.linalg.norm(coords[None] - np.asarray(balls.centers)[:, None], axis=-1)
    return dist < np.asarray(balls.radii)[:, None]


def true_tags(room, balls):
    coords, labels = room
    inside = held(coords, balls)
    return np.stack([np.isin(np.arange(NUM_CLASSES), labels[rows]) for rows in inside])


def pairs_left(coords, balls, known, tags):
    """Pairs of classes that the tags of some balls leave to the voxels."""
    allowed = np.ones((len(coords), tags.shape[1]), bool)
    for ball in known:
        allowed[held(coords, Balls(balls.centers[[ball]], balls.radii[[ball]]))[0]] &= tags[ball]
    counts = allowed.sum(axis=1)
    return int(np.sum(counts * (counts - 1) // 2))


def ranked(room, balls, known=(), **more):
    is_known = np.isin(np.arange(len(balls.radii)), known)
    return rank_balls(room[0], balls, is_known, true_tags(room, balls), **more)


def tag_as_ranked(room, balls, count):
    """Balls in the order of a person who always tags the first of the ranked ones."""
    known = []
    for _ in range(count):
        known.append(int(ranked(room, balls, known)[0]))
    return known


def test_half_of_the_balls_part_more_candidates_than_at_random(room, balls):
    tags, half = true_tags(room, balls), len(balls.radii) // 2
    at_random = [
        pairs_left(room[0], balls, np.random.default_rng(i).permutation(len(tags))[:half], tags)
        for i in range(20)
    ]
    before_any_tag = pairs_left(room[0], balls, ranked(room, balls)[:half], tags)
    one_by_one = pairs_left(room[0], balls, tag_as_ranked(room, balls, half), tags)
    assert before_any_tag < 0.7 * np.mean(at_random)
    assert one_by_one <= before_any_tag
    assert one_by_one < min(at_random)


def test_every_open_ball_is_ranked_once(room, balls):
    order = ranked(room, balls, known=[0, 5])
    assert sorted(order) == [i for i in range(len(balls.radii)) if i not in (0, 5)]


def test_the_same_scene_has_the_same_order(room, balls):
    np.testing.assert_array_equal(ranked(room, balls, [3]), ranked(room, balls, [3]))


def test_uncovered_voxels_come_first(room):
    balls = Balls(np.array([[1.0, 1, 1], [1.2, 1, 1], [5, 4, 1]]), np.full(3, RADIUS))
    assert ranked(room, balls, known=[0]).tolist() == [2, 1]


def test_a_repeated_ball_comes_last(room):
    centers = np.array([[1.0, 1, 1], [1.0, 1, 1], [2.0, 1, 1]])
    assert ranked(room, Balls(centers, np.full(3, RADIUS))).tolist()[-1] in (0, 1)


def line(*candidates):
    """Ten voxels around x = 0, 10, 20, ... and the candidates of those of each place."""
    coords = np.zeros((10 * len(candidates), 3))
    coords[:, 0] = np.repeat(10.0 * np.arange(len(candidates)), 10)
    coords[:, 1] = np.tile(np.linspace(0, 0.9, 10), len(candidates))
    sets = [np.isin(np.arange(4), classes) for classes in candidates]
    return coords, np.repeat(sets, 10, axis=0)


def halves(places):
    """A known ball around each place, then an open one around half of its voxels."""
    x = 10.0 * np.arange(places)
    known = np.stack([x, np.full(places, 0.45), np.zeros(places)], axis=1)
    opened = known + np.array([[0, 0.8, 0]])
    radii = np.repeat([2.0, 0.8], places)
    return Balls(np.concatenate([known, opened]), radii), np.repeat([True, False], places)


def test_a_ball_of_certain_voxels_tells_less_than_one_in_doubt():
    coords, allowed = line([0], [0, 1], [1])
    balls, known = halves(3)
    tags = np.zeros((6, 4), bool)
    tags[:3] = allowed[::10]
    assert rank_balls(coords, balls, known, tags, allowed=allowed)[0] == 4


def test_what_the_network_confuses_comes_first():
    coords, allowed = line([0, 1], [2, 3])
    balls, known = halves(2)
    tags = np.zeros((4, 4), bool)
    tags[:2] = allowed[::10]
    for pair, first in (([0, 1], 2), ([2, 3], 3)):
        confusion = np.eye(4)
        confusion[pair, pair[::-1]] = 0.5
        assert rank_balls(coords, balls, known, tags, confusion, allowed)[0] == first


def test_with_one_class_the_voxels_decide():
    coords, _ = line([0], [0], [0])
    balls = Balls(np.array([[0.0, 0, 0], [10, 0.45, 0], [20, 0, 0]]), np.array([0.05, 1, 0.55]))
    order = rank_balls(coords, balls, np.zeros(3, bool), np.zeros((3, 1), bool))
    assert order.tolist() == [1, 2, 0]


@pytest.mark.parametrize("num_voxels", [0, 5])
@pytest.mark.parametrize("num_balls", [0, 2])
@pytest.mark.parametrize("all_known", [False, True])
def test_next_to_nothing_is_ranked_too(num_voxels, num_balls, all_known):
    balls = Balls(np.zeros((num_balls, 3)), np.ones(num_balls))
    known, tags = np.full(num_balls, all_known), np.ones((num_balls, 3), bool)
    order = rank_balls(np.zeros((num_voxels, 3)), balls, known, tags)
    assert len(order) == (0 if all_known else num_balls)


def test_as_many_chosen_balls_hold_more_than_those_of_a_grid(room, balls):
    chosen = fewest_balls(room[0], RADIUS, 6)
    covered = held(room[0], Balls(chosen, np.full(6, RADIUS))).any(axis=0).mean()
    inside = held(room[0], balls)
    best = [inside[np.random.default_rng(i).permutation(len(inside))[:6]] for i in range(50)]
    assert covered > max(rows.any(axis=0).mean() for rows in best)


def test_more_balls_hold_more_until_all_are_held(room):
    shares = []
    for count in (1, 3, 9, 1000):
        chosen = fewest_balls(room[0], RADIUS, count)
        assert len(chosen) <= count
        shares.append(held(room[0], Balls(chosen, np.full(len(chosen), RADIUS))).any(axis=0).mean())
    assert shares == sorted(shares)
    assert len(chosen) < 30
    # Voxels count by cells of an eighth of the radius, so a few at the border are missed.
    assert shares[-1] > 0.99


def test_the_first_ball_holds_the_most(room):
    centers = grid_seeds(room[0], RADIUS / 2, "centres")
    most = held(room[0], Balls(centers, np.full(len(centers), RADIUS))).sum(axis=1).max()
    first = fewest_balls(room[0], RADIUS, 1)
    assert held(room[0], Balls(first, np.array([RADIUS]))).sum() > 0.97 * most


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_to_cover_takes_no_ball(count):
    assert fewest_balls(np.zeros((0, 3)), RADIUS, count).shape == (0, 3)


def test_one_point_takes_one_ball_around_it():
    point = np.array([[3.0, -2.0, 7.0]])
    np.testing.assert_allclose(fewest_balls(point, RADIUS, 5), point)
