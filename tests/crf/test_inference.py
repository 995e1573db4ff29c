import dataclasses
import functools

import jax
import numpy as np
import pytest

from mprm_jax.crf import lattice_device
from mprm_jax.crf.inference import build_kernels, dense_crf, infer
from mprm_jax.crf.mean_field import mean_field
from mprm_jax.crf.settings import CrfSettings, KernelSettings
from mprm_jax.training.forecast import counted_compiles

SETTINGS = CrfSettings(
    kernels=(
        KernelSettings((0, 1), (0.3, 0.2), weight=2.0),
        KernelSettings((0, 1, 2), (0.4, 0.4, 0.1), weight=3.0),
    ),
    num_iterations=3,
)
HOWS = [{"builder": "host"}, {"builder": "device"}, {"method": "exact"}]
WEIGHTS = [kernel.weight for kernel in SETTINGS.kernels]


def cloud(num_points=200, num_classes=5, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.uniform(size=(num_points, 3)).astype(np.float32)
    return features, rng.uniform(0, 3, (num_points, num_classes)).astype(np.float32)


def assert_close(result, expected):
    # The order of float32 sums over 200 points differs, three times.
    np.testing.assert_allclose(result.marginals, expected.marginals, atol=1e-5)


def test_matches_the_pure_function():
    features, unary = cloud()
    kernels = build_kernels(features, SETTINGS, builder="device")
    rows = len(kernels.kernels[0].send)
    padded = np.zeros((rows, 5), np.float32)
    padded[:200] = unary[kernels.order]
    weights = np.array(WEIGHTS, np.float32)
    pure = jax.jit(mean_field, static_argnames="num_iterations")
    expected = np.zeros((200, 5))
    expected[kernels.order] = pure(padded, kernels.kernels, weights, num_iterations=3)[:200]
    for builder in ("host", "device"):
        result = dense_crf(features, unary, SETTINGS, builder=builder)
        # The host sums in another order: float32 sums over 200 points, three times.
        np.testing.assert_allclose(result.marginals, expected, atol=1e-5)
        np.testing.assert_array_equal(result.labels, result.marginals.argmax(axis=1))


def test_both_builders_agree():
    features, unary = cloud()
    host = dense_crf(features, unary, SETTINGS, builder="host")
    assert_close(dense_crf(features, unary, SETTINGS, builder="device"), host)


def test_a_lattice_that_does_not_fit_is_built_again(monkeypatch):
    features, unary = cloud(400)
    settings = dataclasses.replace(SETTINGS, kernels=(KernelSettings((0, 1, 2), (0.02,) * 3, 1.0),))
    monkeypatch.setattr(lattice_device, "GUESSED_VERTICES", {3: 0.1})
    device = dense_crf(features, unary, settings, builder="device")
    assert_close(device, dense_crf(features, unary, settings, builder="host"))


def test_lattice_is_near_the_exact_method():
    features, unary = cloud(600)
    exact = dense_crf(features, unary, SETTINGS, method="exact")
    result = dense_crf(features, unary, SETTINGS)
    # d = 3 at most: the lattice is within a few percent of the messages
    assert np.abs(result.marginals - exact.marginals).mean() < 5e-3
    assert (result.labels == exact.labels).mean() > 0.97


def test_a_compatibility_matrix_acts_alike_on_host_and_device():
    features, unary = cloud()
    matrix = np.random.default_rng(0).uniform(size=(5, 5))
    run = functools.partial(dense_crf, features, unary, SETTINGS, compatibility=matrix)
    assert_close(run(builder="host"), run(builder="device"))
    assert np.abs(run().marginals - dense_crf(features, unary, SETTINGS).marginals).max() > 0.1


def test_potts_is_the_matrix_of_ones_off_the_diagonal():
    features, unary = cloud()
    potts = 1 - np.eye(5)
    expected = dense_crf(features, unary, SETTINGS)
    assert_close(dense_crf(features, unary, SETTINGS, compatibility=potts), expected)


def test_order_of_points_does_not_matter():
    features, unary = cloud()
    order = np.random.default_rng(0).permutation(200)
    expected = dense_crf(features, unary, SETTINGS)
    result = dense_crf(features[order], unary[order], SETTINGS)
    np.testing.assert_allclose(result.marginals, expected.marginals[order], atol=1e-5)


def test_far_origin_changes_nothing():
    features, unary = cloud()
    exact = (features * 1024).round().astype(np.float64) / 1024  # moves without rounding
    far = exact + np.array([5e5, 4e6, -3.0])
    expected = dense_crf(exact, unary, SETTINGS)
    result = dense_crf(far, unary, SETTINGS)
    np.testing.assert_array_equal(result.marginals, expected.marginals)


def test_classes_that_are_not_allowed_get_exactly_zero():
    features, unary = cloud()
    allowed = np.random.default_rng(0).uniform(size=unary.shape) < 0.6
    allowed[:, 2], allowed[:, 3] = False, True
    result = dense_crf(features, unary, SETTINGS, allowed=allowed)
    assert (result.marginals[~allowed] == 0).all()
    assert allowed[np.arange(200), result.labels].all()
    np.testing.assert_allclose(result.marginals.sum(axis=1), 1, atol=1e-6)
    infinite = np.where(allowed, unary, np.inf)
    assert_close(dense_crf(features, infinite, SETTINGS), result)


def test_a_class_nobody_may_have_is_as_if_it_were_not_there():
    features, unary = cloud()
    compatibility = np.random.default_rng(0).uniform(size=(5, 5))
    kept = np.array([True, False, True, True, False])
    result = dense_crf(features, unary, SETTINGS, allowed=kept, compatibility=compatibility)
    expected = dense_crf(
        features, unary[:, kept], SETTINGS, compatibility=compatibility[np.ix_(kept, kept)]
    )
    np.testing.assert_allclose(result.marginals[:, kept], expected.marginals, atol=1e-6)


def test_ignored_points_listen_only():
    features, unary = cloud()
    ignored = np.random.default_rng(0).uniform(size=200) < 0.3
    noise = unary.copy()
    noise[ignored] = np.nan
    result = dense_crf(features, noise, SETTINGS, ignored=ignored)
    without = dense_crf(features[~ignored], unary[~ignored], SETTINGS, method="exact")
    exact = dense_crf(features, noise, SETTINGS, ignored=ignored, method="exact")
    assert_close(exact._replace(marginals=exact.marginals[~ignored]), without)
    assert np.isfinite(result.marginals).all()


def test_ignored_points_take_the_class_around_them():
    features = np.random.default_rng(0).uniform(size=(100, 3)).astype(np.float32) * 0.1
    unary = np.tile(np.array([2.0, 0.5, 2.0], np.float32), (100, 1))
    ignored = np.arange(100) < 50
    unary[ignored] = [0, 9, 9]
    result = dense_crf(features, unary, SETTINGS, ignored=ignored)
    np.testing.assert_array_equal(result.labels, 1)


@pytest.mark.parametrize("how", HOWS)
def test_ignored_points_keep_to_their_allowed_classes(how):
    features, unary = cloud()
    rng = np.random.default_rng(0)
    ignored, allowed = rng.uniform(size=200) < 0.3, rng.uniform(size=unary.shape) < 0.6
    allowed[:, 0], allowed[:, 3] = False, True
    noise = np.where(ignored[:, None], np.nan, unary)
    result = dense_crf(features, noise, SETTINGS, allowed=allowed, ignored=ignored, **how)
    assert (result.marginals[~allowed] == 0).all()
    assert allowed[np.arange(200), result.labels].all()
    infinite = np.where(allowed, noise, np.inf)
    assert_close(dense_crf(features, infinite, SETTINGS, ignored=ignored, **how), result)


@pytest.mark.parametrize("how", HOWS)
def test_who_is_out_of_reach_keeps_its_label(how):
    features, unary = cloud()
    features[:4] += 9.0
    ignored, allowed = np.arange(200) < 4, np.ones((200, 5), bool)
    allowed[:2] = [False, True, False, True, True]
    came_with = np.array([4, 0, 2, -1, *[1] * 196])
    run = functools.partial(dense_crf, features, unary, SETTINGS, ignored=ignored, **how)
    result = run(allowed=allowed, labels=came_with)
    # The second may not have the label it comes with, and the fourth comes with none.
    assert result.labels[:4].tolist() == [4, -1, 2, -1]
    expected = allowed[:4] / allowed[:4].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result.marginals[:4], expected, rtol=1e-6)
    assert run().labels[:4].tolist() == [-1] * 4
    np.testing.assert_array_equal(result.labels[4:], run().labels[4:])


