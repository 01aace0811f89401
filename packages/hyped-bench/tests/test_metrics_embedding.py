"""Scores of embeddings against plain arithmetic, and what doing nothing gets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyped_bench.metrics import embedding as measure
from hyped_core.errors import InvalidDataError


def test_cosines_along_rows_are_those_of_single_vectors():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 1, 7)), rng.normal(size=(4, 7))
    b[2] = 0
    found = measure.cosine_rows(a, b)
    assert found.shape == (3, 4) and np.isnan(found[:, 2]).all()
    for i in range(3):
        for j in (0, 1, 3):
            by_hand = sum(a[i, 0] * b[j]) / (sum(a[i, 0] ** 2) * sum(b[j] ** 2)) ** 0.5
            assert found[i, j] == pytest.approx(by_hand, abs=1e-14)


def test_a_contrast_forgets_what_all_conditions_share():
    rng = np.random.default_rng(1)
    means, pool = rng.normal(size=(3, 5)), 100 * rng.normal(size=5)
    found = measure.contrasts(means)
    assert found[0] == pytest.approx(means[0] - (means[1] + means[2]) / 2)
    assert found.sum(axis=0) == pytest.approx(np.zeros(5), abs=1e-12)
    assert measure.contrasts(means + pool) == pytest.approx(found, abs=1e-10)
    with pytest.raises(InvalidDataError, match="two conditions"):
        measure.contrasts(means[:1])


def test_a_shift_within_rounding_is_no_direction():
    shifts = np.array([[1e-7, 0.0], [1e-3, 0.0]])
    assert measure.still(shifts, 1.0).tolist() == [[0.0, 0.0], [1e-3, 0.0]]
    assert shifts[0, 0] == 1e-7


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(-1, 1))
def test_p_values_count_ties_against_the_model(null, real):
    p = measure.empirical_p(real, null)
    assert p >= (1 + sum(v >= real for v in null)) / (1 + len(null))
    assert 1 / (1 + len(null)) <= p <= 1
    assert measure.empirical_p(null[0], [null[0]] * 3) == 1.0


def test_p_values_without_a_value_or_a_null():
    assert measure.empirical_p(None, [0.0, -1.0]) == 1.0
    assert measure.empirical_p(0.3, []) is None
    assert measure.empirical_p(0.5, np.linspace(-1, 0.4, 19)) == 0.05


@given(st.integers(2, 40), st.integers(0, 10))
def test_halves_are_disjoint_and_as_large_as_each_other(n, seed):
    a, b = measure.halves(n, 5, np.random.default_rng(seed))
    assert not ((a > 0) & (b > 0)).any()
    assert ((a > 0).sum(axis=1) == n // 2).all() and ((b > 0).sum(axis=1) == n // 2).all()
    assert np.allclose(a.sum(axis=1), 1) and np.allclose(b.sum(axis=1), 1)
    with pytest.raises(InvalidDataError, match="halves"):
        measure.halves(1, 5, np.random.default_rng(seed))


def test_resampled_means_spread_as_the_standard_error_says():
    rng = np.random.default_rng(2)
    x = rng.normal(size=200)
    means = measure.resampling(200, 4000, rng) @ x
    assert means.mean() == pytest.approx(x.mean(), abs=0.01)
    assert means.std() == pytest.approx(x.std() / np.sqrt(200), rel=0.05)


def test_intervals_hold_the_value_though_resampling_lowers_cosines():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=64)
    cells = 0.1 * truth + rng.normal(size=(20, 64))
    value = float(measure.cosine_rows(cells.mean(axis=0), truth))
    draws = measure.cosine_rows(measure.resampling(20, 500, rng) @ cells, truth)
    assert np.quantile(draws, 0.975) < value + 0.02 and draws.mean() < value - 0.02
    low, high = measure.centred_interval(value, draws)
    assert low < value < high <= 1.0
    assert high - low == pytest.approx(np.quantile(draws, 0.975) - np.quantile(draws, 0.025))
    assert measure.centred_interval(None, draws) == (None, None)
    assert measure.centred_interval(0.99, [0.9, 1.0, 0.95] * 9)[1] == 1.0
