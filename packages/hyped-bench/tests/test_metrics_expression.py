"""Expression metrics: parity with scipy and brute force, invariants, and what doing nothing scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cosine as scipy_cosine
from sklearn.metrics import r2_score

from hyped_bench.metrics import expression as measure
from hyped_core.errors import InvalidDataError

RNG = np.random.default_rng(3)
CONTROL = RNG.gamma(1.0, 1.0, 60)
TRUTH = CONTROL + RNG.normal(0, 0.3, 60)
PREDICTION = TRUTH + RNG.normal(0, 0.1, 60)


def test_parity_with_scipy():
    assert measure.pearson(PREDICTION, TRUTH) == pytest.approx(stats.pearsonr(PREDICTION, TRUTH)[0])
    assert measure.cosine(PREDICTION, TRUTH) == pytest.approx(1 - scipy_cosine(PREDICTION, TRUTH))
    expected = stats.pearsonr(PREDICTION - CONTROL, TRUTH - CONTROL)[0]
    assert measure.pearson_delta(PREDICTION, TRUTH, CONTROL) == pytest.approx(expected)
    a, b = RNG.normal(0, 1, (30, 5)), RNG.normal(0.5, 2, (40, 5))
    expected = stats.ttest_ind(a, b, equal_var=False).statistic
    assert measure.welch_t(measure.Moments.of(a), measure.Moments.of(b)) == pytest.approx(expected)
    everything = measure.Moments.of(np.concatenate([a, b]))
    left = everything.without(measure.Moments.of(a))
    assert measure.welch_t(measure.Moments.of(a), left) == pytest.approx(expected)
    constant = measure.Moments.of(np.full((5, 2), 1.1))
    assert measure.welch_t(constant, constant).tolist() == [0.0, 0.0]


def test_no_change_looks_good_on_means_and_is_called_by_its_name_on_changes():
    assert measure.pearson(CONTROL, TRUTH) > 0.9
    assert measure.cosine(CONTROL, TRUTH) > 0.95
    assert measure.pearson_delta(CONTROL, TRUTH, CONTROL) is None
    assert measure.cosine_delta(CONTROL, TRUTH, CONTROL) is None
    assert measure.mse_relative(CONTROL, TRUTH, CONTROL) == pytest.approx(1.0)
    assert measure.mse_relative(TRUTH, TRUTH, CONTROL) == 0.0
    assert measure.mse_relative(TRUTH, CONTROL, CONTROL) is None


@given(st.floats(0.1, 10), st.floats(-5, 5))
@settings(max_examples=30, deadline=None)
def test_scale_and_offset(scale, offset):
    moved = PREDICTION * scale + offset
    assert measure.pearson(moved, TRUTH) == pytest.approx(measure.pearson(PREDICTION, TRUTH))
    assert measure.cosine(PREDICTION * scale, TRUTH) == pytest.approx(measure.cosine(PREDICTION, TRUTH))
    assert measure.mse_delta(PREDICTION, TRUTH, CONTROL + offset) == pytest.approx(
        measure.mse(PREDICTION, TRUTH)
    )


def test_constant_vectors_have_no_correlation():
    assert measure.pearson(np.ones(60), TRUTH) is None
    assert measure.cosine(np.zeros(60), TRUTH) is None
    with pytest.raises(InvalidDataError, match="shape"):
        measure.mse(TRUTH, TRUTH[:10])


def test_weights_sum_to_one_and_follow_the_statistic():
    weights = measure.de_weights([0.0, np.nan, -2.0, 1.0])
    assert weights.sum() == pytest.approx(1.0)
    assert weights == pytest.approx(np.array([0, 0, 1, 0.25]) / 1.25)
    assert measure.de_weights(np.zeros(4)) == pytest.approx([0.25] * 4)
    assert measure.wmse(PREDICTION, TRUTH, np.full(60, 1 / 60)) == pytest.approx(
        measure.mse(PREDICTION, TRUTH)
    )


def test_errors_of_changes_are_errors_of_means_whatever_the_reference():
    for reference in (CONTROL, TRUTH.mean() * np.ones(60), RNG.normal(0, 1, 60)):
        assert measure.mse_delta(PREDICTION, TRUTH, reference) == pytest.approx(measure.mse(PREDICTION, TRUTH))
        assert measure.mae_delta(PREDICTION, TRUTH, reference) == pytest.approx(measure.mae(PREDICTION, TRUTH))


def test_explained_variance_equals_sklearn_and_doing_nothing_is_not_above_zero():
    weights = measure.de_weights(TRUTH - CONTROL)
    for w in (None, weights):
        expected = r2_score(TRUTH - CONTROL, PREDICTION - CONTROL, sample_weight=w)
        assert measure.r2_delta(PREDICTION, TRUTH, CONTROL, w) == pytest.approx(expected)
        change = TRUTH - CONTROL
        mean = np.average(change, weights=w)
        nothing = -(mean**2) / np.average((change - mean) ** 2, weights=w)
        assert measure.r2_delta(CONTROL, TRUTH, CONTROL, w) == pytest.approx(nothing) and nothing <= 0
        assert measure.r2_delta(TRUTH, TRUTH, CONTROL, w) == 1.0
    assert measure.weighted_r2_delta(PREDICTION, TRUTH, CONTROL, weights) == pytest.approx(expected)
    assert measure.r2_delta(PREDICTION, CONTROL + 0.5, CONTROL) is None
    one_gene = np.eye(60)[3]
    assert measure.r2_delta(PREDICTION, TRUTH, CONTROL, one_gene) is None
    with pytest.raises(InvalidDataError, match="weights"):
        measure.r2_delta(PREDICTION, TRUTH, CONTROL, -weights)


def test_the_mean_of_training_perturbations_has_no_change_against_itself_and_no_change_has_one():
    trained = CONTROL + 0.2 * RNG.normal(0, 1, 60)
    assert measure.pearson_delta(trained, TRUTH, trained) is None
    assert measure.cosine_delta(trained, TRUTH, trained) is None
    assert measure.pearson_delta(CONTROL, TRUTH, trained) is not None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(bad):
    spoiled = PREDICTION.copy()
    spoiled[7] = bad
    for score in (measure.cosine, measure.pearson, measure.mse, measure.mae):
        with pytest.raises(InvalidDataError, match="NaN"):
            score(spoiled, TRUTH)
    for score in (measure.pearson_delta, measure.cosine_delta, measure.mse_relative, measure.r2_delta):
        with pytest.raises(InvalidDataError, match="NaN"):
            score(spoiled, TRUTH, CONTROL)
    with pytest.raises(InvalidDataError, match="no genes"):
        measure.mse([], [])


@given(st.permutations(range(60)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_genes_does_not_matter(order):
    p, t, r = PREDICTION[order], TRUTH[order], CONTROL[order]
    for score in (measure.pearson_delta, measure.cosine_delta, measure.mse_relative, measure.r2_delta):
        assert score(p, t, r) == pytest.approx(score(PREDICTION, TRUTH, CONTROL), rel=1e-9)
    weights = measure.de_weights(TRUTH - CONTROL)
    assert measure.wmse(p, t, weights[order]) == pytest.approx(measure.wmse(PREDICTION, TRUTH, weights), rel=1e-9)


def test_principal_axes_equal_the_exact_ones():
    x = np.random.default_rng(0).normal(0, 1, (80, 30)) * np.linspace(6, 0.1, 30)
    mean, axes = measure.principal_axes(x, 5, np.random.default_rng(1))
    exact = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:5].T
    assert mean == pytest.approx(x.mean(axis=0))
    assert np.abs((axes * exact).sum(axis=0)) == pytest.approx(np.ones(5), abs=1e-3)
    assert np.array_equal(axes, measure.principal_axes(x, 5, np.random.default_rng(1))[1])
