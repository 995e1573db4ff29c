"""Repeated positions are found whatever their order and signs of zero."""

import numpy as np
import pytest

from mprm_jax.scans import cleaning
from mprm_jax.scans.cleaning import first_of_equal_rows


@pytest.mark.parametrize("num_values", [2, 7, 1000])
def test_matches_the_naive_loop(num_values):
    rows = np.random.default_rng(0).integers(0, num_values, (500, 3)) / 8
    seen, expected = set(), []
    for i, row in enumerate(map(tuple, rows)):
        if row not in seen:
            expected.append(i)
        seen.add(row)
    np.testing.assert_array_equal(first_of_equal_rows(rows), expected)


def test_minus_zero_is_zero():
    rows = np.array([[0.0, 1.0, 2.0], [-0.0, 1.0, 2.0]])
    np.testing.assert_array_equal(first_of_equal_rows(rows), [0])


def test_nearly_equal_rows_are_kept():
    rows = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, np.nextafter(1.0, 2.0)]])
    np.testing.assert_array_equal(first_of_equal_rows(rows), [0, 1])


def test_axes_are_not_interchangeable():
    rows = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 1.0, 3.0]])
    np.testing.assert_array_equal(first_of_equal_rows(rows), [0, 1, 2])


def test_no_rows_stay_none():
    assert len(first_of_equal_rows(np.zeros((0, 3)))) == 0


@pytest.mark.parametrize("factors", [(0, 0, 0), (1, 0, 0)])
def test_colliding_hashes_change_nothing(monkeypatch, factors):
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 3, (400, 3)).astype(float)
    expected = np.sort(np.unique(rows, axis=0, return_index=True)[1])
    monkeypatch.setattr(cleaning, "HASH_FACTORS", np.array(factors, np.uint64))
    np.testing.assert_array_equal(first_of_equal_rows(rows), expected)
