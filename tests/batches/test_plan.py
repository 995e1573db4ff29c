"""The epoch plan: fair, full, within its limits, and a function of seed and epoch alone."""

import numpy as np
import pytest

from mprm_jax.batches.plan import epoch_order, epoch_plan, fill_buckets, group_plan, mixed

# Points of a subcloud as found in rooms: 2 m balls at 4 cm, and at 8 cm as in the quick preset.
PAPER = np.clip(np.random.default_rng(0).lognormal(7.4, 0.6, 1500), 300, 5000).astype(int)
QUICK = np.clip(np.random.default_rng(1).lognormal(7.2, 0.5, 900), 100, 5000).astype(int)


def plan(num_points=PAPER, **changes):
    settings = {"draws": 0, "max_points": 16384, "max_clouds": 64, "buckets_per_step": 4}
    settings |= {"seed": 0, "epoch": 0}
    return epoch_plan([np.arange(len(num_points))], num_points, **(settings | changes))


def order_of(num_balls, draws, seed=0, epoch=0):
    """An epoch where every pass visits all balls."""
    return epoch_order([np.arange(num_balls)], draws, seed, epoch)


def buckets_of(steps):
    return [bucket for step in steps for bucket in step]


def drawn(steps):
    return [index for bucket in buckets_of(steps) for index in bucket]


def fill_share(num_points, max_points):
    """Rows in use of all but the last buckets, which hold what is left."""
    buckets = fill_buckets(order_of(len(num_points), 0), num_points, max_points, 1000)
    return np.mean([num_points[bucket].sum() / max_points for bucket in buckets[:-2]])


def test_equal_seed_and_epoch_give_equal_plans():
    assert plan(seed=3, epoch=5) == plan(seed=3, epoch=5)


def test_epochs_differ():
    assert plan(epoch=0) != plan(epoch=1)


def test_seeds_differ():
    assert plan(seed=0) != plan(seed=1)


def test_an_epoch_draws_each_subcloud_exactly_once():
    assert sorted(drawn(plan(epoch=2))) == list(range(len(PAPER)))


