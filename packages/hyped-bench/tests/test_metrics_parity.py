"""Expression metrics against what cell-eval 0.8.2 and scPertEval 0.2.0 say: equal where definitions coincide.

Where they do not, the stated difference is asserted, so that the list in ``docs/metrics.md`` stays true. The fixtures
are made by ``scripts/parity/make_fixtures.py`` in an environment of its own.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from hyped_bench.metrics import de_sets, differential, discrimination, distributions
from hyped_bench.metrics import expression as measure

FOLDER = Path(__file__).parent / "data" / "parity"
SCORES = json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))
CELL_EVAL, OTHER_CONTROL, SCPERTEVAL = (SCORES[k] for k in ("cell_eval", "cell_eval_other_control", "scperteval"))
NAMES, GENES = SCORES["perturbations"], np.array(SCORES["genes"])
SILENT, SWITCHED = NAMES[-1], NAMES[-2]
"""A perturbation without an effect, and one that switches on two genes that no control cell expresses."""


def close(expected):
    """1e-6, None for null."""
    return pytest.approx(np.array(expected, dtype=float), rel=0, abs=1e-6, nan_ok=True)


class Screen:
    """Cells of the fixture as ln(1 + CP10k), their means and tests."""

    def __init__(self) -> None:
        with np.load(FOLDER / "screen.npz") as stored:
            labels = stored["labels"]
            cells = {name: self.logs(stored[name]) for name in ("truth", "prediction")}
            self.other_control = self.logs(stored["other_control"])
        with np.load(FOLDER / "differential.npz") as stored:
            self.pdex = dict(stored)
        control = labels == SCORES["control"]
        self.control = cells["truth"][control]
        self.truth, self.prediction = ({n: v[labels == n] for n in NAMES} for v in cells.values())
        self.perturbed, self.labels = cells["truth"][~control], labels[~control]
        self.r = self.mean(self.control)
        self.t = np.array([self.mean(self.truth[n]) for n in NAMES])
        self.p = np.array([self.mean(self.prediction[n]) for n in NAMES])
        n = len(NAMES)
        self.others = (self.t.sum(axis=0) - self.t) / (n - 1)
        """Mean of the other perturbations' means: scPertEval's; HYPED's reference is the mean of those for training."""
        self.own_gene = np.array([GENES == n for n in NAMES])
        self.true_de = differential.de_tables(self.perturbed, self.labels, self.control)
        self.found_de = differential.de_tables(cells["prediction"][~control], self.labels, self.control)

    @staticmethod
    def logs(counts):
        """The lines of the script; float32 holds the values exactly."""
        values = counts.astype(np.float64)
        return np.log1p(values / values.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)

    @staticmethod
    def mean(cells):
        return cells.mean(axis=0, dtype=np.float64)

    def each(self, function, reference=None):
        """A value a perturbation of a function of predicted and true mean, and a reference of one or of each."""
        if reference is None:
            return [function(p, t) for p, t in zip(self.p, self.t, strict=True)]
        references = np.broadcast_to(reference, self.t.shape)
        return [function(p, t, r) for p, t, r in zip(self.p, self.t, references, strict=True)]

    def de(self, function, **options):
        """A value a perturbation of a function of true and predicted tests; NaN where it has none."""
        values = [function(self.true_de.of(n), self.found_de.of(n), **options) for n in NAMES]
        return np.array([np.nan if v is None else v for v in values])

    def weights(self, name):
        moments = measure.Moments.of(self.truth[name])
        return measure.de_weights(measure.welch_t(moments, measure.Moments.of(self.perturbed).without(moments)))


@pytest.fixture(scope="module")
def screen():
    return Screen()


def test_the_fixtures_come_from_the_stated_versions():
    assert SCORES["versions"]["cell-eval"] == "0.8.2" and SCORES["versions"]["scperteval"] == "0.2.0"
    assert sum(p.stat().st_size for p in FOLDER.iterdir()) < 300_000


@pytest.mark.parametrize("name", ["mse", "mae"])
def test_errors_equal_cell_eval(screen, name):
    assert screen.each(getattr(measure, name)) == close(CELL_EVAL[name])
    assert screen.each(getattr(measure, f"{name}_delta"), screen.r) == close(CELL_EVAL[f"{name}_delta"])


def test_pearson_delta_equals_both(screen):
    found = screen.each(measure.pearson_delta, screen.r)
    assert found == close(CELL_EVAL["pearson_delta"])
    assert found == close(SCPERTEVAL["pearson_ctrl"])


