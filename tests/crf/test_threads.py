import pytest

from mprm_jax.crf.threads import in_threads


def test_results_keep_the_order_of_the_items():
    assert in_threads(lambda x: x * x, range(100)) == [x * x for x in range(100)]
    assert in_threads(lambda x: x, []) == []


def test_each_item_is_taken_once():
    taken = []
    in_threads(taken.append, range(1000))
    assert sorted(taken) == list(range(1000))


def test_threads_may_use_threads():
    def total(x):
        return sum(in_threads(lambda y: x + y, range(10)))

    assert in_threads(total, range(20)) == [10 * x + 45 for x in range(20)]


def test_an_error_reaches_the_caller():
    for bad in (0, 9):
        with pytest.raises(ZeroDivisionError):
            in_threads(lambda x, bad=bad: 1 / (x - bad), range(10))
