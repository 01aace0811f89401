"""GEARS' graphs beside the plain way, both on one core: 3,000 genes in 6,000 terms; 2,000 genes in 8,000 cells.

The plain way of terms compares the sets of all pairs of genes and sorts each gene's; that of co-expression makes the
whole matrix of correlations from dense float32 cells and sorts every row of it. Both give the same edges, but for
ties, or no benchmark passes. `test_whole_size` holds what the plain way is not waited for (no alternative beside it):
14,937 genes x 6,036 terms as GO Biological Process 2021 has, and 5,000 genes x 20,000 cells of which 3 %, 10 % and
40 % of values are nonzero.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp

from hyped_seq.gears.graphs import coexpression_graph, term_graph
from hyped_seq.gears.terms import Terms, terms_of

NEIGHBOURS, THRESHOLD = 20, 0.1


@cache
def terms(genes: int, n_terms: int, mean: float = 13.2) -> Terms:
    """Genes that share programmes of terms; sizes of terms follow a power law, as ontologies' do."""
    rng = np.random.default_rng(0)
    popular = rng.zipf(1.6, n_terms).clip(1, 400).astype(float)
    programmes = [rng.choice(n_terms, 40, p=popular / popular.sum()) for _ in range(genes // 15)]
    sets = {}
    for gene in range(genes):
        size = 1 + rng.poisson(mean - 1)
        own = rng.choice(programmes[rng.integers(len(programmes))], size)
        sets[f"G{gene:05d}"] = {f"GO:{term}" for term in own}
    return terms_of(sets, "benchmark")


@cache
def cells(n_cells: int, genes: int, share: float) -> sp.csr_matrix:
    """Logarithms of counts from 30 programmes, about ``share`` of values nonzero; float32."""
    rng = np.random.default_rng(1)
    loadings = rng.gamma(0.1, 1.0, (30, genes)) * rng.lognormal(0, 1, genes)
    sample = rng.gamma(0.5, 1.0, (500, 30)) @ loadings
    scale = min(np.geomspace(1e-4, 1e3, 200), key=lambda s: abs(np.mean(1 - np.exp(-sample * s)) - share))
    parts = []
    for start in range(0, n_cells, 1000):
        rates = rng.gamma(0.5, 1.0, (min(1000, n_cells - start), 30)) @ loadings
        parts.append(sp.csr_matrix(np.log1p(rng.poisson(rates * scale) * 2.0).astype(np.float32)))
    return sp.vstack(parts, format="csr")


def pairwise_sets(annotations: Terms, threshold: float = 0.1) -> dict[tuple[int, int], float]:
    """Every gene's set against every other's, then each gene's largest."""
    table = annotations.table
    sets = [set(table.indices[table.indptr[i] : table.indptr[i + 1]].tolist()) for i in range(len(annotations.genes))]
    edges = {}
    for target, own in enumerate(sets):
        scores = []
        for source, other in enumerate(sets):
            score = len(own & other) / len(own | other)
            if score > threshold:
                scores.append((-score, source))
        for score, source in sorted(scores)[: NEIGHBOURS + 1]:
            edges[source, target] = -score
    return edges


def dense_correlations(x: sp.csr_matrix, threshold: float = THRESHOLD) -> dict[tuple[int, int], float]:
    """All correlations in float32, every row sorted."""
    values = x.toarray()
    centred = values - values.mean(axis=0)
    squares = (centred * centred).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.abs(np.nan_to_num(centred.T @ centred / np.sqrt(np.outer(squares, squares))))
    order = np.argsort(r, axis=1)[:, -(NEIGHBOURS + 1) :]
    return {
        (int(source), target): float(r[target, source])
        for target in range(len(r))
        for source in order[target]
        if r[target, source] > threshold
    }


def ours_of_terms(annotations: Terms) -> dict[tuple[int, int], float]:
    """`term_graph`."""
    graph = term_graph(annotations, annotations.genes, neighbours=NEIGHBOURS)
    return dict(zip(zip(graph.sources.tolist(), graph.targets.tolist(), strict=True), graph.weights, strict=True))


def ours_of_cells(x: sp.csr_matrix) -> dict[tuple[int, int], float]:
    """`coexpression_graph`."""
    graph = coexpression_graph(x, neighbours=NEIGHBOURS, threshold=THRESHOLD)
    return dict(zip(zip(graph.sources.tolist(), graph.targets.tolist(), strict=True), graph.weights, strict=True))


@pytest.mark.benchmark(group="gears: term graph of 3,000 genes x 6,000 terms")
@pytest.mark.parametrize("way", [ours_of_terms, pairwise_sets], ids=["hyped", "pairs of sets"])
def test_terms(benchmark, way):
    """Jaccard similarities and the 21 largest of each gene."""
    annotations = terms(3_000, 6_000)
    edges = benchmark.pedantic(way, args=(annotations,), rounds=3 if way is ours_of_terms else 1)
    expected = ours_of_terms(annotations)
    assert edges.keys() == expected.keys()
    assert max(abs(edges[edge] - expected[edge]) for edge in expected) < 1e-6


@pytest.mark.benchmark(group="gears: co-expression graph of 2,000 genes x 8,000 cells, 10 % nonzero")
@pytest.mark.parametrize("way", [ours_of_cells, dense_correlations], ids=["hyped", "dense, full sort"])
def test_coexpression(benchmark, way):
    """Correlations and the 21 largest of each gene."""
    x = cells(8_000, 2_000, 0.1)
    ours_of_cells(cells(50, 40, 0.02))  # compiles
    edges = benchmark.pedantic(way, args=(x,), rounds=3)
    expected = ours_of_cells(x)
    differing = edges.keys() ^ expected.keys()
    assert len(differing) < 1e-2 * len(expected)  # at the threshold, by rounding
    assert max(abs(edges[edge] - expected[edge]) for edge in edges.keys() & expected.keys()) < 1e-3  # float32 means


@pytest.mark.benchmark(group="gears: graphs at whole size")
@pytest.mark.parametrize("what", ["terms", 0.03, 0.1, 0.4])
def test_whole_size(benchmark, what):
    """14,937 genes x 6,036 terms; 5,000 genes x 20,000 cells by share of nonzero values."""
    if what == "terms":
        annotations = terms(14_937, 6_036)
        edges = benchmark.pedantic(ours_of_terms, args=(annotations,), rounds=3)
    else:
        x = cells(20_000, 5_000, what)
        ours_of_cells(cells(50, 40, 0.02))
        edges = benchmark.pedantic(ours_of_cells, args=(x,), rounds=1)
        cells.cache_clear()
    assert len(edges) > 5_000