def test_scores_on_means_and_changes_equal_scperteval(screen):
    assert screen.each(measure.pearson) == close(SCPERTEVAL["pearson"])
    assert screen.each(measure.mse) == close(SCPERTEVAL["mse"])
    assert screen.each(measure.pearson_delta, screen.others) == close(SCPERTEVAL["pearson_pert"])
    assert screen.each(measure.r2_delta, screen.r) == close(SCPERTEVAL["r2_ctrl"])
    assert screen.each(measure.r2_delta, screen.others) == close(SCPERTEVAL["r2_pert"])


def test_weighted_scores_equal_scperteval(screen):
    weights = [screen.weights(n) for n in NAMES]
    pairs = list(zip(screen.p, screen.t, screen.others, weights, strict=True))
    assert [measure.wmse(p, t, w) for p, t, _, w in pairs] == close(SCPERTEVAL["wmse_exp2"])
    found = [measure.weighted_r2_delta(p, t, screen.r, w) for p, t, _, w in pairs]
    assert found == close(SCPERTEVAL["weighted_r2_ctrl_exp2"])
    found = [measure.weighted_r2_delta(p, t, others, w) for p, t, others, w in pairs]
    assert found == close(SCPERTEVAL["weighted_r2_pert_exp2"])


@pytest.mark.parametrize("kind", ["l1", "l2", "cosine"])
def test_discrimination_equals_cell_eval(screen, kind):
    found = discrimination.discrimination(screen.p - screen.r, screen.t - screen.r, kind, screen.own_gene)
    assert found == close(CELL_EVAL[f"discrimination_score_{kind}"])


def test_ranks_equal_scperteval_up_to_their_normalisation(screen):
    n = len(NAMES)
    by_truth = discrimination.transposed_rank(screen.p, screen.t, "l2")
    by_prediction = discrimination.discrimination(screen.p, screen.t, "l2")
    assert (1 - by_truth) * n / (n - 1) == close(SCPERTEVAL["rank"])
    assert (1 - by_prediction) * n / (n - 1) == close(SCPERTEVAL["transpose_rank"])
    assert discrimination.centroid_accuracy(screen.p, screen.t) == close(SCPERTEVAL["nir"])


def test_distances_equal_scperteval(screen):
    pairs = [(screen.truth[n], screen.prediction[n]) for n in NAMES]
    assert [distributions.energy_distance(*g) for g in pairs] == close(SCPERTEVAL["energy_distance"])
    assert [distributions.mmd(*g) for g in pairs] == close(SCPERTEVAL["unbiased_mmd_median"])
    nothing = [(screen.truth[n], screen.control) for n in NAMES]
    assert [distributions.energy_distance(*g) for g in nothing] == close(SCPERTEVAL["energy_distance_nothing"])
    assert [distributions.mmd(*g) for g in nothing] == close(SCPERTEVAL["unbiased_mmd_median_nothing"])


def test_v_statistic_equals_cell_eval_which_only_correlates_it(screen):
    """cell-eval reports one correlation over perturbations of the distances to control, not the distances."""
    true = [distributions.energy_distance_v(screen.truth[n], screen.control) for n in NAMES]
    found = [distributions.energy_distance_v(screen.prediction[n], screen.control) for n in NAMES]
    assert [stats.pearsonr(true, found)[0]] * len(NAMES) == close(CELL_EVAL["pearson_edistance"])


@pytest.mark.parametrize("side", ["real", "pred"])
def test_differential_expression_equals_pdex(screen, side):
    table = screen.true_de if side == "real" else screen.found_de
    assert table.groups == tuple(NAMES)
    assert table.p == close(screen.pdex[f"{side}_p_value"])
    assert table.fdr == close(screen.pdex[f"{side}_fdr"])
    theirs = screen.pdex[f"{side}_log2_fold_change"]
    finite = np.isfinite(theirs)
    assert table.lfc[finite] == close(theirs[finite])
    assert np.isfinite(table.lfc).all() and not finite.all()  # cell-eval has infinite ones
    means = np.array([screen.mean((screen.truth if side == "real" else screen.prediction)[n]) for n in NAMES])
    assert differential.log2_fold_changes(means, screen.r, 0.0) == close(theirs)


def test_differential_expression_equals_scperteval(screen):
    assert screen.true_de.p.sum(axis=1) == close(SCPERTEVAL["mwu_p_sum"])
    assert screen.true_de.fdr.sum(axis=1) == close(SCPERTEVAL["mwu_fdr_sum"])


