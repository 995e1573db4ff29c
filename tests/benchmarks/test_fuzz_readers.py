"""A small part of the benchmark: damaged files end as a cloud or as one clear line."""

import numpy as np
import pytest
from fuzz_files import mutated, valid_files
from fuzz_readers import CLOUD, LINE, Case, run_cases, summary

from mprm_jax.scans.formats import READERS, read_cloud


def test_the_valid_files_are_of_every_format_and_valid(tmp_path):
    files = valid_files()
    assert {name[name.index(".") :] for name in files} == set(READERS)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert len(read_cloud(tmp_path / name).coords)


def failures(indices):
    return [case for case in run_cases(7, indices) if case.end not in (CLOUD, LINE)]


def test_damaged_files_end_as_a_cloud_or_one_line():
    assert failures(range(300)) == []


@pytest.mark.slow
def test_many_more_damaged_files():
    assert failures(range(300, 4000)) == []


def test_damage_depends_on_the_seed_only():
    content = valid_files()["plain.npz"]
    first, again, other = (mutated(content, np.random.default_rng((s, 3))) for s in (1, 1, 2))
    assert first == again != other


def test_failures_are_counted_and_named():
    ends = ("cloud", "line", "death")
    cases = [Case(i, f"a{i}.laz", end, "", 0.1) for i, end in enumerate(ends)]
    report = summary(cases)
    assert report["failures"] == 1 and report["failed"] == [[2, "a2.laz", "death"]]
    assert report["formats"] == {".laz": {"cloud": 1, "death": 1, "line": 1}}
