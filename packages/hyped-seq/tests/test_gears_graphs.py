"""Graphs of GEARS: numbers of PyTorch Geometric's normalisation by hand, brute force, ties, odd input."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.errors import InvalidDataError
from hyped_seq.gears import correlation, graphs
from hyped_seq.gears.graphs import Graph, coexpression_graph, term_graph
from hyped_seq.gears.terms import terms_of

FIVE = Graph(
    np.array([0, 2, 0, 1, 3, 2, 4]),
    np.array([0, 1, 2, 2, 3, 0, 2]),
    np.array([0.5, 0.25, 1.0, 2.0, 0.0, 0.125, 4.0]),
    5,
)
"""Nodes 0 and 3 have loops of weight 0.5 and 0; nothing leads to node 4."""


def edges(graph: Graph) -> dict[tuple[int, int], float]:
    return {
        (int(s), int(t)): float(w) for s, t, w in zip(graph.sources, graph.targets, graph.weights, strict=True)
    }


def brute(similar: np.ndarray, most: int, threshold: float) -> dict[tuple[int, int], float]:
    """The ``most`` largest of each column above the threshold, first rows first, from a full stable sort."""
    found = {}
    for target in range(len(similar)):
        for source in np.argsort(-similar[:, target], kind="stable")[:most]:
            if similar[source, target] > threshold:
                found[int(source), target] = float(similar[source, target])
    return found


def test_normalised_is_that_of_sgconv():
    """Degrees by hand: 0.5 + 0.125, 1 + 0.25, 1 + 1 + 2 + 4, 0, 1; `SGConv` of PyG 2.8.1 gives the same matrix."""
    d = [0.625, 1.25, 8.0, 0.0, 1.0]
    expected = np.zeros((5, 5))
    expected[0, 0], expected[0, 2] = 0.5 / d[0], 0.125 / np.sqrt(d[0] * d[2])
    expected[1, 1], expected[1, 2] = 1 / d[1], 0.25 / np.sqrt(d[1] * d[2])
    expected[2, 2], expected[2, 0] = 1 / d[2], 1 / np.sqrt(d[2] * d[0])
    expected[2, 1], expected[2, 4] = 2 / np.sqrt(d[2] * d[1]), 4 / np.sqrt(d[2] * d[4])
    expected[4, 4] = 1
    matrix = FIVE.normalised()
    assert matrix.dtype == np.float32 and np.allclose(matrix.toarray(), expected, rtol=1e-6)
    from_pyg = [
        [0.8, 0, 0.0559017, 0, 0],
        [0, 0.8, 0.07905694, 0, 0],
        [0.4472136, 0.6324555, 0.125, 0, 1.4142135],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
    ]
    assert np.allclose(matrix.toarray(), from_pyg, atol=2e-7)
    assert FIVE.isolated().tolist() == [False, False, False, True, False]


def test_a_graph_without_edges_keeps_each_node_as_it_is():
    graph = Graph(np.empty(0), np.empty(0), np.empty(0), 3)
    assert (graph.normalised().toarray() == np.eye(3)).all() and graph.isolated().all()


@pytest.mark.parametrize(
    ("sources", "targets", "weights", "match"),
    [
        ([0], [3], [1.0], "node 3, of 3"),
        ([-1], [0], [1.0], "node -1"),
        ([0, 0], [1, 1], [1.0, 0.5], "twice"),
        ([0], [1], [-1.0], "negative"),
        ([0], [1], [np.nan], "not finite"),
        ([0, 1], [1], [1.0], "as many"),
    ],
)
def test_what_is_no_graph(sources, targets, weights, match):
    with pytest.raises(InvalidDataError, match=match):
        Graph(np.array(sources), np.array(targets), np.array(weights), 3)


@st.composite
def expression(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cells, genes = draw(st.integers(3, 30)), draw(st.integers(1, 25))
    x = np.log1p(rng.poisson(rng.gamma(1, 1, genes), (cells, genes)) * rng.random((cells, 1)) * 10)
    x[:, rng.random(genes) < 0.1] = rng.choice([0.0, 1.7])
    return x.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(expression(), st.integers(1, 6), st.sampled_from([0.0, 0.1, 0.4]), st.booleans(), st.booleans())
def test_coexpression_is_the_dense_brute_force(x, neighbours, threshold, sparse, products):
    share = 2.0 if products else 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correlation, "SPARSE_UP_TO", share)
        patch.setattr(correlation, "_SPARSE_BYTES", 300)
        patch.setattr(correlation, "_DENSE_GENES", 7)
        patch.setattr(correlation, "_DENSE_CELLS", 5)
        patch.setattr(correlation, "_DENSE_BYTES", 0)
        patch.setattr(graphs, "_MOST_WAITING", 20)
        graph = coexpression_graph(
            sp.csr_matrix(x) if sparse else x, neighbours=neighbours, threshold=threshold
        )
    varies = np.ptp(x, axis=0) > 0
    r = np.zeros((x.shape[1],) * 2)
    if varies.any():
        r[np.ix_(varies, varies)] = np.abs(np.corrcoef(x[:, varies].astype(float), rowvar=False))
    r = np.round(r, 6)  # equal up to rounding counts as equal: ties go to the first gene
    np.fill_diagonal(r, varies * 2.0)
    found, expected = edges(graph), brute(r, neighbours + 1, threshold)
    own = {(i, i) for i in np.flatnonzero(varies)}
    assert {edge for edge in found if edge[0] == edge[1]} == own
    for target in range(x.shape[1]):
        ours = sorted(w for (s, t), w in found.items() if t == target and s != t)
        theirs = sorted(w for (s, t), w in expected.items() if t == target and s != t)
        borderline = (np.abs(r[:, target] - threshold) < 2e-6).sum()
        assert abs(len(ours) - len(theirs)) <= borderline
        if not borderline:
            assert np.allclose(ours, theirs, atol=2e-6)
    assert all(abs(w - min(r[s, t], 1.0)) < 2e-6 for (s, t), w in found.items())


def test_the_order_of_genes_only_renames_nodes():
    rng = np.random.default_rng(1)
    x = sp.random(80, 60, density=0.15, format="csr", random_state=2, dtype=np.float32)
    order = rng.permutation(60)
    plain = edges(coexpression_graph(x, neighbours=5, threshold=0.1))
    shuffled = edges(coexpression_graph(x[:, order], neighbours=5, threshold=0.1))
    renamed = {(int(order[s]), int(order[t])): w for (s, t), w in shuffled.items()}
    assert renamed.keys() == plain.keys() and all(abs(renamed[e] - w) < 1e-6 for e, w in plain.items())


def test_ties_of_coexpression_go_to_the_first_genes_after_the_gene_itself():
    rng = np.random.default_rng(0)
    copies = np.repeat(rng.poisson(1.0, (40, 1)), 6, axis=1).astype(np.float32)
    copies[:, 4] = copies[:, 4].max() - copies[:, 4]
    for x in (copies, sp.csr_matrix(copies)):
        found = edges(coexpression_graph(x, neighbours=2))
        assert found.keys() == {
            *((i, i) for i in range(6)),
            *[(1, 0), (2, 0), (0, 1), (2, 1)],
            *[(s, t) for t in range(2, 6) for s in (0, 1)],
        }
        assert set(found.values()) == {1.0}


def test_constant_genes_have_no_edges_and_unsorted_storage_does_not_matter():
    rng = np.random.default_rng(0)
    x = rng.poisson(0.2, (200, 5)).astype(np.float32)
    x[:, 3] = x[:, 0] + rng.poisson(0.02, 200)
    x[:, 1], x[:, 2] = 0, np.float32(0.1)
    graph = coexpression_graph(x)
    assert edges(graph).keys() == {(0, 0), (3, 3), (4, 4), (0, 3), (3, 0)}
    assert graph.isolated().tolist() == [False, True, True, False, True]
    stored = sp.csr_matrix(x)
    for row in range(200):
        part = slice(stored.indptr[row], stored.indptr[row + 1])
        stored.indices[part], stored.data[part] = stored.indices[part][::-1], stored.data[part][::-1]
    stored.has_sorted_indices = False
    before = stored.indices.copy()
    assert edges(coexpression_graph(stored)) == edges(graph)
    assert (stored.indices == before).all()


@pytest.mark.parametrize("sparse", [True, False])
def test_coexpression_needs_numbers_and_cells(sparse):
    x = np.ones((4, 3))
    x[1, 1] = np.nan
    for bad, match in ((x, "not finite"), (np.ones((1, 3)), "1 cells"), (np.ones((0, 3)), "0 cells")):
        with pytest.raises(InvalidDataError, match=match):
            coexpression_graph(sp.csr_matrix(bad) if sparse else bad)


def test_panels_of_no_gene_one_gene_and_silent_genes():
    sizes = [
        (len(graph.sources), graph.nodes)
        for graph in map(coexpression_graph, (np.zeros((5, 0)), np.array([[1], [2]]), np.zeros((5, 3))))
    ]
    assert sizes == [(0, 0), (1, 1), (0, 3)]
    assert term_graph(terms_of({"A": {"t"}}, "test"), []).nodes == 0


def test_entries_stored_twice_are_summed():
    rng = np.random.default_rng(0)
    x = rng.poisson(1.0, (30, 4)) * 2.0
    doubled = sp.csr_matrix(x)
    indptr = doubled.indptr * 2
    indices, data = np.repeat(doubled.indices, 2), np.repeat(doubled.data / 2, 2)
    stored = sp.csr_matrix((data, indices, indptr), shape=x.shape)
    assert stored.nnz == 2 * doubled.nnz
    assert edges(coexpression_graph(stored, threshold=0.0)) == edges(coexpression_graph(x, threshold=0.0))


@st.composite
def annotations(draw):
    genes = draw(st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=2, max_size=12, unique=True))
    return {gene: draw(st.sets(st.sampled_from("uvwxyz"), max_size=5)) for gene in genes}


@settings(max_examples=80, deadline=None)
@given(annotations(), st.integers(1, 4), st.sampled_from([0.0, 0.1, 0.5]), st.randoms())
def test_term_graph_is_the_pairwise_one_in_any_order(sets, neighbours, threshold, random):
    if not any(sets.values()):
        return
    names = sorted(sets)

    def similar(a, b):
        return len(sets[a] & sets[b]) / len(sets[a] | sets[b]) if sets[a] and sets[b] else 0.0

    jaccard = np.array([[similar(a, b) for b in names] for a in names])
    expected = {
        (names[s], names[t]): np.float32(w) for (s, t), w in brute(jaccard, neighbours + 1, threshold).items()
    }
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(graphs, "_BLOCK_BYTES", 700)
            found = edges(term_graph(terms_of(sets, "test"), names, neighbours=neighbours, threshold=threshold))
        assert {(names[s], names[t]): w for (s, t), w in found.items()} == expected
        names = random.sample(names, len(names))


def test_similarity_of_terms_is_symmetric_where_both_edges_are_kept():
    rng = np.random.default_rng(0)
    sets = {f"g{i}": {f"t{j}" for j in rng.integers(0, 20, rng.integers(0, 8))} for i in range(40)}
    found = edges(term_graph(terms_of(sets, "test"), list(sets), neighbours=40))
    assert all(found[t, s] == w for (s, t), w in found.items()) and len(found) > 100


def test_genes_without_terms_are_isolated_and_the_threshold_itself_is_no_edge():
    sets = {"A": {f"t{i}" for i in range(10)}, "B": {"t0"}, "C": {"t0", "t1"}, "empty": set()}
    graph = term_graph(terms_of(sets, "test"), ["C", "nowhere", "A", "empty", "B"])
    found = edges(graph)
    assert graph.isolated().tolist() == [False, True, False, True, False]
    assert found[0, 2] == found[2, 0] == np.float32(0.2) and found[0, 4] == 0.5
    assert (2, 4) not in found and (1, 1) not in found and found[2, 2] == 1
    assert graph.normalised().toarray()[[1, 3], [1, 3]].tolist() == [1, 1]


def test_more_genes_of_equal_terms_than_neighbours():
    """The first names by code points are taken, and normalisation gives the left-out gene its own edge."""
    names = ["d", "b", "a", "c"]
    graph = term_graph(terms_of(dict.fromkeys(names, {"t"}), "test"), names, neighbours=1)
    assert edges(graph) == {(s, t): 1.0 for s in (2, 1) for t in range(4)}
    assert np.diff(graph.normalised().indptr).tolist() == [3, 2, 2, 3]
