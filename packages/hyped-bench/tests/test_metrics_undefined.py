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


def test_constant_is_judged_relative_to_size():
    assert is_constant([1e9, 1e9 + 1e-4])
    assert not is_constant([0.0, 1e-9])
    assert is_constant([])
