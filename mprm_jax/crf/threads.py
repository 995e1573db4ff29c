"""Threads for NumPy and SciPy, whose sorts, searches, arithmetic and products hold no lock."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor


def thread_pool() -> ThreadPoolExecutor:
    """A thread for each core."""
    return ThreadPoolExecutor(os.cpu_count())


def in_threads(function: Callable, items: Iterable) -> list:
    """The function of each item, in order."""
    with thread_pool() as pool:
        return list(pool.map(function, items))
