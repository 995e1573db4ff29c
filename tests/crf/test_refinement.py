import doctest
import subprocess
import sys

import numpy as np
import pytest

from mprm_jax import crf
from mprm_jax.crf import refinement
from mprm_jax.crf.refinement import refine, unary_energies
from mprm_jax.crf.settings import KERNELS, RELEASED, RELEASED_FLOOR, Smoothing

FIVE = np.array([[0.7, 0.1, 0.1, 0.1, 0.0]], np.float32)
POSITION_ONLY = Smoothing(color_width=0)


def room(num_points=300):
    """Two halves of different class and color, with a third of the evidence wrong."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(size=(num_points, 3))
    classes = (coords[:, 0] > 0.5).astype(int)
    colors = np.where(classes[:, None] == 1, 0.8, 0.3) + np.zeros(3)
    said = np.where(rng.uniform(size=num_points) < 0.3, 1 - classes, classes)
    return coords, colors, 0.1 + 0.7 * np.eye(3)[said], classes


def test_preset_is_that_of_the_released_code():
    # crf_postprocessing.py, lines 104-114
    position, color = RELEASED.crf.kernels
    assert (position.columns, position.widths, position.weight) == ((0, 1, 2), (0.2,) * 3, 3)
    assert color.columns == (0, 1, 2, 3, 4, 5)
    assert (color.widths, color.weight) == ((0.2, 0.2, 0.2, 0.04, 0.04, 0.04), 10)
    assert (RELEASED.crf.num_iterations, RELEASED.crf.normalization) == (5, "symmetric")
    assert (RELEASED.trust, RELEASED_FLOOR) == (0.5, 1e-5)


def test_kernels_with_normals_are_those_of_the_spike():
    pair, surface, patch = KERNELS["normals"].crf.kernels
    position, color, normal = (0, 1, 2), (3, 4, 5), (6, 7, 8, 9, 10, 11)
    assert pair.columns == (*position, *color)
    assert pair.widths == (0.2,) * 3 + (0.04,) * 3
    assert (surface.columns, surface.widths) == ((*position, *normal), (0.3,) * 9)
    assert patch.columns == (*position, *color, *normal)
    assert patch.widths == (0.5,) * 3 + (0.08,) * 3 + (0.3,) * 6
    assert pair.weight == surface.weight == patch.weight == 10


def test_without_colors_only_positions_and_normals_are_compared():
    kernels = Smoothing(color_width=0, normal_width=0.3).crf.kernels
    assert {3, 4, 5}.isdisjoint(column for kernel in kernels for column in kernel.columns)
    assert len(kernels) == 3


def edge(num_points=400):
    """A floor and a wall of one color that meet; evidence is wrong near their edge."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(size=(num_points, 3))
    classes = np.arange(num_points) % 2
    coords[classes == 0, 2], coords[classes == 1, 0] = 0, 0
    distance = np.where(classes == 0, coords[:, 0], coords[:, 2])
    said = np.where((distance < 0.15) & (rng.uniform(size=num_points) < 0.6), 1 - classes, classes)
    return coords, 0.2 + 0.6 * np.eye(2)[said], classes


def test_normals_tell_surfaces_of_one_color_apart():
    coords, probabilities, classes = edge()
    colors = np.full(coords.shape, 0.5)
    plain = Smoothing(pair_width=0.3, color_width=0.1)
    looking = Smoothing(pair_width=0.3, color_width=0.1, position_weight=0, normal_width=0.3)
    wrong = [
        np.sum(refine(coords, colors, probabilities, smoothing).labels != classes)
        for smoothing in (plain, looking)
    ]
    assert wrong[1] < 0.5 * wrong[0]


def test_the_sign_of_normals_does_not_matter():
    coords, probabilities, _ = edge(100)
    rng, smoothing = np.random.default_rng(1), Smoothing(color_width=0, normal_width=0.3)
    normals = rng.normal(size=coords.shape)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    signs = rng.choice([-1, 1], len(coords))[:, None]
    found = [
        refine(coords, None, probabilities, smoothing, normals=n).marginals
        for n in (normals, normals * signs)
    ]
    np.testing.assert_array_equal(*found)
    with pytest.raises(ValueError, match=r"Normals have shape \(3, 3\)"):
        refine(coords, None, probabilities, smoothing, normals=normals[:3])


def test_a_point_that_is_not_finite_is_one_line_with_normals_too():
    coords, probabilities, _ = edge(100)
    coords[7, 1] = np.nan
    with pytest.raises(ValueError, match="not finite, first of point 7"):
        refine(coords, None, probabilities, Smoothing(color_width=0, normal_width=0.3))


