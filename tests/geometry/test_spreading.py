"""Points take what their voxel has."""

import numpy as np
import pytest

from mprm_jax.geometry.voxels import spread_to_points


def test_matches_the_naive_loop():
    rng = np.random.default_rng(0)
    scores, voxel = rng.normal(size=(20, 3)), rng.integers(0, 20, 100)
    expected = [scores[row] for row in voxel]
    np.testing.assert_array_equal(spread_to_points(scores, voxel), expected)


@pytest.mark.parametrize("voxel", [3, -1])
def test_a_voxel_that_is_not_there_is_refused(voxel):
    with pytest.raises(ValueError, match=r"but values are given for 3 voxels; .* again"):
        spread_to_points(np.zeros(3), np.array([0, voxel]))
