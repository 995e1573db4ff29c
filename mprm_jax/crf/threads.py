"""Threads for NumPy and SciPy, whose sorts, searches, arithmetic and products hold no lock."""

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor


def in_threads(function: Callable, items: Iterable) -> list:
    """The function of each item, in order; each core takes the next item when it is free."""
    items = list(items)
    results = [None] * len(items)
    places = iter(range(len(items)))  # shared by the threads, each place goes to one of them

    def work() -> None:
        for place in places:
            results[place] = function(items[place])

    helpers = [_pool().submit(work) for _ in range(min(_num_cores(), len(items)) - 1)]
    work()
    for helper in helpers:
        # One that has not begun is not needed any more.
        if not helper.cancel():
            helper.result()
    return results


def _num_cores() -> int:
    return os.cpu_count() or 1


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_num_cores())


# Threads do not follow into a forked process.
os.register_at_fork(after_in_child=_pool.cache_clear)