@pytest.mark.parametrize(
    ("function", "options", "name", "theirs_without_genes"),
    [
        (de_sets.overlap_at_k, {"k": 5}, "overlap_at_5", 0.0),
        (de_sets.overlap_at_k, {"k": 10}, "overlap_at_10", 0.0),
        (de_sets.overlap_at_k, {"k": 50}, "overlap_at_50", 0.0),
        (de_sets.overlap_at_k, {"k": None}, "overlap_at_N", 0.0),
        (de_sets.precision_at_k, {"k": 5}, "precision_at_5", 0.0),
        (de_sets.precision_at_k, {"k": 10}, "precision_at_10", 0.0),
        (de_sets.precision_at_k, {"k": 50}, "precision_at_50", 0.0),
        (de_sets.precision_at_k, {"k": None}, "precision_at_N", 0.0),
        (de_sets.direction_match, {}, "de_direction_match", None),
        (de_sets.recall, {}, "de_sig_genes_recall", None),
        (de_sets.auprc, {}, "pr_auc", None),
        (de_sets.auroc, {}, "roc_auc", None),
    ],
)
def test_de_sets_equal_cell_eval(screen, function, options, name, theirs_without_genes):
    found = screen.de(function, **options)
    assert found[:-1] == close(CELL_EVAL[name][:-1])
    # no gene of the truth is significant: no value here, where cell-eval's overlap says 0
    assert CELL_EVAL[name][-1] == theirs_without_genes
    assert found[-1] == 0.0 if function is de_sets.precision_at_k else np.isnan(found[-1])


def test_fold_change_spearman_equals_cell_eval_but_for_infinite_changes(screen):
    found = screen.de(de_sets.fold_change_spearman)
    at = NAMES.index(SWITCHED)
    other = np.arange(len(NAMES)) != at
    theirs = np.array(CELL_EVAL["de_spearman_lfc_sig"], dtype=float)
    assert found[other] == close(theirs[other])
    # two genes silent in control are infinitely up for cell-eval and tie; here they keep their order
    assert abs(found[at] - theirs[at]) > 1e-5
    tables = []
    for cells in (screen.truth, screen.prediction):
        lfc = differential.log2_fold_changes(screen.mean(cells[SWITCHED]), screen.r, 0.0)
        table = (screen.true_de if cells is screen.truth else screen.found_de).of(SWITCHED)
        tables.append(differential.De(table.p, table.fdr, lfc))
    assert de_sets.fold_change_spearman(*tables) == pytest.approx(theirs[at], abs=1e-6)


def test_counts_equal_cell_eval(screen):
    counts = np.array([de_sets.significant_counts(screen.true_de.of(n), screen.found_de.of(n)) for n in NAMES])
    assert counts[:, 0] == close(CELL_EVAL["de_nsig_counts_real"])
    assert counts[:, 1] == close(CELL_EVAL["de_nsig_counts_pred"])


def test_scpertevals_auprc_ranks_by_another_statistic(screen):
    """It ranks predicted genes by |Cliff's delta|, cell-eval and HYPED by the predicted fdr."""
    ours, theirs = screen.de(de_sets.auprc)[:-1], np.array(SCPERTEVAL["de_auprc"][:-1], dtype=float)
    assert np.abs(ours - theirs).max() > 1e-3 and np.abs(ours - theirs).max() < 0.05


def test_cell_eval_moves_with_the_submitted_control_cells_and_hyped_does_not(screen):
    """The reason for its own control in every change: a submission decides about cell-eval's."""
    ours = screen.each(measure.pearson_delta, screen.r)
    theirs = np.array(OTHER_CONTROL["pearson_delta"])
    assert np.abs(np.array(ours) - theirs).min() > 0.01
    twisted = [
        measure.pearson(p - screen.mean(screen.other_control), t - screen.r)
        for p, t in zip(screen.p, screen.t, strict=True)
    ]
    assert twisted == close(theirs)  # nothing else differs
    assert screen.each(measure.mse) == close(OTHER_CONTROL["mse"])  # raw errors have no control


def test_ties_share_their_rank_here_and_go_by_order_there(screen):
    """A prediction that is one for all: (n + 1) / (2 n) for each perturbation; cell-eval's argsort favours some."""
    n = len(NAMES)
    constant = np.repeat(screen.t.mean(axis=0)[None], n, axis=0)
    assert discrimination.transposed_rank(constant, screen.t, "l2") == close([(n + 1) / (2 * n)] * n)
    apart = np.zeros(n)
    by_order = [1 - int(np.flatnonzero(np.argsort(apart, kind="stable") == i)[0]) / n for i in range(n)]
    assert by_order[0] == 1.0 and by_order[-1] == pytest.approx(1 / n)
    silent = discrimination.discrimination(np.zeros_like(screen.t), screen.t - screen.r, "cosine")
    assert silent == close([(n + 1) / (2 * n)] * n)
