"""`load`: a network of either stage labels any cloud, and says clearly what it cannot do."""

import shutil

import jax
import numpy as np
import pytest
from label_exports import pseudo_labels, write_export
from networks import write_network
from prepared import make_store

from mprm_jax.labeling.choice import ClassScale, standardise
from mprm_jax.prediction.network import load, most_active, most_probable

NUM_CLASSES = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", params=["cls", "seg"])
def network(request, store, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return load(write_network(folder, store, request.param))


def cloud(num_points=300):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 2, (num_points, 3)), rng.integers(0, 256, (num_points, 3), np.uint8)


def test_every_point_gets_a_label_and_a_confidence(network):
    coords, colors = cloud()
    coords[7] = np.nan
    labels, confidence = network.predict(coords, colors)
    assert labels.dtype == np.int32 and confidence.dtype == np.float32
    assert labels.shape == confidence.shape == (300,)
    assert labels[7] == -1 and confidence[7] == 0
    assert np.delete(labels, 7).min() >= 0 and labels.max() < NUM_CLASSES
    assert np.delete(confidence, 7).min() > 0 and confidence.max() <= 1


def test_bytes_and_floats_are_the_same_colors(network):
    coords, colors = cloud()
    found = network.predict(coords, colors), network.predict(coords, colors / 255)
    np.testing.assert_array_equal(found[0].label, found[1].label)


def test_only_the_classes_asked_for_are_chosen(network):
    coords, colors = cloud()
    for name in network.classes:
        labels, _ = network.predict(coords, colors, classes=[name])
        assert set(labels) == {network.classes.index(name)}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((np.zeros((4, 2)), None), r"coords has shape \(4, 2\)"),
        ((np.zeros((4, 3)), None), "no colors, but the network was trained with them"),
        ((np.zeros((4, 3)), np.zeros((3, 3))), r"colors has shape \(3, 3\); give \(4, 3\)"),
        ((np.zeros((4, 3)), np.full((4, 3), 2.0)), r"floats outside of \[0, 1\]"),
        ((np.zeros((4, 3)), np.zeros((4, 3), int)), "colors is int64; give uint8"),
        ((np.full((4, 3), np.nan), np.zeros((4, 3))), "no point has a finite position"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(network, arguments, named):
    with pytest.raises(ValueError, match=named):
        network.predict(*arguments)


def test_an_unknown_class_is_named(network):
    with pytest.raises(ValueError, match=r"classes=\['sofa'\]: choose some of"):
        network.predict(*cloud(), classes=["sofa"])


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path)


def test_a_scale_of_another_step_is_said(store, tmp_path, caplog):
    net = load(write_network(tmp_path / "run", store, "cls"))
    scale = {"mean": [0.0] * NUM_CLASSES, "deviation": [1.0] * NUM_CLASSES}
    for step, said in ((net.step, False), (net.step + 1, True)):
        shutil.rmtree(net.workdir / "pseudo_labels", ignore_errors=True)
        settings = {"origin": {"step": step}, "class_scale": scale}
        write_export(net.workdir / "pseudo_labels", store, pseudo_labels(store), settings=settings)
        caplog.clear()
        net.predict(*cloud())
        assert ("on the scale of step" in caplog.text) == said


def test_the_class_of_the_largest_score_on_its_scale_is_chosen():
    scores = np.float32([[0.2, 0.5, 0.1], [0.4, 0.1, 0.3]])
    scale = ClassScale(np.array([0.1, 0.6, 0.0]), np.array([0.1, 0.1, 0.2]))
    allowed = np.array([True, True, False])
    found = most_active(scores, allowed, scale)
    expected = standardise(scores, scale)[:, :2]
    np.testing.assert_array_equal(found.label, expected.argmax(axis=1))
    np.testing.assert_allclose(found.confidence, jax.nn.softmax(expected).max(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(most_active(scores, allowed, None).label, [1, 0])


def test_the_most_probable_allowed_class_is_chosen():
    shares = np.float32([[0.2, 0.5, 0.3], [0.4, 0.1, 0.5]])
    found = most_probable(shares, np.array([True, False, True]))
    np.testing.assert_array_equal(found.label, [2, 2])
    np.testing.assert_allclose(found.confidence, [0.3, 0.5])
