"""Expression metrics: parity with scipy and brute force, invariants, and what doing nothing scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cosine as scipy_cosine

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


@pytest.mark.parametrize("kind", ["l1", "l2", "cosine"])
def test_discrimination_perfect_constant_and_reversed(kind):
    truths = np.random.default_rng(0).normal(0, 1, (8, 30))
    assert measure.discrimination(truths, truths, kind) == pytest.approx(np.ones(8))
    silent = measure.discrimination(np.zeros_like(truths), truths, "cosine")
    assert silent == pytest.approx((8 + 1) / 16)
    order = np.random.default_rng(1).permutation(8)
    noisy = truths + 0.1
    assert measure.discrimination(noisy[order], truths[order], kind) == pytest.approx(
        measure.discrimination(noisy, truths, kind)[order]
    )
    assert measure.discrimination(truths[:1], truths[:1], kind) is None


def test_discrimination_equals_cell_eval_definition_without_ties():
    rng = np.random.default_rng(5)
    truths, found = rng.normal(0, 1, (10, 20)), rng.normal(0, 1, (10, 20))
    expected = []
    for i in range(10):
        order = np.argsort(np.abs(truths - found[i]).sum(axis=1))
        expected.append(1 - np.flatnonzero(order == i)[0] / 10)
    assert measure.discrimination(found, truths, "l1") == pytest.approx(expected)


def test_discrimination_leaves_the_perturbed_gene_out():
    truths = np.array([[5.0, 0.0, 0.0], [0.0, 5.0, 1.0]])
    found = np.array([[0.0, 5.0, 0.0], [0.0, 5.0, 1.0]])
    exclude = np.array([[True, True, False], [False, False, False]])
    assert measure.discrimination(found, truths, "l1")[0] == pytest.approx(0.5)
    assert measure.discrimination(found, truths, "l1", exclude)[0] == pytest.approx(1.0)


def test_energy_distance_against_brute_force_and_its_properties():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (15, 3)), rng.normal(1, 1, (12, 3))

    def mean(a, b, same):
        pairs = [
            np.linalg.norm(p - q) for i, p in enumerate(a) for j, q in enumerate(b) if not (same and i == j)
        ]
        return np.mean(pairs)

    expected = 2 * mean(x, y, False) - mean(x, x, True) - mean(y, y, True)
    assert measure.energy_distance(x, y) == pytest.approx(expected)
    assert measure.energy_distance(x, y) == pytest.approx(measure.energy_distance(y, x))
    halves = [measure.energy_distance(*np.split(rng.normal(0, 1, (60, 3)), 2)) for _ in range(200)]
    assert abs(np.mean(halves)) < 4 * np.std(halves) / np.sqrt(200)  # unbiased: 0 on average for equal groups
    assert measure.energy_distance(x[:1], y[:1]) == pytest.approx(2 * np.linalg.norm(x[0] - y[0]))
    with pytest.raises(InvalidDataError, match="empty"):
        measure.energy_distance(np.zeros((0, 3)), y)


def test_principal_axes_equal_the_exact_ones():
    x = np.random.default_rng(0).normal(0, 1, (80, 30)) * np.linspace(6, 0.1, 30)
    mean, axes = measure.principal_axes(x, 5, np.random.default_rng(1))
    exact = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:5].T
    assert mean == pytest.approx(x.mean(axis=0))
    assert np.abs((axes * exact).sum(axis=0)) == pytest.approx(np.ones(5), abs=1e-3)
    assert np.array_equal(axes, measure.principal_axes(x, 5, np.random.default_rng(1))[1])
