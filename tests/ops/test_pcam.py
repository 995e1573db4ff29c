import numpy as np
import pytest

from mprm_jax.ops.pcam import class_scores, merge_paths


def scores():
    return np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)


def test_class_scores_are_dot_products_with_the_class_weights():
    features, weights = scores()[0], scores()[1]
    bias = np.array([1.0, 2.0, 3.0, 4.0, 5.0], np.float32)
    expected = [[features[t] @ weights[c] for c in range(5)] for t in range(5)]
    np.testing.assert_allclose(class_scores(features, weights.T), expected, atol=1e-6)
    np.testing.assert_allclose(class_scores(features, weights.T, bias), expected + bias, atol=1e-6)


def test_merging_takes_the_maximum_or_the_sum_over_paths():
    np.testing.assert_array_equal(merge_paths(scores(), "max"), scores().max(0))
    np.testing.assert_allclose(merge_paths(scores(), "sum"), scores().sum(0), atol=1e-6)


def test_unknown_fusion_names_the_valid_ones():
    with pytest.raises(ValueError, match="choose 'max' or 'sum'"):
        merge_paths(scores(), "mean")
