"""Differential expression and its scores: parity with scipy and scikit-learn, sets by hand, and doing nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from hyped_bench.metrics import de_sets as measure
from hyped_bench.metrics.differential import De, benjamini_hochberg, de_tables, log2_fold_changes
from hyped_core.errors import InvalidDataError

RNG = np.random.default_rng(11)
N_GENES = 40
CONTROL = np.log1p(RNG.poisson(2.0, (50, N_GENES))).astype(np.float32)
EFFECT = np.where(np.arange(N_GENES) < 10, RNG.choice([-1.5, 1.5], N_GENES), 0.0)


def perturbed(n, effect=EFFECT, seed=0):
    return np.log1p(np.random.default_rng(seed).poisson(2.0 * np.exp(effect), (n, N_GENES))).astype(np.float32)


CELLS = np.concatenate([perturbed(30, seed=1), perturbed(45, -EFFECT, seed=2), CONTROL])
LABELS = np.array(["b"] * 30 + ["a"] * 45 + ["nothing"] * 50)
TABLES = de_tables(CELLS, LABELS, CONTROL)


def table(fdr, lfc):
    fdr = np.asarray(fdr, dtype=float)
    return De(fdr / 2, fdr, np.asarray(lfc, dtype=float))


def test_tests_equal_scipy():
    assert TABLES.groups == ("a", "b", "nothing")
    for name in ("a", "b"):
        expected = stats.mannwhitneyu(CELLS[name == LABELS], CONTROL, axis=0, method="asymptotic").pvalue
        assert TABLES.of(name).p == pytest.approx(expected, rel=1e-5)
        assert TABLES.of(name).fdr == pytest.approx(stats.false_discovery_control(expected), rel=1e-5)
    means = [np.expm1(x.mean(axis=0, dtype=float)) for x in (CELLS[LABELS == "a"], CONTROL)]
    assert TABLES.of("a").lfc == pytest.approx(np.log2(means[0] / means[1]), abs=1e-6)
    assert (TABLES.of("a").fdr < 0.05)[:10].all()


def test_threads_order_of_cells_and_of_genes_do_not_matter():
    again = de_tables(CELLS, LABELS, CONTROL, threads=2)
    assert np.array_equal(again.p, TABLES.p) and np.array_equal(again.lfc, TABLES.lfc)
    order, genes = np.random.default_rng(0).permutation(len(CELLS)), np.random.default_rng(1).permutation(N_GENES)
    moved = de_tables(CELLS[order][:, genes], LABELS[order], CONTROL[:, genes])
    assert moved.p == pytest.approx(TABLES.p[:, genes], rel=1e-12)
    assert moved.lfc == pytest.approx(TABLES.lfc[:, genes], abs=1e-9)
    alone = de_tables(CELLS[LABELS == "b"], ["b"] * 30, CONTROL)
    assert alone.p[0] == pytest.approx(TABLES.of("b").p, rel=1e-12)


def test_the_control_cells_themselves_differ_in_nothing_and_score_what_is_stated():
    nothing = TABLES.of("nothing")
    assert (nothing.p == 1).all() and (nothing.fdr == 1).all() and (nothing.lfc == 0).all()
    truth = TABLES.of("a")
    scores = measure.de_scores(truth, nothing)
    share = (truth.fdr < 0.05).mean()
    assert scores["de_overlap_50"] == scores["de_precision_50"] == scores["de_direction"] == scores["de_recall"] == 0
    assert scores["de_spearman"] is None and scores["de_auroc"] == 0.5
    assert scores["de_auprc"] == pytest.approx(share)
    assert (scores["de_n_true"], scores["de_n_found"]) == (int((truth.fdr < 0.05).sum()), 0)
    assert set(measure.NOTHING) == {k for k in scores if not k.startswith("de_n_")}


def test_the_truth_itself_is_perfect_and_a_truth_without_genes_has_no_value():
    truth, nothing = TABLES.of("a"), TABLES.of("nothing")
    scores = measure.de_scores(truth, truth)
    assert {scores[k] for k in measure.NOTHING} == {1.0}
    scores = measure.de_scores(nothing, truth)
    assert scores.pop("de_precision_50") == 0.0 and scores.pop("de_n_found") > 0 and scores.pop("de_n_true") == 0
    assert set(scores.values()) == {None}
    assert measure.precision_at_k(nothing, nothing) is None


def test_sets_by_hand():
    truth = table([0.01, 0.01, 0.01, 0.2, 0.9], [3, -2, 1, 9, 0])
    found = table([0.01, 0.9, 0.01, 0.01, 0.01], [1, 5, -2, 3, 0.5])
    # truth: genes 0, 1, 2 by size; prediction: 3, 2, 0, 4
    assert measure.overlap_at_k(truth, found, 2) == 0.0
    assert measure.overlap_at_k(truth, found, 50) == pytest.approx(2 / 3)
    assert measure.overlap_at_k(truth, found, None) == pytest.approx(2 / 3)
    assert measure.precision_at_k(truth, found, 50) == pytest.approx(2 / 4)
    assert measure.precision_at_k(truth, found, 3) == pytest.approx(2 / 3)
    assert measure.direction_match(truth, found) == pytest.approx(1 / 3)
    assert measure.recall(truth, found) == pytest.approx(2 / 3)
    assert measure.significant_counts(truth, found) == (3, 4)
    assert measure.fold_change_spearman(truth, found) == pytest.approx(stats.spearmanr([3, -2, 1], [1, 5, -2])[0])
    assert measure.fold_change_spearman(table([0.01, 1], [1, 2]), table([0.01, 1], [1, 2])) is None


def test_areas_equal_sklearn_with_ties():
    truth, found = TABLES.of("a"), TABLES.of("b")
    labels = truth.fdr < 0.05
    score = -np.log10(np.clip(found.fdr, 1e-10, 1))
    assert len(np.unique(score)) < N_GENES  # there are ties
    assert measure.auroc(truth, found) == pytest.approx(roc_auc_score(labels, score))
    assert measure.auprc(truth, found) == pytest.approx(average_precision_score(labels, score))


def test_opposite_effects_share_the_genes_and_not_the_directions():
    truth, found = TABLES.of("a"), TABLES.of("b")
    assert measure.recall(truth, found) > 0.8
    assert measure.direction_match(truth, found) < 0.2
    assert measure.fold_change_spearman(truth, found) < -0.3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_adjusted_p_equals_scipy(p):
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_scores_stay_in_their_range_and_ignore_the_order_of_genes(seed, k):
    rng = np.random.default_rng(seed)
    truth, found = (table(rng.random(25) ** 4, rng.normal(0, 1, 25)) for _ in range(2))
    order = rng.permutation(25)
    moved = [De(t.p[order], t.fdr[order], t.lfc[order]) for t in (truth, found)]
    for score in (measure.overlap_at_k, measure.precision_at_k):
        value = score(truth, found, k)
        assert value is None or 0 <= value <= 1
        assert score(*moved, k) == value
    scores, again = measure.de_scores(truth, found), measure.de_scores(*moved)
    for key, value in scores.items():
        assert (again[key] is None) if value is None else again[key] == pytest.approx(value)


def test_fold_changes():
    control = np.log1p([1.0, 0.0, 0.0, 3.0])
    group = np.log1p([4.0, 2.0, 0.0, 0.0])
    assert log2_fold_changes(group, control, 0.0) == pytest.approx(np.array([2.0, np.inf, 0.0, -np.inf]))
    assert np.isfinite(log2_fold_changes(group, control)).all()
    assert log2_fold_changes(group, control, 1.0) == pytest.approx(np.log2([5 / 2, 3, 1, 1 / 4]))
    assert log2_fold_changes(control, control).tolist() == [0.0] * 4


def test_bad_input_is_an_error():
    spoiled = CELLS.copy()
    spoiled[0, 0] = np.nan
    with pytest.raises(InvalidDataError, match="NaN"):
        de_tables(spoiled, LABELS, CONTROL)
    with pytest.raises(InvalidDataError, match="do not match"):
        de_tables(CELLS[:, :5], LABELS, CONTROL)
    with pytest.raises(InvalidDataError, match="do not match"):
        de_tables(CELLS, LABELS[:-1], CONTROL)
    with pytest.raises(InvalidDataError, match="without cells"):
        de_tables(CELLS, LABELS, CONTROL[:0])
    with pytest.raises(InvalidDataError, match="no differential expression of 'c'"):
        TABLES.of("c")
    with pytest.raises(InvalidDataError, match="fdr of a group has NaN"):
        De(np.zeros(2), np.array([0.0, np.nan]), np.zeros(2))
    with pytest.raises(InvalidDataError, match="cannot be compared"):
        measure.recall(table([0.1], [1]), table([0.1, 0.1], [1, 1]))


def test_a_gene_with_one_value_everywhere_has_p_one():
    cells = np.ones((4, 2), dtype=np.float32)
    cells[:, 1] = [0, 1, 2, 3]
    found = de_tables(cells, ["x"] * 4, np.ones((5, 2), dtype=np.float32))
    assert found.p[0, 0] == 1.0 and found.lfc[0, 0] == 0.0
