import itertools

import numpy as np
import pytest

from mprm_jax.palette import class_palette
from mprm_jax.tagging.class_colors import TAKEN, VISIONS, class_colors, differences, seen


def numbers(colors):
    return np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in colors], float)


def least_difference(colors):
    return min(differences(a[None], b)[0] for a, b in itertools.combinations(colors, 2))


@pytest.mark.parametrize("count", [0, 1, 2, 20, 40])
def test_there_is_a_color_for_every_class(count):
    colors = class_colors(count)
    assert len({*colors}) == count
    assert class_colors(count + 5)[:count] == colors


def test_colors_are_told_apart_by_everyone():
    """Of twenty colors of pictures, color-blind people cannot tell some apart."""
    pictures = least_difference(255 * class_palette(20))
    assert least_difference(numbers(class_colors(20))) > 3 * pictures
    assert least_difference(numbers(class_colors(8))) > 0.1


def test_no_class_looks_like_the_background():
    for color in numbers(class_colors(20)):
        assert differences(np.array(TAKEN, float), color).min() > 0.05


def test_no_class_is_almost_black_or_white():
    """Marks are white."""
    colors = seen(numbers(class_colors(40)))
    assert colors[0, :, 0].min() > 0.46
    assert colors[0, :, 0].max() < 0.86
    white = np.array([255.0, 255, 255])
    assert differences(numbers(class_colors(40)), white).min() > 0.1


def test_white_is_white_to_everyone_and_gray_has_no_hue():
    views = seen(np.array([[255, 255, 255], [128, 128, 128]]))
    assert views.shape == (len(VISIONS), 2, 3)
    np.testing.assert_allclose(views[:, 0, 0], 1, atol=1e-3)
    np.testing.assert_allclose(views[:, :, 1:], 0, atol=2e-3)
