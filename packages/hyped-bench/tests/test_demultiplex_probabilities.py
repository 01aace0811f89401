"""Demultiplexing: forced calls apart from abstaining ones, and whether probabilities mean what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from hyped_bench.metrics import demultiplex as measure
from hyped_bench.runner import prepare
from hyped_core.errors import PluginError

CALLS = pd.DataFrame(
    {
        "call": ["T1", "T2", "T1", "Doublet", "Negative", "T2"],
        "kind": ["singlet", "singlet", "singlet", "doublet", "negative", "singlet"],
        "probability": [0.95, 0.95, 0.55, 0.55, 0.15, 0.95],
        "tags": ["T1", "T2", "T1", "T1+T2", "", "T2"],
        "forced_call": ["T1", "T2", "T1", "T2", "T1", "T2"],
    },
    index=[f"c{i}" for i in range(6)],
)
TRUTH = ["T1", "T2", "T2", "Doublet", "T1", "Doublet"]


class Fixed:
    """Returns a table of calls."""

    def __init__(self, table):
        self.table = table

    def assign(self, hto, *, context):
        return self.table.set_index(hto.obs_names)


@pytest.fixture
def job(tmp_path):
    counts = pd.DataFrame(np.full((2, 6), 9), index=["T1", "T2"], columns=CALLS.index)
    counts.to_csv(tmp_path / "counts.csv")
    pd.DataFrame({"barcode": CALLS.index, "tags": TRUTH}).to_csv(tmp_path / "truth.csv", index=False)
    source = {"name": "cap", "counts": str(tmp_path / "counts.csv"), "truth": str(tmp_path / "truth.csv")}
    return prepare("demultiplex", {"sources": [source]})


def test_forced_and_abstaining_calls_are_told_apart(job):
    metrics = job.task.score(job.task.run(lambda: Fixed(CALLS))).metrics
    assert metrics["accuracy"] == pytest.approx(3 / 6)  # c0, c1, c3
    assert metrics["forced_accuracy"] == metrics["forced_accuracy_cap"] == pytest.approx(3 / 4)  # c0, c1, c4; not c2
    assert metrics["called_accuracy"] == pytest.approx(2 / 4)  # c0, c1; not c2 nor the doublet c5
    assert metrics["n_abstained"] == metrics["n_abstained_cap"] == 1
    assert metrics["abstained_share"] == pytest.approx(1 / 6)
    right = np.array([1, 1, 0, 1, 0, 0])
    assert metrics["brier"] == pytest.approx(brier_score_loss(right, CALLS["probability"]))
    # bins: 0.9-1 holds 3 cells, 2 right; 0.5-0.6 holds 2, 1 right; 0.1-0.2 holds 1, none right
    expected = (abs(2 - 2.85) + abs(1 - 1.1) + abs(0 - 0.15)) / 6
    assert metrics["ece"] == pytest.approx(expected)
    assert set(job.task.metric_keys()) == set(metrics)


def test_without_forced_calls_their_score_is_undefined_and_nothing_else_changes(job):
    with_them = job.task.score(job.task.run(lambda: Fixed(CALLS))).metrics
    without = job.task.score(job.task.run(lambda: Fixed(CALLS.drop(columns="forced_call")))).metrics
    assert without["forced_accuracy"] is None
    same = [key for key in with_them if not key.startswith("forced")]
    assert {key: without[key] for key in same} == {key: with_them[key] for key in same}


def test_a_forced_call_must_be_a_tag(job):
    with pytest.raises(PluginError, match="forced calls that are no tag: \\['T9'\\]"):
        job.task.run(lambda: Fixed(CALLS.assign(forced_call="T9")))


def test_calling_only_doublets_leaves_nothing_that_is_called_a_sample():
    table, names = measure.confusion(["Doublet", "Negative"], ["T1", "Doublet"])
    assert measure.called_accuracy(table, names) is None
    assert measure.forced_accuracy(["T1"], ["Doublet"]) is None
    assert measure.expected_calibration_error([], []) is None and measure.brier([], []) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_is_bounded_and_zero_for_certain_right_calls(pairs):
    stated, right = (np.array(part) for part in zip(*pairs, strict=True))
    error = measure.expected_calibration_error(stated, right)
    assert 0 <= error <= np.abs(stated - right).mean() + 1e-12
    assert measure.expected_calibration_error(right.astype(float), right) == 0
    assert measure.brier(stated, right) <= np.abs(stated - right).mean() + 1e-12


def test_probabilities_that_are_kept_have_little_error():
    rng = np.random.default_rng(0)
    stated = rng.random(40_000)
    right = rng.random(40_000) < stated
    assert measure.expected_calibration_error(stated, right) < 0.01
    assert measure.expected_calibration_error(np.sqrt(stated), right) > 0.1
