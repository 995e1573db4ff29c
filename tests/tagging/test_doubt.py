"""Evidence lies within the candidates, whatever it comes from, and doubt is what it leaves."""

import numpy as np
import pytest
from mined_exports import mined_export

from mprm_jax.labeling.choice import exported_probabilities
from mprm_jax.store.truth import voxel_labels
from mprm_jax.tagging.doubt import UNCOVERED, Belief, Beliefs, confusion_of


@pytest.fixture(params=["sets", "mined", "predicted"])
def beliefs(request, store, export, predicted):
    found = {"sets": None, "mined": export, "predicted": predicted}[request.param]
    return Beliefs(store, found)


def test_evidence_is_a_distribution_over_the_candidates(beliefs):
    for scene in beliefs.scenes:
        belief = beliefs.of(scene)
        assert not belief.shares[~belief.allowed].any()
        # Sums over a few classes in float32.
        np.testing.assert_allclose(belief.shares.sum(axis=1), belief.allowed.any(axis=1), atol=1e-6)


def test_doubt_is_a_share(beliefs):
    doubts = np.concatenate([beliefs.of(scene).doubt for scene in beliefs.scenes])
    assert 0 <= doubts.min() < doubts.max() < 1


def test_without_a_network_all_candidates_are_alike(store):
    belief = Beliefs(store, None).of("room0")
    counts = np.maximum(belief.allowed.sum(axis=1), 1)
    np.testing.assert_allclose(belief.doubt[belief.covered], 1 - 1 / counts[belief.covered])


def test_evidence_of_mining_is_that_of_the_labels(store, export):
    belief, found = Beliefs(store, export).of("room1"), export.load("room1")
    expected = exported_probabilities(export, found)
    np.testing.assert_allclose(belief.shares[belief.covered], expected[belief.covered], atol=1e-6)
    assert np.all(belief.shares.argmax(axis=1)[belief.covered] == found.label[belief.covered])


def test_probabilities_are_compared_with_their_mean(store, predicted):
    scores = {scene: predicted.load(scene).scores.astype(float) for scene in predicted.scenes}
    mean = np.concatenate(list(scores.values())).mean(axis=0)
    belief = Beliefs(store, predicted).of("room2")
    expected = scores["room2"] / mean * belief.allowed
    expected /= np.maximum(expected.sum(axis=1, keepdims=True), 1e-30)
    # Means of float16 values, and float32 beside float64.
    np.testing.assert_allclose(belief.shares, expected, atol=1e-5)


def test_where_all_is_allowed_rows_sum_to_one_where_the_network_looked(store, export, predicted):
    for found in (export, predicted):
        shares = Beliefs(store, found).unrestricted("room0")
        looked = found.load("room0").num_balls > 0
        np.testing.assert_allclose(shares[looked].sum(axis=1), 1, atol=1e-6)
    assert (
        not Beliefs(store, export).unrestricted("room0")[export.load("room0").num_balls == 0].any()
    )


def doubt_of(**changes):
    known = {
        "allowed": np.array([[True, True]]),
        "shares": np.array([[0.7, 0.3]], np.float32),
        "covered": np.array([True]),
        "certain": np.array([False]),
    }
    return Belief(**(known | changes)).doubt[0]


def test_what_is_certain_or_holds_nothing_is_not_in_doubt():
    assert doubt_of() == pytest.approx(0.3)
    assert doubt_of(covered=np.array([False])) == pytest.approx(UNCOVERED)
    assert doubt_of(certain=np.array([True])) == 0
    assert doubt_of(certain=np.array([True]), covered=np.array([False])) == 0
    nothing = {"allowed": np.zeros((1, 2), bool), "shares": np.zeros((1, 2), np.float32)}
    assert doubt_of(**nothing) == 0


def test_wrong_labels_are_in_more_doubt(store, export):
    doubts, wrong = [], []
    for scene in export.scenes:
        belief, truth = Beliefs(store, export).of(scene), voxel_labels(store, "train", scene)
        several = belief.covered & (truth >= 0) & (belief.allowed.sum(axis=1) > 1)
        doubts.append(belief.doubt[several])
        wrong.append((export.load(scene).label != truth)[several])
    doubt, is_wrong = np.concatenate(doubts), np.concatenate(wrong)
    assert doubt[is_wrong].mean() > 1.2 * doubt[~is_wrong].mean()


def test_confusion_has_rows_that_sum_to_one(store, export, predicted):
    for found in (export, predicted):
        confusion = confusion_of(found, store)
        np.testing.assert_allclose(confusion.sum(axis=1), 1)
        assert np.all(confusion.diagonal() > 0.5)


def test_confusion_matches_the_naive_loop(store, export):
    beliefs, expected, weight = Beliefs(store, export), np.zeros((3, 3)), np.zeros(3)
    for scene in beliefs.scenes:
        belief = beliefs.of(scene)
        for shares in belief.shares[belief.covered].astype(float):
            for a in range(3):
                expected[a] += shares[a] * shares
                weight[a] += shares[a]
    np.testing.assert_allclose(confusion_of(export, store), expected / weight[:, None])


def test_a_surer_network_confuses_less(store, predicted, tmp_path):
    sure = mined_export(tmp_path / "export", store, strength=9.0, predicted=True)
    less, more = confusion_of(sure, store), confusion_of(predicted, store)
    assert np.all(less.diagonal() > more.diagonal())


def test_refined_scores_are_no_evidence(store, refined):
    with pytest.raises(ValueError, match=r"its scores were refined, .* name the export that"):
        Beliefs(store, refined)


def test_an_export_of_other_data_is_refused(store, tmp_path, odd):
    with pytest.raises(ValueError, match="made from another version of the data than"):
        Beliefs(odd("no colors"), mined_export(tmp_path / "export", store))
