"""Annotation: quality figures, normalisation, variable genes and components beside scanpy's, doublets beside Scrublet.

Sizes: 10,000 cells x 2,000 genes (about 500 stored values a cell) and 20,000 x 36,000 (about 2,500). Counts are random
around the profiles of eight kinds of cells. One thread each. Where ours and scanpy's share a result it is checked.
Memory at 20,000 x 36,000, beside the counts of 400 MB: quality 50 MB, normalised logs 240 MB (200 MB stay: they share
the counts' indices), variable genes 50 MB, components 110 MB, doublets of one pool of 20,000 cells 290 MB.
"""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from hyped_seq.annotate.doublets import find_doublets
from hyped_seq.annotate.embedding import fit_components
from hyped_seq.annotate.normalise import log_normalised, variable_genes
from hyped_seq.annotate.params import DoubletParams
from hyped_seq.annotate.quality import cell_figures

SMALL, LARGE = (10_000, 2_000, 500), (20_000, 36_000, 2_000)
"""Cells, genes and about how many stored values a cell has."""
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["10k x 2k", "20k x 36k"])
KINDS = 8
COMPONENTS = 30


@cache
def made(cells, genes, stored):
    """Counts of cells of eight kinds, drawn molecule by molecule; the first 13 genes are mitochondrial."""
    rng = np.random.default_rng(0)
    base = rng.lognormal(0, 1.6, genes)
    changed = np.exp((rng.random((KINDS, genes)) < 0.1) * rng.normal(0, 1.2, (KINDS, genes)))
    profiles = base * changed
    profiles /= profiles.sum(axis=1, keepdims=True)
    kind = rng.integers(0, KINDS, cells)
    molecules = (stored * 1.7 * rng.lognormal(0, 0.3, cells)).astype(int)
    parts = []
    for number in range(KINDS):
        rows = np.flatnonzero(kind == number)
        drawn = rng.choice(genes, molecules[rows].sum(), p=profiles[number]).astype(np.int32)
        owner = np.repeat(rows, molecules[rows])
        parts.append(sp.coo_matrix((np.ones(len(drawn), np.int32), (owner, drawn)), shape=(cells, genes)).tocsr())
    counts = sum(parts[1:], parts[0])
    counts.sort_indices()
    return sp.csr_matrix(counts, dtype=np.int32), symbols(genes)


def symbols(genes):
    """Names of genes."""
    return pd.Series([f"MT-{i}" if i < 13 else f"G{i}" for i in range(genes)])


def as_anndata(counts, names):
    """What scanpy takes."""
    import anndata

    return anndata.AnnData(counts.astype(np.float32), var=pd.DataFrame(index=names.to_numpy()))


def timed(benchmark, work, rounds=2):
    """The result of ``work``, timed on one thread."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return benchmark.pedantic(work, rounds=rounds)


@SIZES
@pytest.mark.parametrize("who", ["ours", "scanpy"])
@pytest.mark.benchmark(group="quality figures")
def test_quality_figures(benchmark, size, who):
    """Molecules, genes and mito of each cell."""
    import scanpy as sc

    counts, names = made(*size)
    cells = as_anndata(counts, names)
    cells.var["mt"] = names.str.startswith("MT-").to_numpy()

    def theirs():
        sc.pp.calculate_qc_metrics(cells, qc_vars=["mt"], percent_top=None, log1p=False, inplace=True)
        return cells.obs

    def ours():
        return cell_figures(counts, names, None)

    found = timed(benchmark, ours if who == "ours" else theirs)
    if who == "scanpy":
        mine = ours()
        assert np.array_equal(found["total_counts"], mine["n_counts"])
        assert np.allclose(found["pct_counts_mt"], mine["mito_pct"], atol=1e-4)


@SIZES
@pytest.mark.parametrize("who", ["ours", "scanpy"])
@pytest.mark.benchmark(group="normalised logs and variable genes")
def test_variable_genes(benchmark, size, who):
    """ln(1 + CP10k) and the 2,000 genes with most dispersion for their mean (1,000 of 2,000)."""
    import scanpy as sc

    counts, names = made(*size)
    number = min(2000, size[1] // 2)

    def theirs():
        cells = as_anndata(counts, names)
        sc.pp.normalize_total(cells, target_sum=1e4)
        sc.pp.log1p(cells)
        sc.pp.highly_variable_genes(cells, n_top_genes=number, flavor="cell_ranger")
        return cells.var["highly_variable"].to_numpy()

    def ours():
        return variable_genes(log_normalised(counts), number)

    found = timed(benchmark, ours if who == "ours" else theirs)
    assert found.sum() == number
    if who == "scanpy":
        assert (found & ours()).sum() > 0.5 * number


@SIZES
@pytest.mark.parametrize("who", ["ours", "scanpy"])
@pytest.mark.benchmark(group="principal components of standardised genes")
def test_components(benchmark, size, who):
    """30 components of 2,000 standardised genes; scanpy's `scale` makes them dense, then `pca`."""
    import anndata
    import scanpy as sc

    counts, _ = made(*size)
    logs = log_normalised(counts)
    logs = sp.csr_matrix(logs[:, variable_genes(logs, min(2000, size[1]))])

    def theirs():
        cells = anndata.AnnData(logs.copy())
        sc.pp.scale(cells, max_value=10)
        sc.pp.pca(cells, n_comps=COMPONENTS)
        return cells.obsm["X_pca"]

    def ours():
        return fit_components(logs, COMPONENTS).scores(logs)

    found = timed(benchmark, ours if who == "ours" else theirs)
    assert found.shape == (size[0], COMPONENTS)
    if who == "scanpy":
        mine = ours()
        for k in range(KINDS - 1):
            assert abs(np.corrcoef(found[:, k], mine[:, k])[0, 1]) > 0.99


@pytest.mark.parametrize("who", ["ours", "scanpy"])
@pytest.mark.benchmark(group="doublets, 1300 cells x 2k")
def test_doublets(benchmark, who):
    """Doublets of one pool from expression; a twentieth are sums of two cells.

    More cells than this Scrublet of scanpy 1.11 cannot take beside scikit-learn 1.9 (its neighbours fail).
    """
    import scanpy as sc
    from sklearn.metrics import roc_auc_score

    counts, names = made(*SMALL)
    counts = counts[:1365]
    summed = sp.csr_matrix(sp.vstack([counts[:1235], counts[1235:1300] + counts[1300:]]))
    is_pair = np.arange(summed.shape[0]) >= 1235
    calls = pd.DataFrame({"pool": "p", "hashtag_kind": ["singlet"] * len(is_pair), "hashtag_call": ""})

    def theirs():
        cells = as_anndata(summed, names)
        sc.pp.scrublet(cells, random_state=0, verbose=False, threshold=0.5)
        return cells.obs["doublet_score"].to_numpy()

    def ours():
        return find_doublets(summed, calls, DoubletParams()).score

    score = timed(benchmark, ours if who == "ours" else theirs)
    benchmark.extra_info["auroc"] = round(float(roc_auc_score(is_pair, score)), 4)
    if who == "ours":
        assert benchmark.extra_info["auroc"] > 0.9