def test_the_example_runs():
    assert doctest.testmod(refinement).failed == 0


def test_colors_of_eight_bits_are_those_of_shares():
    coords, colors, probabilities, _ = room()
    stored = np.round(255 * colors).astype(np.uint8)
    expected = refine(coords, stored / np.float32(255), probabilities)
    result = refine(coords, stored, probabilities)
    np.testing.assert_array_equal(result.marginals, expected.marginals)


def test_importing_the_settings_loads_no_jax():
    code = "import sys, mprm_jax.crf, mprm_jax.crf.settings; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    assert all(hasattr(crf, name) for name in crf.__all__)
    with pytest.raises(AttributeError, match="'refined'"):
        crf.refined  # noqa: B018


def test_unary_mixes_with_a_uniform_guess():
    expected = -np.log([0.45, 0.15, 0.15, 0.15, 0.1])
    np.testing.assert_allclose(unary_energies(FIVE)[0], expected, rtol=1e-6)


def test_unary_of_twenty_classes_spans_the_released_range():
    sure = np.eye(20, dtype=np.float32)[:1]
    gap = np.ptp(unary_energies(sure))
    np.testing.assert_allclose(gap, np.log(21), rtol=1e-6)


def test_unary_shares_out_among_the_allowed_classes():
    allowed = np.array([True, False, True, False, True])
    result = unary_energies(FIVE, allowed=allowed)[0]
    shares = np.array([0.7, 0.1, 0.0]) / 0.8
    np.testing.assert_allclose(result[allowed], -np.log(0.5 * shares + 0.5 / 3), rtol=1e-6)
    assert np.isinf(result[~allowed]).all()


def test_unary_is_uniform_where_no_allowed_class_has_a_share():
    allowed = np.array([False, False, False, False, True])
    np.testing.assert_allclose(unary_energies(FIVE, allowed=allowed)[0, 4], 0, atol=1e-6)


def test_full_trust_is_bounded_by_the_floor():
    result = unary_energies(FIVE, trust=1.0)[0]
    np.testing.assert_allclose(result[4], -np.log(1e-5), rtol=1e-6)


def test_refining_repairs_scattered_errors():
    coords, colors, probabilities, classes = room()
    result = refine(coords, colors, probabilities)
    assert (probabilities.argmax(axis=1) == classes).mean() < 0.8
    np.testing.assert_array_equal(result.labels, classes)


def test_colors_may_be_left_out_only_with_their_kernel():
    coords, _, probabilities, _ = room()
    result = refine(coords, None, probabilities, POSITION_ONLY)
    assert np.isfinite(result.marginals).all()
    with pytest.raises(ValueError, match="compares colors, but there are none"):
        refine(coords, None, probabilities)


def test_bad_input_is_one_clear_line():
    coords, colors, probabilities, _ = room(5)
    broken = probabilities.copy()
    broken[3, 1] = np.nan
    for message, run in {
        "divide colors of 8 bits by 255": lambda: refine(coords, 255 * colors, probabilities),
        "negative or not finite, first of point 3": lambda: refine(coords, colors, broken),
        "negative or not finite, first of point 0": lambda: refine(coords, colors, -probabilities),
        "colors for": lambda: refine(coords, colors[:4], probabilities),
        "trust is 2": lambda: refine(coords, colors, probabilities, Smoothing(trust=2)),
    }.items():
        with pytest.raises(ValueError, match=message) as error:
            run()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("builder", ["host", "device"])
def test_ignored_points_keep_to_their_allowed_classes_and_labels(builder):
    """Nobody may have class 0; some points hear the others, some stand 5 m apart."""
    coords, colors, probabilities, classes = room()
    probabilities = np.roll(probabilities, 1, axis=1)  # class c is column c + 1
    coords[:10] += 5.0
    ignored = np.arange(300) % 5 == 0
    ignored[:10] = True
    allowed = np.tile([False, True, True], (300, 1))
    came_with = np.full(300, 2)
    result = refine(
        coords,
        colors,
        probabilities,
        allowed=allowed,
        ignored=ignored,
        labels=came_with,
        builder=builder,
    )
    np.testing.assert_array_equal(result.marginals[:, 0], 0)
    np.testing.assert_array_equal(result.labels[:10], 2)
    assert (result.labels == classes + 1)[10:].mean() > 0.95


def test_ignored_points_may_hold_anything():
    coords, colors, probabilities, classes = room()
    ignored = np.arange(300) % 5 == 0
    probabilities[ignored] = np.nan
    result = refine(coords, colors, probabilities, ignored=ignored)
    assert (result.labels == classes)[ignored].mean() > 0.95
