"""Ranks among perturbations: parity with brute force, ties, genes left out, and what one prediction for all scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from hyped_bench.metrics import discrimination as measure
from hyped_core.errors import InvalidDataError

KINDS = {"l1": "cityblock", "l2": "euclidean", "cosine": "cosine"}


def by_hand(predictions, truths, kind, exclude):
    """Ranks of each prediction's own truth, gene by gene."""
    n = len(predictions)
    scores = []
    for i in range(n):
        kept = ~exclude[i]
        apart = cdist(predictions[i : i + 1, kept], truths[:, kept], KINDS[kind])[0]
        scores.append((n - (apart < apart[i]).sum()) / n)
    return np.array(scores)


@pytest.mark.parametrize("kind", KINDS)
def test_both_orientations_equal_brute_force(kind):
    rng = np.random.default_rng(5)
    truths, found = rng.normal(0, 1, (12, 25)), rng.normal(0, 1, (12, 25))
    exclude = rng.random((12, 25)) < 0.1
    expected = by_hand(found, truths, kind, exclude)
    assert 1 / 12 <= expected.min() < expected.max() <= 1
    assert measure.discrimination(found, truths, kind, exclude) == pytest.approx(expected)
    expected = by_hand(truths, found, kind, exclude)
    assert measure.transposed_rank(found, truths, kind, exclude) == pytest.approx(expected)
    nothing_left_out = np.zeros_like(exclude)
    assert measure.discrimination(found, truths, kind) == pytest.approx(by_hand(found, truths, kind, nothing_left_out))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("score", [measure.discrimination, measure.transposed_rank])
def test_perfect_predictions_score_one_and_order_does_not_matter(kind, score):
    rng = np.random.default_rng(0)
    truths = rng.normal(0, 1, (8, 30))
    assert score(truths, truths, kind) == pytest.approx(np.ones(8))
    order, genes = rng.permutation(8), rng.permutation(30)
    noisy = truths + rng.normal(0, 2, truths.shape)
    assert score(noisy[order], truths[order], kind) == pytest.approx(score(noisy, truths, kind)[order])
    assert score(noisy[:, genes], truths[:, genes], kind) == pytest.approx(score(noisy, truths, kind))
    assert score(truths[:1], truths[:1], kind) is None


@given(st.integers(2, 9), st.integers(0, 2**32 - 1), st.sampled_from(sorted(KINDS)), st.booleans())
@settings(max_examples=40, deadline=None)
def test_one_prediction_for_all_scores_what_is_stated(n, seed, kind, zero):
    """No change, or the mean of training perturbations: (n + 1) / 2n, and 0.5 as a centroid accuracy."""
    rng = np.random.default_rng(seed)
    truths = rng.normal(0, 1, (n, 15))
    one = np.zeros((n, 15)) if zero else np.repeat(rng.normal(0, 1, (1, 15)), n, axis=0)
    stated = (n + 1) / (2 * n)
    assert measure.transposed_rank(one, truths, kind) == pytest.approx(stated)
    assert measure.discrimination(one, truths, kind).mean() == pytest.approx(stated)
    if zero and kind == "cosine":
        assert measure.discrimination(one, truths, kind) == pytest.approx(stated)
    assert measure.centroid_accuracy(one, truths).mean() == pytest.approx(0.5)


def test_centroid_accuracy_is_the_share_of_others_that_lie_farther():
    rng = np.random.default_rng(2)
    truths, found = rng.normal(0, 1, (10, 20)), rng.normal(0, 1, (10, 20))
    apart = cdist(found, truths)
    expected = [(apart[i] > apart[i, i]).sum() / 9 for i in range(10)]
    assert measure.centroid_accuracy(found, truths) == pytest.approx(expected)
    pds = measure.discrimination(found, truths, "l2")
    assert (10 * pds - 1) / 9 == pytest.approx(expected)
    assert measure.centroid_accuracy(truths, truths) == pytest.approx(np.ones(10))
    assert measure.centroid_accuracy(truths[:1], truths[:1]) is None


def test_the_perturbed_gene_is_left_out():
    truths = np.array([[5.0, 0.0, 0.0], [0.0, 5.0, 1.0]])
    found = np.array([[0.0, 5.0, 0.0], [0.0, 5.0, 1.0]])
    exclude = np.array([[True, True, False], [False, False, False]])
    assert measure.discrimination(found, truths, "l1")[0] == pytest.approx(0.5)
    for kind in ("l1", "l2"):
        assert measure.discrimination(found, truths, kind, exclude)[0] == pytest.approx(1.0)
    # what is left of the prediction is zero: no direction, so all truths tie
    assert measure.discrimination(found, truths, "cosine", exclude)[0] == pytest.approx(0.75)


def test_small_differences_beside_a_large_common_shift_are_not_lost():
    rng = np.random.default_rng(9)
    truths = 1e3 + rng.normal(0, 1, (6, 200))
    found = truths + rng.normal(0, 0.1, truths.shape)
    for kind in ("l1", "l2"):
        assert measure.discrimination(found, truths, kind) == pytest.approx(np.ones(6))


def test_bad_input_is_an_error():
    truths = np.random.default_rng(0).normal(0, 1, (4, 6))
    spoiled = truths.copy()
    spoiled[1, 2] = np.nan
    for score in (measure.discrimination, measure.transposed_rank, measure.centroid_accuracy):
        with pytest.raises(InvalidDataError, match="NaN"):
            score(spoiled, truths)
        with pytest.raises(InvalidDataError, match="shape"):
            score(truths[:3], truths)
    with pytest.raises(InvalidDataError, match="unknown distance"):
        measure.discrimination(truths, truths, "manhattan")
    with pytest.raises(InvalidDataError, match="leave out"):
        measure.discrimination(truths, truths, "l1", np.zeros((4, 5), dtype=bool))
