import pathlib
import shutil

import numpy as np
import pytest

from mprm_jax.errors import MissingError
from mprm_jax.tagging.looks import open_look


@pytest.fixture
def run(tmp_path, export):
    """A work directory with the export of a run."""
    shutil.copytree(export.path, tmp_path / "run" / "pseudo_labels")
    return tmp_path / "run"


def test_a_run_and_its_export_are_the_same(run, export):
    for path in (run, run / "pseudo_labels"):
        look = open_look(path)
        assert look.export is look.labeled
        assert look.export.scenes == export.scenes


def test_labels_after_the_crf_are_shown_beside_those_before(run, refined):
    shutil.copytree(refined.path, run / "pseudo_labels_crf")
    for path in (run, run / "pseudo_labels", run / "pseudo_labels_crf"):
        look = open_look(path)
        assert look.export.path == run / "pseudo_labels"
        assert look.labeled.path == run / "pseudo_labels_crf"
        assert {"before", "changed"} < look.layers(look.labeled.scenes[0]).keys()


def test_a_run_without_labels_says_how_to_make_them(tmp_path):
    with pytest.raises(MissingError, match=f"mprm export --workdir {tmp_path}"):
        open_look(tmp_path)


def test_questions_and_findings_lie_with_their_scene(run, store):
    look = open_look(run)
    asked = look.ask(5, {})
    look.review()
    assert sum(map(len, look.questions.values())) == len(asked) > 0
    assert sum(map(len, look.findings.values())) > 0
    for scene, findings in look.findings.items():
        weights = [finding.weight for finding in findings]
        assert all(finding.scene == scene for finding in findings)
        assert weights == sorted(weights, reverse=True)


def test_before_training_the_store_alone_asks(store):
    look = open_look(store.path)
    assert look.ask(3, {})
    assert look.confusion is None
    assert look.layers(store.scenes("train")[0]) == {}


def test_what_was_asked_is_not_asked_again(run):
    look = open_look(run)
    first = look.ask(3, {})
    already = {scene: np.array([q.point for q in found]) for scene, found in look.questions.items()}
    again = look.ask(3, already)
    assert not {question.point for question in first} & {question.point for question in again}


def test_a_scene_without_labels_has_no_layers(run):
    assert open_look(run).layers("elsewhere") == {}


def test_balls_of_the_store_are_in_the_frame_of_the_scan(run, store):
    look = open_look(run)
    scene = look.labeled.scenes[0]
    origin = store.info("train", scene).origin
    expected = store.weak_labels("train", scene).centers[0] + np.array(origin)
    np.testing.assert_allclose(look.ball(scene, 0)[:3], expected)
    assert pathlib.Path(look.labeled.manifest.store) == store.path
