"""Choices of labels: another power of the prior, and measures of some scenes."""

import label_choices
import numpy as np
import pytest
from networks import write_network
from prepared import make_store

from mprm_jax.labeling.choice import exported_probabilities
from mprm_jax.labeling.measuring import measure_labels
from mprm_jax.labeling.refining import refine_export
from mprm_jax.prediction.exporting import export_predictions
from mprm_jax.store.exports import Export

HOW = {"checkpoint": "last", "store": None, "split": "train", "output": None}
HOW |= {"num_devices": 1, "as_ply": False}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"), num_train=2)


@pytest.fixture(scope="module")
def workdir(store, tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("seg") / "run", store, "seg")


def test_predictions_are_reweighed_as_if_exported_so(workdir, tmp_path):
    exports = []
    for exponent in (0.5, 1.0):
        to = {"output": tmp_path / f"power-{exponent}", "prior_exponent": exponent}
        export_predictions(workdir, **HOW | to)
        exports.append(Export(to["output"]))
    found = label_choices.Reweighed(exports[0].path, 1.0)
    for name in found.scenes:
        scenes = (export.load(name) for export in (found, exports[1]))
        probabilities = (
            exported_probabilities(export, scene)
            for export, scene in zip((found, exports[1]), scenes, strict=True)
        )
        np.testing.assert_allclose(*probabilities, atol=1e-5)


def test_a_power_that_forgot_the_prior_is_one_line(workdir, tmp_path):
    to = {"output": tmp_path / "power-0", "prior_exponent": 0.0}
    export_predictions(workdir, **HOW | to)
    with pytest.raises(ValueError, match="notes no prior; export again"):
        label_choices.Reweighed(to["output"], 1.0)


def test_quality_is_that_of_the_refined_export(workdir, store, tmp_path):
    export_predictions(workdir, **HOW | {"output": tmp_path / "labels"})
    export = Export(tmp_path / "labels")
    found = label_choices.quality(export, store, 1, label_choices.NORMALS)
    refined = refine_export(export, store, label_choices.NORMALS, tmp_path / "refined")
    expected = measure_labels(refined, store)
    assert found["scenes"] == 2
    np.testing.assert_allclose(found["miou_occurring"], 100 * expected.occurring_iou, atol=0.01)
    np.testing.assert_allclose(found["accuracy"], 100 * expected.accuracy, atol=0.01)