@pytest.mark.parametrize("how", HOWS)
def test_no_class_is_preferred_for_its_number(how):
    features, unary = cloud()
    features[:20] += 9.0
    unary[10:30, 1:4] = 0.0  # equal evidence, with and without neighbors
    ignored, came_with = np.arange(200) % 3 == 0, np.arange(200) % 5
    order = np.array([3, 0, 4, 2, 1])  # new number of each class
    renamed = np.empty_like(unary)
    renamed[:, order] = unary
    one = dense_crf(features, unary, SETTINGS, ignored=ignored, labels=came_with, **how)
    two = dense_crf(features, renamed, SETTINGS, ignored=ignored, labels=order[came_with], **how)
    np.testing.assert_allclose(one.marginals, two.marginals[:, order], atol=1e-6)
    np.testing.assert_array_equal(order[one.labels], two.labels)


def test_a_label_gives_way_to_evidence():
    features, unary = cloud()
    expected = dense_crf(features, unary, SETTINGS)
    result = dense_crf(features, unary, SETTINGS, labels=np.full(200, 2))
    np.testing.assert_array_equal(result.labels, expected.labels)


def test_one_point_keeps_its_label():
    unary = np.array([[2.0, 0.5, 1.0]], np.float32)
    result = dense_crf(np.zeros((1, 3)), unary, SETTINGS)
    assert result.labels.tolist() == [1]
    np.testing.assert_allclose(result.marginals.sum(), 1, rtol=1e-6)


