"""Kept arrays: asked for again they are the same, the oldest go first, copies start empty."""

import pickle

import numpy as np

from mprm_jax.batches.kept import Kept

MEGABYTE = (np.zeros(10**6, np.uint8),)


def make_asking(kept):
    """Asks for keys and returns which of them were built."""

    def ask(*keys):
        built = []
        for key in keys:
            kept.get(key, lambda key=key: built.append(key) or MEGABYTE)
        return built

    return ask


def test_what_was_asked_for_last_is_kept_up_to_the_limit():
    ask = make_asking(Kept(2.5e-3))
    assert ask("a", "b", "a") == ["a", "b"]
    assert ask("c") == ["c"]  # b goes
    assert ask("a", "c", "b") == ["b"]


def test_nothing_is_kept_without_room():
    assert make_asking(Kept(0))("a", "a") == ["a", "a"]
    ask = make_asking(Kept(0.5e-3))
    assert ask("a", "a") == ["a", "a"]


def test_nested_arrays_count():
    kept, three = Kept(2e-3), (MEGABYTE, (MEGABYTE, MEGABYTE))
    assert kept.get("a", lambda: three) is three
    assert kept.get("a", lambda: MEGABYTE) is MEGABYTE


def test_a_copy_starts_empty():
    kept = Kept(1)
    kept.get("a", lambda: MEGABYTE)
    assert make_asking(pickle.loads(pickle.dumps(kept)))("a", "a") == ["a"]
