"""Threads for NumPy and SciPy, whose sorts, searches, arithmetic and products hold no lock."""

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from mprm_jax.machine import usable_cpus


def in_threads(function: Callable, items: Iterable) -> list:
    """The function of each item, in order; each core takes the next item when it is free."""
    items = list(items)
    results = [None] * len(items)
    places = iter(range(len(items)))  # shared by the threads, each place goes to one of them

    def work() -> None:
        for place in places:
            results[place] = function(items[place])

    num_helpers = min(usable_cpus(), len(items)) - 1
    helpers = [_pool(os.getpid()).submit(work) for _ in range(num_helpers)]
    work()
    for helper in helpers:
        # One that has not begun is not needed any more.
        if not helper.cancel():
            helper.result()
    return results


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of a process; they do not follow into one that is forked."""
    return ThreadPoolExecutor(usable_cpus())