@pytest.mark.parametrize("draws", [7, 40, 100, 101, 250])
def test_each_pass_draws_each_subcloud_exactly_once(draws):
    order = np.concatenate([order_of(100, draws, 0, epoch) for epoch in range(20)])
    passes = order[: len(order) // 100 * 100].reshape(-1, 100)
    np.testing.assert_array_equal(np.sort(passes, axis=1), [np.arange(100)] * len(passes))


@pytest.mark.parametrize("draws", [7, 100, 250])
def test_an_epoch_has_the_stated_number_of_draws(draws):
    assert [len(order_of(100, draws, 0, epoch)) for epoch in range(5)] == [draws] * 5


PASSES = [np.arange(5), np.arange(5, 12), np.arange(12, 15)]


def test_passes_take_the_lists_in_turn():
    for epoch in range(7):
        order = epoch_order(PASSES, 0, 0, epoch)
        np.testing.assert_array_equal(np.sort(order), PASSES[epoch % 3])


@pytest.mark.parametrize("draws", [1, 4, 8, 40])
def test_epochs_of_any_length_are_cut_from_one_row_of_passes(draws):
    row = np.concatenate([epoch_order(PASSES, 0, 0, number) for number in range(30)])
    epochs = [epoch_order(PASSES, draws, 0, epoch) for epoch in range(3)]
    np.testing.assert_array_equal(np.concatenate(epochs), row[: 3 * draws])


def test_a_plan_holds_the_draws_of_its_epoch():
    order = order_of(len(PAPER), 6000, seed=0, epoch=3)
    assert sorted(drawn(plan(draws=6000, epoch=3))) == sorted(order.tolist())


def test_no_bucket_exceeds_its_points():
    assert max(PAPER[bucket].sum() for bucket in buckets_of(plan())) <= 16384


def test_no_bucket_exceeds_its_clouds():
    assert max(len(bucket) for bucket in buckets_of(plan(max_clouds=3))) == 3


@pytest.mark.parametrize("count", [1, 3, 8])
def test_every_step_has_equally_many_buckets(count):
    assert {len(step) for step in plan(buckets_per_step=count)} == {count}


def test_only_the_last_step_has_empty_buckets():
    steps = plan(buckets_per_step=8)
    assert all(bucket for step in steps[:-1] for bucket in step)
    assert steps[-1][0]


def test_the_buckets_of_a_step_do_not_change_the_buckets():
    eight = [bucket for bucket in buckets_of(plan(buckets_per_step=8)) if bucket]
    assert eight == buckets_of(plan(buckets_per_step=1))


@pytest.mark.parametrize(("sizes", "max_points"), [(PAPER, 16384), (QUICK, 8192)])
def test_buckets_are_nearly_full(sizes, max_points):
    assert fill_share(sizes, max_points) >= 0.92


def test_a_bucket_starts_with_the_next_subcloud():
    assert fill_buckets([2, 0, 1, 3], np.array([5, 4, 8, 2]), 10, 9) == [[2, 3], [0, 1]]


def test_a_subcloud_as_large_as_the_bucket_fits():
    assert fill_buckets([0, 1], np.array([10, 10]), 10, 9) == [[0], [1]]


def test_a_subcloud_larger_than_the_bucket_is_refused():
    with pytest.raises(ValueError, match="A ball of 11 points does not fit"):
        fill_buckets([0, 1], np.array([10, 11]), 10, 9)


def test_a_bucket_without_room_for_clouds_is_refused():
    with pytest.raises(ValueError, match="0 clouds; calibrate the config"):
        fill_buckets([0, 1], np.array([10, 10]), 10, 0)


GROUPS = [np.arange(0, 300), np.arange(0), np.arange(500, 900), np.arange(300, 500)]


def levels_of(num_points):
    """Sizes of three levels, the coarse ones large where a cloud is sparse."""
    sparse = np.arange(len(num_points)) % 3 == 0
    coarse = np.where(sparse, num_points, num_points // 4)
    return np.stack([num_points, coarse, np.where(sparse, coarse, coarse // 4)], axis=1)


def plan_of_groups(rows, groups=GROUPS):
    sizes = levels_of(QUICK)[:, : len(rows)]
    return group_plan(groups, [sizes[balls] for balls in groups], rows, 16, 4)


@pytest.mark.parametrize("rows", [(8192,), (8192, 2048, 1024)])
def test_groups_are_visited_in_order_each_ball_once_and_none_share_a_bucket(rows):
    rows = [max(row, size) for row, size in zip(rows, levels_of(QUICK).max(axis=0), strict=False)]
    buckets = [bucket for bucket in buckets_of(plan_of_groups(rows)) if bucket]
    group_of = {int(ball): i for i, balls in enumerate(GROUPS) for ball in balls}
    groups = [{group_of[ball] for ball in bucket} for bucket in buckets]
    assert all(len(group) == 1 for group in groups)
    assert [*groups] == sorted(groups, key=min)
    assert sorted(ball for bucket in buckets for ball in bucket) == list(range(len(QUICK)))


def test_buckets_hold_the_rows_of_every_level():
    sizes = levels_of(QUICK)
    rows = np.maximum((8192, 2048, 1024), sizes.max(axis=0))
    filled = [sizes[bucket].sum(axis=0) for bucket in buckets_of(plan_of_groups(rows)) if bucket]
    assert (np.array(filled) <= rows).all()
    assert (np.array(filled)[:, 1:].max(axis=0) > 0.9 * rows[1:]).all()


def test_a_group_is_packed_the_same_whatever_other_groups_there_are():
    rows = levels_of(QUICK).max(axis=0) * 2
    alone = buckets_of(plan_of_groups(rows, GROUPS[:1]))
    among = buckets_of(plan_of_groups(rows))
    assert [b for b in alone if b] == among[: sum(map(bool, alone))]


def test_mixed_balls_are_neighbors_and_every_ball_stays_in_its_bucket_once():
    for epoch in range(20):
        clouds = mixed([7, 3, 9, 4, 8], 0.5, 0, epoch)
        assert [ball for cloud in clouds for ball in cloud] == [7, 3, 9, 4, 8]
        assert {len(cloud) for cloud in clouds} <= {1, 2}


def test_nothing_is_mixed_without_an_epoch_or_a_share():
    apart = [[7], [3], [9]]
    assert mixed([7, 3, 9], 1.0, 0, None) == mixed([7, 3, 9], 0.0, 0, 5) == apart
    assert mixed([7, 3, 9], 1.0, 0, 5) == [[7, 3], [9]]


def test_as_many_pairs_are_mixed_as_asked_for():
    pairs = [mixed(range(100), 0.3, seed, epoch) for seed in range(5) for epoch in range(8)]
    share = np.mean([100 - len(clouds) for clouds in pairs]) / 50
    assert 0.26 < share < 0.34  # 2000 draws, four deviations


@pytest.mark.parametrize("other", [(1, 5), (0, 6)])
def test_what_is_mixed_is_a_function_of_seed_and_epoch(other):
    first = mixed(range(40), 0.5, 0, 5)
    assert first == mixed(range(40), 0.5, 0, 5) != mixed(range(40), 0.5, *other)


def test_a_pair_is_mixed_or_not_whatever_else_is_in_its_bucket():
    alone = [len(mixed([2, 6], 0.5, 0, epoch)) for epoch in range(20)]
    others = [len(mixed([1, 8, 2, 6], 0.5, 0, epoch)[-1]) for epoch in range(20)]
    assert [3 - size for size in others] == alone and set(alone) == {1, 2}
