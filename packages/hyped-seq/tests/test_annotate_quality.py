"""Quality of cells: thresholds from the data, doublets from expression, molecules from the soup."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.context import RunContext
from hyped_core.design import default_design
from hyped_core.errors import InvalidDataError
from hyped_seq.annotate.ambient import find_ambient
from hyped_seq.annotate.doublets import expected_doublets, find_doublets
from hyped_seq.annotate.params import AmbientParams, DoubletParams, QualityParams
from hyped_seq.annotate.quality import REMOVED_COLUMNS, cell_figures, judge, removal_notes, two_populations
from hyped_seq.simulate.counts import pool_counts
from hyped_seq.simulate.params import SeqSimulationParams
from hyped_seq.simulate.population import draw_pool
from hyped_seq.simulate.run import build_programme


def simulated_pools(cells: int, pools: tuple[str, ...] = ("perturbed", "control"), seed: int = 1, **capture):
    """Counts, truth and gene symbols of simulated pools with ``cells`` barcodes each."""
    context, design = RunContext(seed=seed), default_design()
    params = SeqSimulationParams.model_validate({"n_cells": cells, "capture": capture}).resolved()
    programme = build_programme(design, params, context)
    counts, tables = [], []
    for name in pools:
        pool, _ = draw_pool(design, name, cells, params, context)
        blocks = pool_counts(programme, pool, params.programme.mito_sd, 200, context.rng("counts", name))
        counts.append(sp.vstack([genes for genes, _ in blocks]))
        tables.append(pool.table)
    truth = pd.concat(tables, ignore_index=True)
    truth.index = truth["pool"] + "_" + truth["barcode"]
    return sp.csr_matrix(sp.vstack(counts)), truth, pd.Series(programme.symbols).astype(str)


def true_calls(truth: pd.DataFrame) -> pd.DataFrame:
    """What a perfect demultiplexer says of each cell."""
    condition = truth["condition"].str.split("+").str[0].where(truth["kind"] == "singlet", "")
    table = pd.DataFrame({"pool": truth["pool"], "hashtag_kind": truth["kind"], "hashtag_call": truth["tags"]})
    return table.assign(condition=condition)


def auroc(score: np.ndarray, is_one: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(is_one, score))


# --- thresholds


@pytest.mark.parametrize("share", [0.0, 0.04, 0.3, 0.5])
def test_low_quality_cells_are_found_however_many_there_are(share):
    counts, truth, symbols = simulated_pools(600, ("perturbed",), low_quality=share)
    figures = cell_figures(counts, symbols, None)
    figures.index = truth.index
    quality = judge(figures, truth["pool"], QualityParams())
    low = truth["low_quality"].to_numpy()
    assert (~quality.keep)[low].all() and (~quality.keep)[~low].mean() < 0.01 + 0.1 * share
    source = quality.sources["perturbed"]["min_counts"]
    assert source == ("two populations" if share >= 0.3 else "deviations")


def test_small_cells_with_little_mito_are_no_bad_cells():
    rng = np.random.default_rng(0)
    counts = np.r_[rng.lognormal(7, 0.2, 200), rng.lognormal(8.5, 0.2, 300)]
    figures = pd.DataFrame({"n_counts": counts.astype(int), "n_genes": (counts / 4).astype(int)})
    figures.index = [f"c{i}" for i in range(500)]
    pools = pd.Series("p", index=figures.index)
    two_types = figures.assign(mito_pct=rng.normal(5, 1, 500))
    assert judge(two_types, pools, QualityParams()).keep.sum() > 490
    dying = figures.assign(mito_pct=np.r_[rng.normal(20, 2, 200), rng.normal(5, 1, 300)])
    assert not judge(dying, pools, QualityParams()).keep[:200].any()
    debris = figures.assign(n_counts=np.r_[counts[:200] / 20, counts[200:]].astype(int), mito_pct=np.nan)
    assert not judge(debris, pools, QualityParams()).keep[:200].any()


def test_next_to_no_mito_costs_no_cells():
    """Nuclei: three in ten hold one mitochondrial molecule; median and deviation are zero."""
    rng = np.random.default_rng(1)
    counts = rng.lognormal(8, 0.3, 1200).astype(int)
    figures = pd.DataFrame({"n_counts": counts, "n_genes": counts // 3}, index=[f"n{i}" for i in range(1200)])
    figures["mito_pct"] = 100 * rng.poisson(0.3, 1200) / counts
    figures.loc["n7", "mito_pct"] = 9.0
    pools = pd.Series("p", index=figures.index)
    quality = judge(figures, pools, QualityParams())
    assert not quality.keep[7] and quality.keep.mean() > 0.99 and quality.thresholds["p"]["max_mito_pct"] == 5.0
    assert quality.sources["p"]["max_mito_pct"] == "floor" and not removal_notes(quality.removed, pools)
    strict = judge(figures, pools, QualityParams(mito_floor_pct=0))
    gone = int((~strict.keep).sum())
    (note,) = removal_notes(strict.removed, pools)
    assert gone > 250 and note.startswith(f"p: {gone} of 1200 cells removed (mito_pct above ")


def test_users_bounds_win():
    figures = pd.DataFrame(
        {"n_counts": [10, 500, 600, 700], "n_genes": [5, 90, 91, 92], "mito_pct": [1.0, 2.0, 1.5, 60.0]},
        index=list("abcd"),
    )
    pools = pd.Series(["p"] * 4, index=figures.index)
    quality = judge(figures, pools, QualityParams(min_counts=550, min_genes=0, max_mito_pct=50))
    assert quality.keep.tolist() == [False, False, True, False]
    assert quality.removed.set_index("cell")["reason"].to_dict() == {
        "a": "n_counts 10 below 550",
        "b": "n_counts 500 below 550",
        "d": "mito_pct 60 above 50",
    }
    assert list(quality.removed.columns) == list(REMOVED_COLUMNS)
    assert quality.removed["n_counts"].tolist() == [10, 500, 700]
    assert set(quality.sources["p"].values()) == {"given"}
    with pytest.raises(InvalidDataError, match="no cell of pool 'p'"):
        judge(figures, pools, QualityParams(min_counts=1e6))


def test_a_pool_that_is_all_bad_is_named():
    figures = pd.DataFrame({"n_counts": [900, 950, 0, 0], "n_genes": [90, 95, 0, 0], "mito_pct": 1.0})
    with pytest.raises(InvalidDataError, match="no cell of pool 'empty'"):
        judge(figures, pd.Series(["good", "good", "empty", "empty"]), QualityParams())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 900), st.sampled_from([1.0, 3.0, 50.0, np.nan])),
                min_size=2, max_size=40))  # fmt: skip
def test_kept_cells_pass_every_bound_and_removed_ones_miss_one(rows):
    figures = pd.DataFrame(rows, columns=["n_counts", "n_genes", "mito_pct"])
    figures.index = [f"c{i}" for i in range(len(rows))]
    try:
        quality = judge(figures, pd.Series("p", index=figures.index), QualityParams(n_mads=2))
    except InvalidDataError:
        return
    bounds = quality.thresholds["p"]
    passes = (figures["n_counts"] >= bounds["min_counts"]) & (figures["n_genes"] >= bounds["min_genes"])
    passes &= ~(figures["mito_pct"] > bounds.get("max_mito_pct", np.inf))
    assert passes.to_numpy().tolist() == quality.keep.tolist()
    assert quality.removed["cell"].tolist() == figures.index[~quality.keep].tolist()


def test_mito_is_a_prefix():
    counts = sp.csr_matrix(np.array([[5, 3, 2]]))
    figures = cell_figures(counts, pd.Series(["MT-CO1", "XMT-1", "ACTB"]), None)
    assert figures["mito_pct"].tolist() == [50.0]
    assert np.isnan(cell_figures(counts, pd.Series(["A", "B", "C"]), None)["mito_pct"].iloc[0])


def test_two_populations_are_those_of_a_mixture():
    rng = np.random.default_rng(0)
    low, high = two_populations(np.r_[rng.normal(2, 0.3, 300), rng.normal(5, 0.5, 700)])
    assert low == pytest.approx((2, 0.3, 0.3), abs=0.05) and high == pytest.approx((5, 0.5, 0.7), abs=0.05)
    assert two_populations(np.ones(50)) == (None, None)


# --- doublets


@pytest.fixture(scope="module")
def doublet_world():
    counts, truth, symbols = simulated_pools(1500, low_quality=0)
    return counts, truth, symbols, find_doublets(counts, true_calls(truth), DoubletParams(), seed=0)


def test_doublets_are_told_by_expression_better_than_by_counts(doublet_world):
    counts, truth, _, found = doublet_world
    pair = truth["multiplet"].to_numpy()
    unseen = pair & (truth["kind"] == "singlet").to_numpy()
    molecules = np.asarray(counts.sum(axis=1)).ravel()
    for some in (pair, unseen):
        rows = some | ~pair
        assert auroc(found.score[rows], some[rows]) > max(0.85, auroc(molecules[rows], some[rows]) + 0.01)


def test_doublet_scores_are_probabilities(doublet_world):
    _, truth, _, found = doublet_world
    pair = truth["multiplet"].to_numpy()
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1.01)):
        rows = (found.score >= low) & (found.score < high)
        assert found.score[rows].mean() == pytest.approx(pair[rows].mean(), abs=0.08)
    assert (found.predicted == (found.score >= 0.5)).all() and pair[found.predicted].mean() > 0.6


def test_doublets_within_a_tag_are_counted(doublet_world):
    _, truth, _, found = doublet_world
    for pool, entry in found.record.items():
        mine = truth[truth["pool"] == pool]
        unseen = int((mine["multiplet"] & (mine["kind"] == "singlet")).sum())
        assert entry["expected_within_tag"] == pytest.approx(unseen, abs=3 * np.sqrt(unseen))
        assert entry["auroc_hashtag_doublets"] > entry["auroc_counts"]
        assert entry["score_hashtag_doublets"] > 4 * entry["score_hashtag_singlets"]


def test_the_share_of_doublets_is_from_hashtags_where_there_are_some():
    tags = ["a"] * 45 + ["b"] * 45 + ["Doublet"] * 10
    calls = pd.DataFrame({"hashtag_kind": ["singlet"] * 90 + ["doublet"] * 10, "hashtag_call": tags})
    share, entry = expected_doublets(calls, DoubletParams())
    assert share == pytest.approx(0.2) and entry["expected_within_tag"] == pytest.approx(10)
    share, _ = expected_doublets(calls.assign(doublet_probability=0.05), DoubletParams())
    assert share == pytest.approx(0.1)
    alone = pd.DataFrame({"hashtag_kind": "singlet", "hashtag_call": [""] * 1000})
    share, entry = expected_doublets(alone, DoubletParams())
    assert share == pytest.approx(0.008) and entry["share_from"] == "number of cells"


def test_a_small_pool_gets_no_doublet_score():
    counts = sp.csr_matrix(np.random.default_rng(0).poisson(3, (30, 40)))
    calls = pd.DataFrame({"pool": "p", "hashtag_kind": "singlet", "hashtag_call": ["a", "b"] * 15})
    found = find_doublets(counts, calls, DoubletParams())
    assert np.isnan(found.score).all() and not found.predicted.any() and "fewer than 50" in found.record["p"]["reason"]


def test_a_pool_whose_cells_are_alike_gets_no_doublet_score():
    counts = sp.csr_matrix(np.tile(np.arange(1, 41), (60, 1)))
    calls = pd.DataFrame({"pool": "p", "hashtag_kind": "singlet", "hashtag_call": ["a", "b"] * 30})
    found = find_doublets(counts, calls, DoubletParams())
    assert np.isnan(found.score).all()
    assert found.record["p"] == {"cells": 60, "reason": "no gene varies among its cells"}


# --- soup


@pytest.mark.parametrize("planted", [0.02, 0.1, 0.3])
def test_the_soup_is_measured_by_the_gene_that_was_brought_in(planted):
    counts, truth, symbols = simulated_pools(1500, low_quality=0, ambient=planted, seed=4)
    found = find_ambient(counts, true_calls(truth), symbols, default_design(), AmbientParams())
    entry = found.record["perturbed"]
    own = truth["pool"] == "perturbed"
    assert entry["share"] == pytest.approx(truth["ambient_share"][own].mean(), abs=0.02 + 0.2 * planted)
    assert entry["low"] < entry["share"] < entry["high"] and entry["genes"] == ["MYOD1"]
    assert not entry["upper_bound"]
    assert np.allclose(found.share[own.to_numpy()], entry["share"]) and np.isnan(found.share[~own.to_numpy()]).all()
    assert "alike" in found.record["control"]["reason"]


def test_soup_of_a_pool_without_a_reference_is_an_upper_bound_or_unknown():
    counts, truth, symbols = simulated_pools(600, ("perturbed",), low_quality=0, ambient=0.1)
    calls, design = true_calls(truth), default_design()
    assert find_ambient(counts, calls, symbols, design, AmbientParams()).record["perturbed"]["upper_bound"]
    silent = find_ambient(counts, calls, symbols.replace("MYOD1", "OTHER"), design, AmbientParams())
    assert "activates no gene" in silent.record["perturbed"]["reason"] and np.isnan(silent.share).all()
    dense = counts.toarray()
    dense[:, symbols == "MYOD1"] += 9
    twice, reference = sp.csr_matrix(np.vstack([dense, dense])), calls.assign(pool="other", condition="control")
    both = find_ambient(twice, pd.concat([calls, reference]), symbols, design, AmbientParams())
    assert "of their own" in both.record["perturbed"]["reason"], "cells express it themselves"


def test_empty_droplets_give_the_soup_where_there_are_some():
    counts, truth, symbols = simulated_pools(800, low_quality=0, ambient=0.2)
    own = (truth["pool"] == "perturbed").to_numpy()
    profile = np.asarray(counts[own].sum(axis=0), dtype=float).ravel()
    find = {"design": default_design(), "params": AmbientParams()}
    found = find_ambient(counts, true_calls(truth), symbols, **find, empty={"perturbed": profile})
    assert found.record["perturbed"]["soup_from"] == "empty droplets"
    twice = np.where(symbols == "MYOD1", 2 * profile, profile)
    halved = find_ambient(counts, true_calls(truth), symbols, **find, empty={"perturbed": twice})
    assert halved.record["perturbed"]["share"] == pytest.approx(found.record["perturbed"]["share"] / 2, rel=0.1)
