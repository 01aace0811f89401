"""Dose and response: levels and responses against the true dose, and what keeps them from being circular."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from hyped_core.design import default_design
from hyped_seq.annotate import dose
from hyped_seq.annotate.change_params import DoseParams
from hyped_seq.annotate.dose import (
    dose_columns,
    dose_response,
    genes_with_level,
    held_out_response,
    perturbed_genes,
    rank_correlation,
)

DESIGN = default_design()
PERTURBED = ["siPRRX1", "mmMYOD1", "siPRRX1_mmMYOD1"]


def _condition(obs: pd.DataFrame) -> np.ndarray:
    return obs["assigned_condition"].where(obs["hashtag_kind"] == "singlet", "").to_numpy(dtype=object)


@pytest.fixture(scope="module")
def scored(simulated_cells):
    rna = simulated_cells.rna
    symbols = list(rna.var["symbol"])
    return dose_response(
        rna.X, symbols, rna.obs, _condition(rna.obs), DESIGN, DoseParams(), rng=np.random.default_rng(0)
    )


def test_every_cell_of_a_perturbed_condition_has_a_row_and_ranks(scored, simulated_cells):
    table, record = scored
    rna = simulated_cells.rna
    condition = pd.Series(_condition(rna.obs), index=rna.obs_names)
    assert perturbed_genes(DESIGN) == ("PRRX1", "MYOD1") and list(table.columns) == dose_columns(record["genes"])
    assert set(table["cell"]) == set(condition.index[condition.isin(PERTURBED)])
    for name, part in table.groupby("condition"):
        n = len(part)
        for column in ("level_rank_MYOD1", "level_rank_PRRX1", "response_control_rank", "response_rest_rank"):
            assert part[column].sum() == pytest.approx(n * (n + 1) / 2), (name, column)
        highest = part.loc[part["level_rank_MYOD1"].idxmin(), "level_MYOD1"]
        assert highest == part["level_MYOD1"].max()
    levels = table.set_index("cell")["level_MYOD1"]
    assert np.allclose(levels, rna[levels.index, "MYOD1"].X.toarray().ravel())


def test_response_and_level_follow_the_true_dose(scored, simulated_cells):
    table = scored[0].join(simulated_cells.cells[["dose_MYOD1", "multiplet"]], on="cell")
    for name in ("mmMYOD1", "siPRRX1_mmMYOD1"):
        part = table[(table["condition"] == name) & ~table["multiplet"]]
        assert spearmanr(part["level_MYOD1"], part["dose_MYOD1"]).statistic > 0.7
        assert spearmanr(part["response_control"], part["dose_MYOD1"]).statistic > 0.65
        assert spearmanr(part["response_rest"], part["dose_MYOD1"]).statistic > 0.5
    assert table.groupby("condition")["response_control"].mean().between(0.7, 1.2).all()
    assert table["responder_control"].mean() > 0.8


def test_record_has_the_correlation_with_its_interval(scored):
    found = scored[1]["conditions"]["mmMYOD1"]["level_with_response"]["control"]["MYOD1"]
    for key in ("spearman", "spearman_given_depth_and_phase"):
        r, low, high = found[key]
        assert low < r < high and low > 0.3, "more MYOD1, more response"
    plain = scored[0][scored[0]["condition"] == "mmMYOD1"]
    assert found["spearman"][0] == pytest.approx(
        spearmanr(plain["level_MYOD1"], plain["response_control"]).statistic, abs=1e-4
    )
    unrelated = scored[1]["conditions"]["siPRRX1"]["level_with_response"]["control"]["MYOD1"]
    assert abs(unrelated["spearman"][0]) < 0.3
    followers = scored[1]["conditions"]["mmMYOD1"]["genes_with_level"]["MYOD1"]
    assert followers["found_at_fdr_0.05"] > 5
    assert len(followers["first"]) == DoseParams().genes_listed
    assert not {"MYOD1", "PRRX1"} & {item["gene"] for item in followers["first"]}


def test_genes_that_follow_the_level_are_targets(scored, simulated_cells):
    truth = simulated_cells.genes["log2fc_mmMYOD1"]
    first = scored[1]["conditions"]["mmMYOD1"]["genes_with_level"]["MYOD1"]["first"][:10]
    moved = [item for item in first if truth[item["gene"]] != 0]
    assert len(moved) >= 7
    assert np.mean([np.sign(truth[i["gene"]]) == np.sign(i["correlation"]) for i in moved]) > 0.8


def test_perturbed_genes_do_not_enter_the_response(simulated_cells, scored):
    rna = simulated_cells.rna
    symbols = list(rna.var["symbol"])
    dense = rna.X.toarray()
    for gene in perturbed_genes(DESIGN):
        dense[:, symbols.index(gene)] = np.random.default_rng(1).random(rna.n_obs) * 5
    again, _ = dose_response(
        sp.csr_matrix(dense), symbols, rna.obs, _condition(rna.obs), DESIGN, DoseParams(), rng=np.random.default_rng(0)
    )
    assert np.allclose(again["response_control"], scored[0]["response_control"], rtol=1e-5, atol=1e-5)
    assert not np.allclose(again["level_MYOD1"], scored[0]["level_MYOD1"])


def test_without_a_difference_the_response_is_zero():
    """The same score along a direction estimated from the very cells would be near 1."""
    params, means, circular = DoseParams(n_genes=50), [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        logs = sp.csr_matrix(np.log1p(rng.poisson(1.0, (240, 300))).astype(np.float32))
        group, reference = np.arange(120), np.arange(120, 240)
        folds = rng.permutation(np.arange(240) % 5)
        allowed = np.ones(300, dtype=bool)
        response, of_reference = held_out_response(logs, group, reference, folds, allowed, params)
        means.append((response.mean() - of_reference.mean()) / np.hypot(response.std(), of_reference.std()))
        weights = np.asarray(logs[group].mean(axis=0) - logs[reference].mean(axis=0)).ravel()
        scores = logs @ weights
        circular.append((scores[:120].mean() - scores[120:].mean()) / scores.std())
    assert abs(np.mean(means)) < 0.1 and np.mean(circular) > 0.5


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_rank_correlations_are_scipys_and_residuals_are_regressed(seed):
    rng = np.random.default_rng(seed)
    n = 60
    covariates = np.column_stack([np.ones(n), rng.normal(size=n), rng.random(n) < 0.4]).astype(float)
    x = rng.poisson(2, n) + covariates[:, 1]
    y = x + rng.normal(size=n) * 3 + 2 * covariates[:, 1]
    found = rank_correlation(x, y, covariates)
    assert found["spearman"][0] == pytest.approx(spearmanr(x, y).statistic, abs=1e-4)
    ranks = [pd.Series(-values).rank().to_numpy() for values in (x, y)]
    left = [r - covariates @ np.linalg.lstsq(covariates, r, rcond=None)[0] for r in ranks]
    assert found["spearman_given_depth_and_phase"][0] == pytest.approx(pearsonr(*left).statistic, abs=1e-4)
    constant = rank_correlation(np.zeros(n), y, covariates)
    assert constant["spearman"] is None and constant["spearman_given_depth_and_phase"] is None


def test_the_interval_covers_the_true_correlation():
    inside = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=80)
        y = 0.5 * x + np.sqrt(0.75) * rng.normal(size=80)
        _, low, high = rank_correlation(x, y, np.ones((80, 1)))["spearman"]
        inside += low < 6 / np.pi * np.arcsin(0.25) < high  # Spearman's of a normal pair with Pearson's 0.5
    assert 0.92 <= inside / 300 <= 0.98


def test_genes_with_level_are_partial_correlations():
    rng = np.random.default_rng(2)
    depth = rng.random(150)
    covariates = np.column_stack([np.ones(150), depth])
    level = rng.random(150) + depth
    dense = np.maximum(rng.normal(size=(150, 8)) + depth[:, None], 0)
    dense[:, 3] += np.maximum(level, 0)
    dense[:, 5] = 0
    table = genes_with_level(sp.csr_matrix(dense), level, covariates, np.arange(8) != 6)
    assert list(table.index) == [0, 1, 2, 3, 4, 7], "neither the gene that does not vary nor the one left out"
    rank = pd.Series(-level).rank().to_numpy()
    for gene, row in table.iterrows():
        left = [v - covariates @ np.linalg.lstsq(covariates, v, rcond=None)[0] for v in (rank, dense[:, gene])]
        assert abs(row["correlation"]) == pytest.approx(abs(pearsonr(*left).statistic), abs=1e-9)
    assert table["p_adjusted"].idxmin() == 3 and table.loc[3, "correlation"] > 0, "positive: with more of the level"


def test_without_a_direction_there_is_no_response_and_nobody_is_a_responder():
    logs = sp.csr_matrix(np.ones((80, 10), np.float32))  # no gene varies: no fold has a direction
    condition = np.array(["control"] * 40 + ["mmMYOD1"] * 40, dtype=object)
    obs = pd.DataFrame({"pool": "p", "phase": "G1"}, index=[f"c{i}" for i in range(80)])
    symbols = ["MYOD1", "PRRX1", *(f"G{i}" for i in range(8))]
    table, record = dose_response(logs, symbols, obs, condition, DESIGN, DoseParams(), rng=np.random.default_rng(0))
    assert table["response_control"].isna().all() and table["responder_control"].isna().all()
    entry = record["conditions"]["mmMYOD1"]
    assert entry["responders_control"] is None and entry["level_with_response"]["control"]["MYOD1"]["spearman"] is None


def test_a_fold_without_a_direction_leaves_the_others_their_responders(monkeypatch):
    rng = np.random.default_rng(4)
    dense = rng.random((100, 30)).astype(np.float32)
    dense[50:, 5:15] += 2
    condition = np.array(["control"] * 50 + ["mmMYOD1"] * 50, dtype=object)
    obs = pd.DataFrame({"pool": "p", "phase": "G1"}, index=[f"c{i}" for i in range(100)])
    whole = dose.held_out_response

    def one_fold_less(logs, group, reference, folds, allowed, params):
        response, of_reference = whole(logs, group, reference, folds, allowed, params)
        response[folds[group] == 0], of_reference[folds[reference] == 0] = np.nan, np.nan
        return response, of_reference

    monkeypatch.setattr(dose, "held_out_response", one_fold_less)
    symbols = ["MYOD1", "PRRX1", *(f"G{i}" for i in range(28))]
    table, record = dose_response(sp.csr_matrix(dense), symbols, obs, condition, DESIGN, DoseParams(), rng=rng)
    missing = table["response_control"].isna()
    assert missing.sum() == 10 and (table["responder_control"].isna() == missing).all()
    assert table["responder_control"][~missing].all() and record["conditions"]["mmMYOD1"]["responders_control"] == 1.0
    assert record["conditions"]["mmMYOD1"]["level_with_response"]["control"]["MYOD1"]["n"] == 40


def test_too_few_cells_and_absent_genes_are_stated():
    rng = np.random.default_rng(3)
    logs = sp.csr_matrix(rng.random((60, 30)).astype(np.float32))
    symbols = ["MYOD1", *(f"G{i}" for i in range(29))]
    condition = np.array(["control"] * 40 + ["mmMYOD1"] * 12 + ["siPRRX1"] * 8, dtype=object)
    obs = pd.DataFrame({"pool": "p", "phase": "G1"}, index=[f"c{i}" for i in range(60)])
    table, record = dose_response(logs, symbols, obs, condition, DESIGN, DoseParams(), rng=rng)
    assert record["genes_not_in_matrix"] == ["PRRX1"] and record["genes"] == ["MYOD1"]
    assert len(table) == 20 and table["response_control"].isna().all() and table["responder_rest"].isna().all()
    assert record["left_out"]["mmMYOD1_vs_control"] == {"cells": 12, "reference_cells": 40}
    nobody, _ = dose_response(logs, symbols, obs, np.full(60, "control", object), DESIGN, DoseParams(), rng=rng)
    assert nobody.empty and list(nobody.columns) == dose_columns(["MYOD1"])
