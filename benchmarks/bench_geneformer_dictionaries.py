"""Exact medians of genes: 10,000 cells x 30,000 genes, about 3,000 nonzero genes a cell, beside the plain way.

The plain way normalises the whole matrix, turns it to columns and calls numpy.median on each; it needs all cells in
memory, three times. Both give the same numbers to the last bit, or no benchmark passes.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp

from hyped_seq.geneformer.medians import exact_medians

CELLS, GENES, CHUNK = 10_000, 30_000, 2048


@cache
def cells() -> tuple[sp.csr_matrix, np.ndarray]:
    """Counts of depths around 3,000 (log-normal) from log-normal shares of genes, and their sums."""
    rng = np.random.default_rng(0)
    shares = rng.lognormal(0, 2, GENES)
    shares /= shares.sum()
    kinds = [np.flatnonzero(rng.multinomial(int(rng.lognormal(8.6, 0.5)), shares)) for _ in range(200)]
    chosen = [kinds[i] for i in rng.integers(0, len(kinds), CELLS)]
    indptr = np.concatenate([[0], np.cumsum([len(genes) for genes in chosen])])
    data = (1 + rng.poisson(0.8, indptr[-1])).astype(np.int32)
    counts = sp.csr_matrix((data, np.concatenate(chosen).astype(np.int32), indptr), shape=(CELLS, GENES))
    return counts, np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()


def plain(counts: sp.csr_matrix, totals: np.ndarray) -> np.ndarray:
    """`numpy.median` of each column's nonzero values."""
    values = counts.astype(np.float64)
    values.data = values.data / np.repeat(totals, np.diff(values.indptr)) * 10_000
    columns = values.tocsc()
    medians = np.full(counts.shape[1], np.nan)
    for gene, (start, stop) in enumerate(zip(columns.indptr[:-1], columns.indptr[1:], strict=True)):
        if start < stop:
            medians[gene] = np.median(columns.data[start:stop])
    return medians


def chunked(counts: sp.csr_matrix, totals: np.ndarray) -> np.ndarray:
    """Ours, in chunks of cells."""
    genes = np.arange(counts.shape[1])

    def chunks():
        for start in range(0, counts.shape[0], CHUNK):
            yield counts[start : start + CHUNK], totals[start : start + CHUNK], genes

    return exact_medians(chunks, counts.shape[1])[0]


@pytest.mark.benchmark(group="geneformer: exact medians of 10,000 cells x 30,000 genes")
@pytest.mark.parametrize("way", [chunked, plain], ids=["hyped", "numpy a gene"])
def test_medians(benchmark, way):
    """Ours in chunks, and the plain way with all in memory."""
    counts, totals = cells()
    chunked(counts[:10], totals[:10])  # compiled before it is timed
    medians = benchmark.pedantic(way, args=(counts, totals), rounds=3)
    benchmark.extra_info["cells_per_s"] = CELLS / benchmark.stats.stats.min
    np.testing.assert_array_equal(medians, chunked(counts, totals))
