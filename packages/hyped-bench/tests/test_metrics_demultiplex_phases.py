"""Calls and phases: parity with scikit-learn, and the ways in which a call can be wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from hyped_bench.metrics import demultiplex as calls
from hyped_bench.metrics import phases
from hyped_core.errors import InvalidDataError

NAMES = st.sampled_from(["T1", "T2", "T3", "Doublet", "Negative"])


@given(st.lists(st.tuples(NAMES, NAMES), min_size=5, max_size=60))
@settings(max_examples=80, deadline=None)
def test_parity_with_scikit_learn(pairs):
    called, true = (np.array(part, dtype=object) for part in zip(*pairs, strict=True))
    table, names = calls.confusion(called, true)
    assert calls.accuracy(table) == pytest.approx(accuracy_score(list(true), list(called)))
    singlets = sorted(set(true) - {"Doublet", "Negative"})
    found = calls.f_singlet(table, names)
    if singlets:
        expected = f1_score(list(true), list(called), labels=singlets, average="macro", zero_division=0)
        assert found == pytest.approx(expected)
    else:
        assert found is None
    recall, precision = calls.recall_precision(table, names)
    if recall is not None:
        assert recall == pytest.approx(recall_score(true == "Doublet", called == "Doublet", zero_division=0))
    if precision is not None:
        assert precision == pytest.approx(
            precision_score(true == "Doublet", called == "Doublet", zero_division=0)
        )


def test_calling_everything_one_sample_scores_its_share():
    table, names = calls.confusion(["T1"] * 4, ["T1", "T2", "T2", "Doublet"])
    assert calls.accuracy(table) == 0.25
    assert calls.f_singlet(table, names) == pytest.approx((0.4 + 0.0) / 2)
    assert calls.recall_precision(table, names) == (0.0, None)
    with pytest.raises(InvalidDataError, match="call every cell"):
        calls.confusion(["T1"], ["T1", "T2"])


def test_resampled_tables_keep_the_number_of_cells():
    table, _ = calls.confusion(["T1", "T2", "T2"] * 10, ["T1", "T2", "T1"] * 10)
    again = calls.resampled(table, np.random.default_rng(0), 50)
    assert (again.sum(axis=(1, 2)) == 30).all()
    assert (again[:, table == 0] == 0).all()


def test_fraction_error_by_hand_and_for_lost_groups():
    called = pd.DataFrame({"condition": ["a"] * 4, "phase": ["G1", "G1", "S", "S"]})
    truth = pd.DataFrame({"condition": ["a"] * 4 + ["b"], "phase": ["G1", "S", "S", "S", "G1"]})
    error, table = phases.fraction_error(called, truth, ["condition"])
    assert error == pytest.approx((0.25 + 0.25 + 1.0) / 3)
    assert set(table.columns) == {"condition", "phase", "fraction", "fraction_truth"}
    assert phases.fraction_error(truth, truth, ["condition"])[0] == 0.0
    assert phases.phase_accuracy([], []) is None


def test_the_floor_of_phase_accuracy_is_the_commonest_phase():
    import numpy as np

    from hyped_bench.metrics.phases import commonest_accuracy, phase_accuracy

    truth = np.array(["G1"] * 6 + ["S"] * 3 + ["G2M"])
    assert commonest_accuracy(truth) == phase_accuracy(["G1"] * 10, truth) == 0.6
    assert commonest_accuracy([]) is None


def test_frames_beside_a_change_of_phase_are_left_out_mothers_and_daughters_too():
    hours = [0.0, 1 / 3, 2 / 3, 1.0, 4 / 3, 5 / 3]
    mother = pd.DataFrame({"track_id": 1, "parent_id": 0, "time_h": hours, "phase": ["S"] * 3 + ["M"] * 3})
    daughter = pd.DataFrame(
        {"track_id": 2, "parent_id": 1, "time_h": [h + 2 for h in hours], "phase": ["dark"] * 6}
    )
    other = pd.DataFrame({"track_id": 2, "parent_id": 0, "time_h": hours, "phase": ["G1"] * 6})
    table = pd.concat([mother.assign(scene="A"), daughter.assign(scene="A"), other.assign(scene="B")])
    away = phases.away_from_transitions(table.sample(frac=1, random_state=0), 0.5)
    kept = table.sample(frac=1, random_state=0)[away].sort_values(["scene", "track_id", "time_h"])
    assert kept.query("scene == 'A' and track_id == 1")["time_h"].round(2).tolist() == [0.0, 0.33, 1.33]
    assert kept.query("scene == 'A' and track_id == 2")["time_h"].round(2).tolist()[0] == 2.33
    assert len(kept.query("scene == 'B'")) == 6, "the same track number in another scene is another track"
    assert phases.away_from_transitions(table, 0.0).all()
    assert len(phases.away_from_transitions(table.iloc[:0], 0.5)) == 0


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_recall_and_precision_of_a_phase_are_scikit_learns(pairs):
    called, true = (list(part) for part in zip(*pairs, strict=True))
    recall, precision = phases.recall_precision(called, true, "T1")
    for value, score in ((recall, recall_score), (precision, precision_score)):
        if value is not None:
            assert value == pytest.approx(score(np.array(true) == "T1", np.array(called) == "T1"))
    assert (recall is None) == ("T1" not in true) and (precision is None) == ("T1" not in called)


def test_positions_are_compared_round_the_cycle_and_unknown_ones_are_no_gain():
    truth = np.array([0.02, 0.98, 0.5])
    assert phases.circular_error([0.98, 0.02, 0.5], truth) == pytest.approx(0.08 / 3)
    assert phases.circular_error((truth + 0.5) % 1, truth) == pytest.approx(0.5)
    guess = phases.best_constant(truth)
    floor = phases.circular_error(np.full(3, guess), truth)
    assert floor == min(phases.circular_error(np.full(3, g), truth) for g in np.arange(200) / 200)
    assert phases.circular_error(np.full(3, np.nan), truth, guess) == floor
    with pytest.raises(InvalidDataError, match="3 cells"):
        phases.circular_error([0.1], truth)
