"""What was built is kept for the next time it is asked for, up to so many bytes."""

import collections
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np


class Kept:
    """The tuples of arrays that were asked for last; copies in other processes start empty.

    Args:
      gigabytes: of the arrays that are kept at most; 0 keeps nothing.
    """

    def __init__(self, gigabytes: float):
        self._gigabytes, self._free = gigabytes, gigabytes * 1e9
        self._found: collections.OrderedDict[Hashable, tuple[Any, int]] = collections.OrderedDict()

    def __reduce__(self) -> tuple:
        return Kept, (self._gigabytes,)

    def get(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """What was built for a key; builds it if it is not there."""
        if key in self._found:
            self._found.move_to_end(key)
            return self._found[key][0]
        built = build()
        size = _num_bytes(built)
        if size <= self._gigabytes * 1e9:
            self._found[key] = built, size
            self._free -= size
            while self._free < 0:
                _, (_, freed) = self._found.popitem(last=False)
                self._free += freed
        return built


def _num_bytes(values: Any) -> int:
    """Of all arrays in nested tuples."""
    if isinstance(values, np.ndarray):
        return values.nbytes
    return sum(map(_num_bytes, values))
