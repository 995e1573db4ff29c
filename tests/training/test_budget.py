"""The largest bucket that fits a memory, found with few looks."""

import pytest

from mprm_jax.overrides import override
from mprm_jax.presets import tiny
from mprm_jax.training.static_sizes import fit_memory

MANY = 10_000_000  # points of an epoch


class Step:
    """A step whose memory bends a little: fixed + per row + a bit more for large buckets."""

    def __init__(self, fixed=1e8, per_row=2e4, bend=0.05):
        self.fixed, self.per_row, self.bend, self.looks = fixed, per_row, bend, 0

    def __call__(self, config):
        self.looks += 1
        rows = config.pyramid.bucket_points
        return self.fixed + self.per_row * rows * (1 + self.bend * rows / 1e5)


def config_of(gigabytes):
    return override(tiny(), [f"pyramid.memory_gb={gigabytes}"])


def test_without_a_budget_nothing_changes():
    config, step = tiny(), Step()
    assert fit_memory(config, 500, MANY, step) == config
    assert step.looks == 0


@pytest.mark.parametrize("gigabytes", [0.5, 2.0, 16.0])
@pytest.mark.parametrize("bend", [0.0, 0.01, 0.05])
def test_the_bucket_fits_and_fills_the_budget(gigabytes, bend):
    step = Step(bend=bend)
    found = fit_memory(config_of(gigabytes), 500, MANY, step)
    assert 0.8 * gigabytes * 1e9 < step(found) <= gigabytes * 1e9
    assert step.looks <= 7 and found.pyramid.bucket_points % 1024 == 0


def test_the_largest_ball_fits_even_if_little_else_does():
    step = Step(per_row=4e4)
    assert fit_memory(config_of(0.55), 10_000, MANY, step).pyramid.bucket_points >= 10_000


def test_a_bucket_is_no_larger_than_an_epoch():
    assert fit_memory(config_of(16.0), 500, 100_000, Step()).pyramid.bucket_points == 98 * 1024


def test_a_budget_too_small_for_the_largest_ball_is_an_error():
    with pytest.raises(ValueError, match=r"needs a bucket of 10240 points and 0\.3"):
        fit_memory(config_of(0.2), 10_000, MANY, Step())
