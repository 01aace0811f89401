"""Intervals and p values keep what they promise on simulated differences; Holm and sign flips on worked cases."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hyped_bench.judgement.ceilings import at_full_size, noise_free
from hyped_bench.judgement.statistics import (
    EXACT,
    bootstrap_over_units,
    holm,
    null_interval,
    over_draws,
    sign_flip_p,
    student,
)
from hyped_bench.metrics.undefined import bootstrap_interval

TRIALS = 1200
WITHIN = 4 * np.sqrt(0.05 * 0.95 / TRIALS)
"""Four standard errors of a share of 0.05 over the trials."""


def called(found) -> np.ndarray:
    """Columns whose verdict alone would be better or worse."""
    return (found.p < 0.05) & ((found.lo > 0) | (found.hi < 0))


@pytest.mark.parametrize("n", [8, 12, 30])
@pytest.mark.parametrize("shape", ["normal", "uniform"])
def test_intervals_cover_and_nulls_are_called_different_as_often_as_promised(n, shape):
    rng = np.random.default_rng([n, len(shape)])
    values = rng.normal(size=(n, TRIALS)) if shape == "normal" else rng.uniform(-1, 1, size=(n, TRIALS))
    found = bootstrap_over_units(values, draws=1000)
    covered = ((found.lo <= 0) & (found.hi >= 0)).mean()
    assert abs(covered - 0.95) < WITHIN + 0.012  # percentiles of few units stay about a point short
    assert (found.p < 0.05).mean() < 0.05 + WITHIN
    assert (found.p < 0.01).mean() < 0.01 + 4 * np.sqrt(0.01 * 0.99 / TRIALS)


def test_plain_percentiles_of_eight_units_are_too_narrow_and_these_are_not():
    values = np.random.default_rng(5).normal(size=(8, TRIALS))
    picks = np.random.default_rng(6).multinomial(8, np.full(8, 1 / 8), size=1000) / 8
    low, high = np.quantile(picks @ values, [0.025, 0.975], axis=0)
    plain = ((low <= 0) & (high >= 0)).mean()
    found = bootstrap_over_units(values, draws=1000)
    assert plain < 0.92
    assert ((found.lo <= 0) & (found.hi >= 0)).mean() > plain + 0.02


@pytest.mark.parametrize("n", [8, 20])
def test_heavy_tails_and_skew_do_not_make_many_false_calls(n):
    rng = np.random.default_rng(n)
    tails = bootstrap_over_units(rng.standard_t(3, size=(n, TRIALS)), draws=1000)
    skewed = bootstrap_over_units(rng.exponential(size=(n, TRIALS)) - 1, draws=1000)
    assert called(tails).mean() < 0.05 + WITHIN
    assert called(skewed).mean() < 0.1 + WITHIN  # as often as Student's test, which is at 0.1 here


def test_a_real_difference_is_found():
    rng = np.random.default_rng(2)
    found = bootstrap_over_units(0.5 + 0.1 * rng.normal(size=(8, 200)))
    assert (found.p < 0.02).all()
    assert (found.lo > 0).all()
    np.testing.assert_allclose(found.effect, 0.5, atol=0.2)


def test_draws_are_the_same_each_time_and_a_column_does_not_depend_on_its_neighbours():
    values = np.random.default_rng(3).normal(size=(10, 4))
    first, again = bootstrap_over_units(values, seed=1), bootstrap_over_units(values, seed=1)
    alone = bootstrap_over_units(values[:, 2], seed=1)
    assert np.array_equal(first.p, again.p)
    assert np.array_equal(first.lo, again.lo)
    assert first.p[2] == alone.p[0]
    assert first.lo[2] == pytest.approx(alone.lo[0], abs=1e-15)
    assert not np.array_equal(first.lo, bootstrap_over_units(values, seed=2).lo)


def test_equal_differences_have_the_p_of_their_signs_and_none_at_zero():
    found = bootstrap_over_units(np.stack([np.full(8, 0.25), np.zeros(8)], axis=1))
    assert found.p.tolist() == [2.0**-7, 1.0]
    assert found.lo.tolist() == [0.25, 0.0]
    assert student(np.full(4, 0.25)).p.tolist() == [2.0**-3]


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([1.0] * 9 + [0.9], 2.0**-9),
        ([1.0] * 10, 2.0**-9),
        ([1.0] * 8 + [0.0] * 2, 2.0**-7),
        ([1.0] * 5 + [0.0] * 5, 2.0**-4),
    ],
)
def test_nearly_equal_differences_are_as_far_out_as_their_signs(values, p):
    found = bootstrap_over_units(values)
    assert found.p.tolist() == [p]
    assert bool(called(found)[0]) == (p < 0.05)
    assert found.lo[0] >= 0
    low, high = null_interval(values)  # a metric that can tell is one whose best prediction can be called
    assert (np.mean(values) > high[0]) == called(found)[0]


def test_differences_that_are_mostly_one_are_found():
    ones = (np.random.default_rng(11).random((10, TRIALS)) < 0.85).astype(float)
    assert called(bootstrap_over_units(ones, draws=1000)).mean() > 0.95


def test_leaderboards_and_verdicts_have_one_interval():
    values = np.random.default_rng(12).exponential(size=9)
    low, high = bootstrap_interval(values, np.random.default_rng(13), draws=20_000)
    found = bootstrap_over_units(values, draws=20_000)
    assert (low, high) == (pytest.approx(found.lo[0], abs=0.04), pytest.approx(found.hi[0], abs=0.06))


def test_student_agrees_with_scipy():
    from scipy import stats

    values = np.random.default_rng(7).normal(0.3, 1, size=(5, 6))
    found, known = student(values), stats.ttest_1samp(values, 0)
    np.testing.assert_allclose(found.p, known.pvalue)
    interval = known.confidence_interval(0.95)
    np.testing.assert_allclose(found.lo, interval.low)
    np.testing.assert_allclose(found.hi, interval.high)


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(float, st.integers(2, 7), elements=st.integers(-20, 20).map(float)))
def test_exact_sign_flips_agree_with_counting(values):
    means = [np.mean(np.array(signs) * values) for signs in product((1, -1), repeat=len(values))]
    expected = np.mean(np.abs(means) >= abs(values.mean()) - 1e-12)
    assert sign_flip_p(values)[0] == pytest.approx(expected)


def test_drawn_sign_flips_agree_with_exact_ones():
    values = np.random.default_rng(4).normal(0.5, 1, size=EXACT + 1)
    exact = np.abs(np.array(list(product((1, -1), repeat=EXACT + 1))) @ values) >= abs(values.sum()) - 1e-9
    assert sign_flip_p(values, draws=20_000)[0] == pytest.approx(exact.mean(), abs=0.01)


def test_a_mean_of_five_units_never_lies_outside_its_null_interval_and_that_of_eight_does():
    for n, outside in ((5, False), (8, True)):
        values = np.arange(1.0, n + 1)
        low, high = null_interval(values)
        assert (values.mean() > high[0]) is np.bool_(outside)
        assert low[0] == -high[0]


def test_null_intervals_hold_chance_differences():
    values = np.random.default_rng(8).normal(size=(10, TRIALS))
    low, high = null_interval(values)
    outside = (values.mean(axis=0) > high) | (values.mean(axis=0) < low)
    assert outside.mean() < 0.05 + WITHIN


def test_redrawn_cells_give_the_spread_and_not_the_place():
    rng = np.random.default_rng(9)
    drawn = rng.normal(0.7, 0.1, size=(200, 1))  # redrawing moved the difference by 0.2
    found = over_draws([0.5], drawn)
    assert found.effect.tolist() == [0.5]
    assert found.lo[0] == pytest.approx(0.5 - 0.196, abs=0.04)
    assert found.hi[0] == pytest.approx(0.5 + 0.196, abs=0.04)
    assert found.p[0] == pytest.approx(1 / 201)
    assert over_draws([0.1], drawn).p[0] == pytest.approx(0.32, abs=0.08)
    assert over_draws([0.0], np.zeros((200, 1))).p.tolist() == [1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_monotone_at_least_the_raw_and_at_most_bonferroni(values):
    raw = np.array(values)
    adjusted = holm(raw)
    assert (adjusted >= raw - 1e-15).all()
    assert (adjusted <= np.minimum(1, raw * len(raw)) + 1e-12).all()
    order = np.argsort(raw, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


def test_holm_of_a_worked_case_leaves_undefined_members_out():
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04, 0.03, 0.005]), [0.03, np.nan, 0.06, 0.06, 0.02])


def test_duplicate_at_full_size_is_what_two_whole_measurements_score():
    """Halves of n cells against one another, brought to n, against two measurements of n cells."""
    rng = np.random.default_rng(10)
    genes, cells, trials = 400, 60, 200
    change = rng.normal(0, 0.15, genes)
    noise = 1 / np.sqrt(cells)

    def measured(n: int) -> np.ndarray:
        return change + rng.normal(0, noise * np.sqrt(cells / n), (trials, genes))

    pairs = {"half": (measured(cells // 2), measured(cells // 2)), "whole": (measured(cells), measured(cells))}

    def scores(x, y):
        return {
            "pearson_delta": np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)]),
            "mse": ((x - y) ** 2).mean(axis=1),
            "mae": np.abs(x - y).mean(axis=1),
            "mse_relative": ((x - y) ** 2).mean(axis=1) / (y**2).mean(axis=1),
        }

    half, whole = scores(*pairs["half"]), scores(*pairs["whole"])
    for metric, values in half.items():
        assert at_full_size(metric, values).mean() == pytest.approx(whole[metric].mean(), rel=0.02), metric
        assert values.mean() != pytest.approx(whole[metric].mean(), rel=0.1), metric
    oracle = np.mean([np.corrcoef(change, b)[0, 1] for b in pairs["whole"][1]])
    assert noise_free("pearson_delta", half["pearson_delta"]).mean() == pytest.approx(oracle, rel=0.02)
    assert at_full_size("pds_l1", [0.5]) is None
    assert at_full_size("pearson_delta", [-0.2]).tolist() == [-0.2]
