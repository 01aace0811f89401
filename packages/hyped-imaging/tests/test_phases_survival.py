"""The product-limit estimate against published numbers and against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import CensoredData, ecdf

from hyped_imaging.phases.survival import quantile, restricted_mean, survival


def test_remission_times_of_freireich_1963():
    """6-mercaptopurine arm of Freireich et al. 1963 (Blood 21:699), weeks; the textbook example."""
    complete = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    length = np.array(complete + censored, float)
    times, share = survival(length, np.arange(21) < len(complete))
    at = dict(zip(times.tolist(), share.tolist(), strict=True))
    known = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    for week, value in known.items():
        assert at[week] == pytest.approx(value, abs=6e-4)
    assert float(quantile(times, share, 0.5)) == 23.0
    assert float(quantile(times, share, 0.75)) == np.inf


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=40))
@settings(max_examples=80, deadline=None)
def test_parity_with_scipy(pairs):
    length, complete = (np.array(part) for part in zip(*pairs, strict=True))
    length = length.astype(float)
    times, share = survival(length, complete)
    other = ecdf(CensoredData(uncensored=length[complete], right=length[~complete])).sf
    assert np.allclose(share, other.evaluate(times))


def test_weights_are_repetitions():
    rng = np.random.default_rng(0)
    length, complete = rng.integers(1, 9, 30).astype(float), rng.random(30) < 0.6
    weight = rng.integers(0, 4, (3, 30)).astype(float)
    times, share = survival(length, complete, weight)
    for row in range(3):
        again = np.repeat(np.arange(30), weight[row].astype(int))
        own_times, own = survival(length[again], complete[again])
        assert np.allclose(share[row][np.isin(times, own_times)], own)


def test_without_censoring_it_is_the_plain_mean_and_median():
    length = np.array([1.0, 2.0, 4.0, 9.0, 10.0])
    times, share = survival(length, np.ones(5, bool))
    assert float(quantile(times, share, 0.5)) == 4.0
    assert float(restricted_mean(times, share, 10.0)) == pytest.approx(length.mean())
    assert float(restricted_mean(times, share, 4.0)) == pytest.approx(np.minimum(length, 4).mean())
