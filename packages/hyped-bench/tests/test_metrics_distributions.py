"""Distances between populations of cells: parity with brute force and scipy, draws, and what equal groups score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from hyped_bench.metrics import distributions as measure
from hyped_core.errors import InvalidDataError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(0, 1, (15, 3)), RNG.normal(1, 1, (12, 3))
ALL = (measure.energy_distance, measure.energy_distance_v, measure.mmd, measure.sliced_wasserstein)


def pairs_mean(function, a, b, without_self):
    values = [function(p, q) for i, p in enumerate(a) for j, q in enumerate(b) if not (without_self and i == j)]
    return np.mean(values)


def distance(p, q):
    return np.linalg.norm(p - q)


def test_energy_distances_equal_brute_force():
    across = pairs_mean(distance, X, Y, False)
    u = 2 * across - pairs_mean(distance, X, X, True) - pairs_mean(distance, Y, Y, True)
    v = 2 * across - pairs_mean(distance, X, X, False) - pairs_mean(distance, Y, Y, False)
    assert measure.energy_distance(X, Y) == pytest.approx(u)
    assert measure.energy_distance_v(X, Y) == pytest.approx(v)
    assert measure.energy_distance(X[:1], Y[:1]) == pytest.approx(2 * distance(X[0], Y[0]))


def test_mmd_equals_brute_force_with_the_median_of_the_pooled_cells():
    both = np.concatenate([X, Y])
    width = np.median(cdist(both, both)[np.triu_indices(27, 1)])
    assert measure.median_distance(X, Y) == pytest.approx(width)

    def kernel(p, q):
        return np.exp(-np.sum((p - q) ** 2) / (2 * width**2))

    expected = pairs_mean(kernel, X, X, True) + pairs_mean(kernel, Y, Y, True) - 2 * pairs_mean(kernel, X, Y, False)
    assert measure.mmd(X, Y) == pytest.approx(expected)
    assert measure.mmd(X, Y, bandwidth=width) == pytest.approx(expected)
    assert measure.mmd(X, Y, bandwidth=width / 3) != pytest.approx(expected)
    assert measure.mmd(X[:1], Y) is None
    assert measure.mmd(np.ones((4, 2)), np.ones((3, 2))) == 0.0


def test_sliced_wasserstein_equals_optimal_assignment_in_one_dimension():
    x, y = RNG.normal(0, 1, (20, 1)), RNG.normal(2, 3, (20, 1))
    cost = cdist(x, y, "sqeuclidean")
    expected = np.sqrt(cost[linear_sum_assignment(cost)].mean())
    assert measure.sliced_wasserstein(x, y) == pytest.approx(expected)
    # groups of other sizes: each cell repeated until both are equally many
    y = y[:12]
    cost = cdist(np.repeat(x, 3, axis=0), np.repeat(y, 5, axis=0), "sqeuclidean")
    assert measure.sliced_wasserstein(x, y) == pytest.approx(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def test_sliced_wasserstein_of_a_shift_is_its_length_over_root_d():
    shift = np.array([3.0, 0.0, 4.0, 0.0])
    x = RNG.normal(0, 1, (30, 4))
    found = measure.sliced_wasserstein(x, x + shift, directions=20_000)
    assert found == pytest.approx(5.0 / np.sqrt(4), rel=0.02)
    assert measure.sliced_wasserstein(x, x + shift) == measure.sliced_wasserstein(x, x + shift)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_symmetric_and_blind_to_the_order_of_cells_rotation_and_place(n, m, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0, 1, (n, 3)), rng.normal(0.5, 2, (m, 3))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for score in ALL:
        value = score(x, y)
        assert score(y, x) == pytest.approx(value)
        assert score(rng.permutation(x), y) == pytest.approx(value)
        assert score(x + 7, y + 7) == pytest.approx(value, abs=1e-7)
        if score is not measure.sliced_wasserstein:  # its directions do not turn along
            assert score(x @ rotation, y @ rotation) == pytest.approx(value, abs=1e-9)
    assert measure.energy_distance_v(x, y) >= 0 and measure.sliced_wasserstein(x, y) > 0
    assert measure.energy_distance_v(x, y) > measure.energy_distance(x, y)


def test_equal_sets_and_equal_distributions():
    """Equal sets: V-statistic and Wasserstein are 0. Equal distributions: U-statistics are 0 on average, V is not."""
    assert measure.energy_distance_v(X, X) == pytest.approx(0, abs=1e-12)
    assert measure.sliced_wasserstein(X, X[::-1]) == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(4)
    halves = [np.split(rng.normal(0, 1, (60, 3)), 2) for _ in range(200)]
    for score in (measure.energy_distance, measure.mmd):
        values = [score(*h) for h in halves]
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200)
    apart = np.mean([cdist(a, a)[np.triu_indices(30, 1)].mean() for a, _ in halves])
    biased = np.mean([measure.energy_distance_v(*h) for h in halves])
    assert biased == pytest.approx(apart * 2 / 30, rel=0.1)


def test_more_cells_lower_the_v_statistic_alone():
    """A model gains by predicting more cells of the same distribution where it is scored by the V-statistic."""
    rng = np.random.default_rng(8)
    few, many, truth = rng.normal(0, 1, (20, 4)), rng.normal(0, 1, (2000, 4)), rng.normal(0, 1, (400, 4))
    assert measure.energy_distance_v(many, truth) < measure.energy_distance_v(few, truth) / 3
    assert abs(measure.energy_distance(many, truth)) < 0.05


def test_draws_are_the_scores_of_the_drawn_cells():
    pairs = measure.Pairs.of(X, Y)
    first = np.array([np.bincount(rows, minlength=15) for rows in (range(15), [0, 1, 2, 3], [4, 4, 9, 9, 9])])
    second = np.array([np.bincount(rows, minlength=12) for rows in (range(12), [5, 6, 7], [1, 1, 2, 3, 8])])
    u, v = pairs.energy_draws(first, second), pairs.energy_draws(first, second, biased=True)
    assert u[0] == pytest.approx(measure.energy_distance(X, Y))
    assert v[0] == pytest.approx(measure.energy_distance_v(X, Y))
    assert u[1] == pytest.approx(measure.energy_distance(X[:4], Y[5:8]))
    assert v[2] == pytest.approx(measure.energy_distance_v(X[[4, 4, 9, 9, 9]], Y[[1, 1, 2, 3, 8]]))
    width = pairs.median()
    kernels = pairs.mmd_draws(first, second)
    assert kernels[0] == pytest.approx(measure.mmd(X, Y))
    assert kernels[1] == pytest.approx(measure.mmd(X[:4], Y[5:8], bandwidth=width))
    rng = np.random.default_rng(1)
    many = [rng.multinomial(n, np.full(n, 1 / n), size=4000) for n in (15, 12)]
    drawn = pairs.energy_draws(*many)
    assert drawn.mean() == pytest.approx(u[0], abs=4 * drawn.std() / np.sqrt(4000))  # copies are no pair


def test_bad_input_is_an_error():
    spoiled = X.copy()
    spoiled[3, 1] = np.nan
    for score in ALL:
        with pytest.raises(InvalidDataError, match="NaN"):
            score(spoiled, Y)
        with pytest.raises(InvalidDataError, match="empty"):
            score(np.zeros((0, 3)), Y)
        with pytest.raises(InvalidDataError, match="dimensions"):
            score(X[:, :2], Y)
