"""The comparison with PyTorch refuses to compare different steps."""

import pytest
from step_peer import require_agreement


def test_equal_losses_are_accepted():
    require_agreement({"loss": 2.0, "extra": 1.0}, {"loss": 2.0001})


@pytest.mark.parametrize("value", [2.01, float("nan")])
def test_other_losses_are_refused(value):
    with pytest.raises(ValueError, match="do not compute the same step"):
        require_agreement({"loss": 2.0}, {"loss": value})
