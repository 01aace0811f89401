"""The tasks of the sequencing steps: hashtag counts against molecules, changes against what was planted."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from hyped_bench.metrics.changes import count_scores, false_share, recall, size_correlation
from hyped_bench.runner import prepare, run_model
from hyped_core.errors import InvalidDataError, MissingFileError

BARCODES = [f"AAAC{i:04d}" for i in range(40)]


def _hto(counts, path):
    obs = pd.DataFrame({"pool": "p", "barcode": BARCODES}, index=[f"p_{b}" for b in BARCODES])
    matrix = sp.csr_matrix(counts.astype(np.int32))
    anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(index=["t1", "t2"])).write_h5ad(path)


def test_counts_equal_to_the_truth_are_perfect_and_half_of_them_are_not(tmp_path, bench_host):
    rng = np.random.default_rng(0)
    true = rng.poisson([[30, 2]], (40, 2))
    pd.DataFrame(true.T, index=["t1", "t2"], columns=BARCODES).to_csv(tmp_path / "truth.csv")
    section = {
        "sources": [
            {"name": "p", "pool": "p", "counts": str(tmp_path / "hto.h5ad"), "truth": str(tmp_path / "truth.csv")}
        ]
    }
    _hto(true, tmp_path / "hto.h5ad")
    metrics = run_model(prepare("hashtag_counts", section), "pipeline", host=bench_host).metrics
    assert metrics["count_pearson"] == 1 and metrics["count_ratio"] == 1 and metrics["count_error"] == 0
    assert metrics["top_tag_agreement"] == 1 and metrics["n_cells"] == 40
    _hto(true // 2, tmp_path / "hto.h5ad")
    metrics = run_model(prepare("hashtag_counts", section), "pipeline", host=bench_host).metrics
    assert 0.4 < metrics["count_ratio"] < 0.5 and 0.5 <= metrics["count_error"] < 0.6
    section["sources"][0]["pool"] = "q"
    with pytest.raises(InvalidDataError, match="pool 'q'"):
        run_model(prepare("hashtag_counts", section), "pipeline", host=bench_host)


def _tables(folder):
    genes = pd.DataFrame(
        {
            "symbol": ["UP", "RARE", "SAME", "CYCLE", "SMALL"],
            "baseline_cp10k": [5.0, 0.01, 5.0, 5.0, 5.0],
            "cycle_log2": [0, 0, 0, 1.0, 0],
            "log2fc_a": [2.0, 2.0, 0, 0, 0.1],
            "log2fc_b": [0.0, 0, 0, 0, 0],
        }
    )
    genes.to_parquet(folder / "genes.parquet")
    shares = {"transcript": ["1", "2", "3", "4"], "symbol": ["UP", "UP", "SAME", "SAME"]}
    shares |= {"share_a": [0.2, 0.8, 0.5, 0.5], "share_b": [0.6, 0.4, 0.5, 0.5]}
    pd.DataFrame(shares).to_parquet(folder / "transcripts.parquet")
    rows = []
    for group, sign in (("a", 1), ("b", -1)):
        for gene, change, p in (("UP", 2, 1e-9), ("RARE", 0, 0.9), ("SAME", 0, 0.001), ("CYCLE", 0.3, 0.01)):
            rows.append((f"{group}_vs_rest", group, "rest", "all", gene, sign * change, p))
            rows.append((f"{group}_vs_rest", group, "rest", "G1", gene, 0, 0.9))
    columns = ["contrast", "group", "reference", "phase", "gene", "log2_fold_change", "p_adjusted"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "de.csv", index=False)
    usage = [("a_vs_rest", "a", "rest", "all", "UP", 1e-4), ("a_vs_rest", "a", "rest", "all", "SAME", 0.5)]
    usage += [("b_vs_rest", "b", "rest", "all", "UP", 0.5), ("b_vs_rest", "b", "rest", "all", "SAME", 0.5)]
    table = pd.DataFrame(usage, columns=[*columns[:5], "p_adjusted"])
    table.assign(molecules_group=500, molecules_reference=800).to_csv(folder / "isoform_usage.csv", index=False)


def test_changes_are_scored_over_all_cells_against_what_was_planted(tmp_path, bench_host):
    _tables(tmp_path)
    source = {"name": "x", "cells": str(tmp_path), "genes": str(tmp_path / "genes.parquet")}
    section = {"sources": [source | {"transcripts": str(tmp_path / "transcripts.parquet")}]}
    metrics = run_model(prepare("changes", section), "pipeline", host=bench_host).metrics
    assert metrics["n_planted_genes"] == 2 and metrics["de_recall"] == 1, "UP in both contrasts; RARE is too rare"
    assert metrics["de_false_share"] == pytest.approx(2 / 6), "SAME is false, CYCLE neither true nor false"
    assert metrics["n_planted_switches"] == 2 and metrics["isoform_recall"] == 0.5
    assert metrics["isoform_false_share"] == 0
    rare = run_model(prepare("changes", section | {"min_molecules": 600}), "pipeline", host=bench_host).metrics
    assert rare["n_planted_switches"] == 0 and rare["isoform_recall"] is None, "too few molecules to be due"
    (tmp_path / "isoform_usage.csv").unlink()
    with pytest.raises(MissingFileError, match=r"isoform_usage\.csv"):
        prepare("changes", section)
    section["sources"][0] |= {"transcripts": None, "reference": "control"}
    with pytest.raises(InvalidDataError, match="no contrast against 'control'"):
        run_model(prepare("changes", section), "pipeline", host=bench_host)


def test_scores_without_anything_to_score_are_none():
    assert recall([True], [False]) is None and false_share([False], [True]) is None
    assert size_correlation([1, 1, 1], [1, 2, 3]) is None
    assert count_scores(np.zeros((2, 2)), np.zeros((2, 2)))["count_ratio"] is None
