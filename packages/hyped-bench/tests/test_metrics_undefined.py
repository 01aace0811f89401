"""Rounding, undefined values and intervals: a missing number never makes a score better."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyped_bench.metrics.undefined import bootstrap_interval, is_constant, mean_defined, rounded
from hyped_bench.tasks.base import clean_metrics, summarise


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9))
def test_rounding_keeps_six_digits_and_is_stable(value):
    once = rounded(value)
    assert rounded(once) == once
    assert once == pytest.approx(value, rel=1e-5, abs=1e-6)
    assert json.loads(json.dumps(once)) == once


def test_undefined_becomes_null():
    assert clean_metrics({"b": math.nan, "a": 1, "c": math.inf, "d": -0.0}) == {
        "a": 1,
        "b": None,
        "c": None,
        "d": 0.0,
    }
    assert str(rounded(-0.0)) == "0.0"


def test_one_undefined_unit_makes_the_mean_undefined():
    import pandas as pd

    units = pd.DataFrame({"source": ["a", "a", "b"], "psnr": [30.0, np.nan, 40.0]})
    metrics, warnings = summarise(units, ("psnr",), ["a", "b"], ["a", "b"])
    assert metrics == {"psnr": None, "psnr_a": None, "psnr_b": 40.0}
    assert len(warnings) == 1 and "undefined in 1 of 3" in warnings[0]
    assert mean_defined([]) is None


def test_plain_keys_are_the_mean_over_primary_units():
    import pandas as pd

    units = pd.DataFrame({"source": ["a", "a", "b"], "x": [1.0, 2.0, 9.0]})
    metrics, _ = summarise(units, ("x",), ["a", "b"], ["a"])
    assert metrics == {"x": 1.5, "x_a": 1.5, "x_b": 9.0}


def test_bootstrap_is_seeded_and_brackets_the_mean():
    values = np.random.default_rng(0).normal(5, 1, 40)
    low, high = bootstrap_interval(values, np.random.default_rng(1))
    assert low < values.mean() < high
    assert (low, high) == bootstrap_interval(values, np.random.default_rng(1))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(40), rel=0.15)
    assert bootstrap_interval([1.0, 2.0], np.random.default_rng(0)) == (None, None)
    assert bootstrap_interval([1.0, 2.0, np.nan], np.random.default_rng(0)) == (None, None)


def test_intervals_of_eight_units_cover_what_they_say():
    rng = np.random.default_rng(2)
    ends = [bootstrap_interval(rng.normal(size=8), rng) for _ in range(1500)]
    covered = np.mean([low <= 0 <= high for low, high in ends])
    assert 0.93 < covered < 0.97  # plain percentiles: 0.90


def test_repeats_of_a_perturbation_add_no_unit_and_few_perturbations_get_no_interval():
    import pandas as pd

    values = np.random.default_rng(3).normal(size=8)
    for n, enough in ((8, True), (7, False)):
        once = pd.DataFrame({"source": "a", "perturbation": [f"P{i}" for i in range(n)], "x": values[:n]})
        made = [
            summarise(table, ("x",), ["a"], ["a"], intervals=("x",), rng=np.random.default_rng(4))[0]
            for table in (once, pd.concat([once.assign(fold=f) for f in ("G1", "S", "G2M")]))
        ]
        assert made[0] == pytest.approx(made[1])
        assert (made[0]["x_lo"] is not None) is enough


def test_constant_is_judged_relative_to_size():
    assert is_constant([1e9, 1e9 + 1e-4])
    assert not is_constant([0.0, 1e-9])
    assert is_constant([])