def test_no_point_gives_no_label():
    result = dense_crf(np.zeros((0, 3)), np.zeros((0, 4)), SETTINGS)
    assert result.marginals.shape == (0, 4) and result.labels.shape == (0,)


@pytest.mark.parametrize("builder", ["host", "device"])
def test_identical_points_agree_on_one_label(builder):
    unary = np.tile(np.array([1.0, 0.0, 2.0], np.float32), (500, 1))
    unary[::3] = [0.0, 1.0, 2.0]
    result = dense_crf(np.full((500, 3), 0.7), unary, SETTINGS, builder=builder)
    np.testing.assert_array_equal(result.labels, 1)


def test_clouds_of_similar_size_compile_once():
    sizes = []
    with counted_compiles("mean_field") as compiled:
        for size in (1180, 1200, 1220):
            dense_crf(*cloud(size, seed=size), SETTINGS, builder="device")
            sizes.append(len(compiled))
    assert sizes[1:] == sizes[:1] * 2


def test_device_does_not_matter():
    features, unary = cloud()
    expected = dense_crf(features, unary, SETTINGS)
    device = jax.devices()[1]
    kernels = build_kernels(features, SETTINGS, builder="device", device=device)
    assert kernels.kernels[0].send.devices() == {device}
    assert_close(infer(kernels, unary, weights=WEIGHTS, num_iterations=3), expected)


def test_kernels_serve_many_inferences():
    features, unary = cloud()
    kernels = build_kernels(features, SETTINGS)
    expected = dense_crf(features, unary, SETTINGS)
    for _ in range(2):
        assert_close(infer(kernels, unary, weights=WEIGHTS, num_iterations=3), expected)


def test_bad_input_is_one_clear_line():
    features, unary = cloud(4)
    nan = features.copy()
    nan[2, 1] = np.nan
    broken = unary.copy()
    broken[3, 0] = np.nan
    wide = features.astype(np.float64)
    wide[0, 0] = 1e9
    for message, run in {
        "Features of 1 points are not finite, first of point 2": lambda: dense_crf(
            nan, unary, SETTINGS
        ),
        "has NaN or -inf, first of point 3": lambda: dense_crf(features, broken, SETTINGS),
        "needs feature column 2": lambda: dense_crf(features[:, :2], unary, SETTINGS),
        "The unary has shape": lambda: dense_crf(features, unary[:3], SETTINGS),
        "spans 1e\\+09, over 32768 kernel widths": lambda: dense_crf(wide, unary, SETTINGS),
        "have no allowed class, first is point 0": lambda: dense_crf(
            features, unary, SETTINGS, allowed=np.zeros(5, bool)
        ),
        "allowed is": lambda: dense_crf(features, unary, SETTINGS, allowed=np.ones(4, bool)),
        "labels is float64": lambda: dense_crf(features, unary, SETTINGS, labels=np.ones(4)),
        "Point 2 comes with label 5; give one of 5 classes": lambda: dense_crf(
            features, unary, SETTINGS, labels=np.array([-1, 0, 5, 6])
        ),
        "ignored is": lambda: dense_crf(features, unary, SETTINGS, ignored=np.ones(3, bool)),
        "compatibility has shape": lambda: dense_crf(
            features, unary, SETTINGS, compatibility=np.eye(4)
        ),
        "method is 'fast'": lambda: dense_crf(features, unary, SETTINGS, method="fast"),
        "builder is 'gpu'": lambda: dense_crf(features, unary, SETTINGS, builder="gpu"),
    }.items():
        with pytest.raises(ValueError, match=message) as error:
            run()
        assert "\n" not in str(error.value)


def test_unknown_setting_names_the_valid_ones():
    with pytest.raises(ValueError, match="'none', 'before', 'after', 'symmetric'"):
        dataclasses.replace(SETTINGS, normalization="rows")
    with pytest.raises(ValueError, match="widths"):
        KernelSettings((0, 1), (0.2,), 1.0)
    with pytest.raises(ValueError, match="positive"):
        KernelSettings((0,), (0.0,), 1.0)
