"""Medians of genes: equal to numpy's to the last bit, whatever the chunks, the bins and how many values are kept."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.errors import InvalidDataError, UsageError
from hyped_seq.geneformer.dictionaries import build_dictionaries
from hyped_seq.geneformer.dictionary_build import build
from hyped_seq.geneformer.medians import BINS, COLLECT, exact_medians


def plain_medians(counts, n_counts, gene_of, n_genes):
    """The definition, a gene at a time."""
    values = counts.toarray().astype(np.float64) / n_counts[:, None] * 10_000
    medians = np.full(n_genes, np.nan)
    for gene in range(n_genes):
        own = values[:, gene_of == gene]
        if (own > 0).any():
            medians[gene] = np.median(own[own > 0])
    return medians


@st.composite
def cells(draw):
    """Counts of few cells, with totals that tie all values, none, or spread them over 12 orders of magnitude."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_cells, n_columns = draw(st.integers(1, 60)), draw(st.integers(1, 12))
    kind = draw(st.sampled_from(["i4", "f4", "f8"]))
    counts = sp.csr_matrix(rng.poisson(draw(st.sampled_from([0.05, 0.5, 5])), (n_cells, n_columns)).astype(kind))
    totals = np.maximum(np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(), 1)
    spread = draw(st.sampled_from(["own", "equal", "wide"]))
    totals = {"own": totals, "equal": np.full(n_cells, 1e4), "wide": totals * 10.0 ** rng.integers(-6, 7, n_cells)}[
        spread
    ]
    gene_of = rng.permutation(n_columns)
    gene_of[rng.random(n_columns) < 0.1] = -1
    return counts, totals, gene_of


@settings(max_examples=60, deadline=None)
@given(cells(), st.integers(1, 30), st.sampled_from([(BINS, COLLECT), (BINS, 0), (2, 0), (3, 7), (8, 20)]))
def test_equal_to_numpy(given_cells, step, room):
    counts, totals, gene_of = given_cells

    def chunks():
        for start in range(0, counts.shape[0], step):
            yield counts[start : start + step], totals[start : start + step], gene_of

    bins, collect = room
    medians, seen = exact_medians(chunks, counts.shape[1], bins=bins, collect=collect)
    np.testing.assert_array_equal(medians, plain_medians(counts, totals, gene_of, counts.shape[1]))
    expected = [(counts[:, gene_of == gene].toarray() > 0).sum() for gene in range(counts.shape[1])]
    assert seen.tolist() == expected


def test_two_passes_are_enough():
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(1, (300, 40)).astype(np.int32))
    totals = rng.integers(1000, 9000, 300).astype(np.float64)
    passes = []

    def chunks():
        passes.append(1)
        yield counts, totals, np.arange(40)

    exact_medians(chunks, 40)
    assert len(passes) == 2


IDS = ["ENSG02", "ensg01", "ENSG01", "ENSG04", "", "ENSG05", "ENSG03"]
NAMES = ["B", "A", "A2", "D", "nameless", "E", "C"]


def make_cells(rng, n_cells=150, kind="csr"):
    counts = rng.poisson(0.7, (n_cells, len(IDS))).astype(np.int32)
    counts[:, 5] = 0  # ENSG05 is never seen
    var = pd.DataFrame({"gene_id": IDS, "symbol": NAMES}, index=[f"g{i}" for i in range(len(IDS))])
    matrix = counts if kind == "dense" else getattr(sp, f"{kind}_matrix")(counts)
    made = ad.AnnData(matrix, var=var)
    made.obs_names = [f"c{i}" for i in range(n_cells)]
    return made, counts


def expected_v2(counts, totals):
    merged = np.stack([counts[:, 1] + counts[:, 2], counts[:, 0], counts[:, 6], counts[:, 3]], axis=1)
    return plain_medians(sp.csr_matrix(merged), totals, np.arange(4), 4)


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
def test_ids_that_come_to_one_are_summed_first(kind):
    made, counts = make_cells(np.random.default_rng(1), kind=kind)
    totals = counts.sum(axis=1).astype(float)  # the column without id counts
    totals[totals == 0] = 1
    got = build_dictionaries(made)
    assert got.genes.tolist() == ["ENSG01", "ENSG02", "ENSG03", "ENSG04"]
    assert got.tokens.tolist() == [4, 5, 6, 7] and got.vocabulary == 8
    np.testing.assert_array_equal(got.medians, expected_v2(counts, totals))
    assert got.left_out == {"unseen": 1, "without_id": 1}
    assert build(made).left_out == {"unseen": ["ENSG05"], "without_id": ["nameless"]}
    assert got.gene_id("a2") == "ENSG01" and got.gene_id("ensg03") == "ENSG03"


def test_series_v1_takes_ids_as_they_are():
    made, counts = make_cells(np.random.default_rng(1))
    got = build_dictionaries(made, series="v1")
    assert got.genes.tolist() == ["ENSG01", "ENSG02", "ENSG03", "ENSG04", "ensg01"]
    assert got.tokens.tolist() == [2, 3, 4, 5, 6] and list(got.specials) == ["<pad>", "<mask>"]


def test_a_mapping_moves_and_leaves_out():
    made, counts = make_cells(np.random.default_rng(2))
    made.obs["n_counts"] = 5000.0
    mapping = {"ENSG01": "ENSG01", "ENSG02": "ENSG01", "ENSG03": "ENSG09"}
    got = build(made, mapping=mapping)
    summed = sp.csr_matrix(np.stack([counts[:, :3].sum(axis=1), counts[:, 6]], axis=1))
    assert got.dictionaries.genes.tolist() == ["ENSG01", "ENSG09"]
    np.testing.assert_array_equal(
        got.dictionaries.medians, plain_medians(summed, np.full(150, 5000.0), np.arange(2), 2)
    )
    assert got.left_out["not_in_mapping"] == ["ENSG04", "ENSG05"]
    assert got.dictionaries.position(["ENSG02", "ensg03", "ENSG04", "ENSG09"]).tolist() == [0, 1, -1, 1]
    assert got.dictionaries.gene_id("C") == "ENSG09" == got.dictionaries.gene_id("ENSG09")


def test_files_and_memory_and_several_sources_agree(tmp_path):
    made, _ = make_cells(np.random.default_rng(3), 200)
    made.layers["counts"] = made.X.copy()
    made.X = np.log1p(made.X)
    halves = [made[:70].copy(), made[70:, ::-1].copy()]  # the second with its genes in another order
    for i, half in enumerate(halves):
        half.write_h5ad(tmp_path / f"{i}.h5ad")
    whole = build_dictionaries(made, keep_unseen=True)
    parts = build_dictionaries([tmp_path / "0.h5ad", tmp_path / "1.h5ad"], keep_unseen=True)
    assert whole.sha256 == parts.sha256 == build_dictionaries(halves[::-1], keep_unseen=True).sha256
    assert parts.source.startswith("built from 200 cells of 0.h5ad, 1.h5ad; the median of all medians for ENSG05")


def test_kept_genes_have_the_median_of_all_medians():
    made, _ = make_cells(np.random.default_rng(4))
    made.obs["n_counts"] = np.random.default_rng(4).uniform(2000, 9000, made.n_obs)
    plain = build_dictionaries(made)
    got = build(made, keep=["E", "ENSG00000129152", "B"])
    assert got.typical == ["ENSG00000129152", "ENSG05"]
    own = dict(zip(got.dictionaries.genes, got.dictionaries.medians, strict=True))
    assert own["ENSG05"] == own["ENSG00000129152"] == np.median(plain.medians)
    assert own["ENSG02"] == plain.medians[1] != own["ENSG05"]
    with pytest.raises(InvalidDataError, match="no gene 'NOBODY' in the data"):
        build_dictionaries(made, keep=["NOBODY"])


def test_no_cells_are_refused(tmp_path):
    made = ad.AnnData(sp.csr_matrix((0, 2), dtype=np.int32), var=pd.DataFrame(index=["a", "b"]))
    made.write_h5ad(tmp_path / "none.h5ad")
    with pytest.raises(InvalidDataError, match="holds no cells") as caught:
        build_dictionaries(tmp_path / "none.h5ad")
    assert caught.value.where == "none.h5ad"


def test_a_gene_set():
    made, _ = make_cells(np.random.default_rng(5))
    got = build(made, only=["C", "ENSG04", "GONE"], keep=["ENSG02"])
    assert got.dictionaries.genes.tolist() == ["ENSG02", "ENSG03", "ENSG04"]
    assert got.left_out["not_in_data"] == ["GONE"] and got.left_out["not_asked_for"] == ["ENSG01", "ENSG05"]
    with pytest.raises(InvalidDataError, match="none of the 1 genes"):
        build(made, only=["GONE"])


def test_names_of_several_genes_are_no_names():
    made, _ = make_cells(np.random.default_rng(6))
    made.var["symbol"] = ["B", "A", "A", "B", "x", "E", "C"]
    got = build(made)
    assert got.left_out["ambiguous_symbol"] == ["B"] and "B" not in got.dictionaries.symbols
    assert got.dictionaries.gene_id("A") == "ENSG01"  # both of its columns come to one gene


@pytest.mark.parametrize(
    ("spoil", "field", "message"),
    [
        (lambda c: c.X.data.__setitem__(3, -1), "X", "negative counts"),
        (lambda c: setattr(c, "X", c.X * 0.5), "X", "not whole numbers"),
        (lambda c: setattr(c, "X", c.X * np.nan), "X", "not finite"),
        (lambda c: c.obs.__setitem__("n_counts", 0.0), "n_counts", "is 0 in cell 0, which has counts"),
        (lambda c: c.obs.__setitem__("n_counts", np.nan), "n_counts", "nan in cell 0"),
        (lambda c: setattr(c, "X", c.X * 0), "spoiled.h5ad", "no gene that is asked for has counts"),
        (lambda c: c.var.__setitem__("gene_id", ""), "spoiled.h5ad", "no gene has an id"),
    ],
)
def test_what_are_no_raw_counts(tmp_path, spoil, field, message):
    made, _ = make_cells(np.random.default_rng(7))
    made.X[0, 0] = 1
    spoil(made)
    made.write_h5ad(tmp_path / "spoiled.h5ad")
    with pytest.raises(InvalidDataError, match=message) as caught:
        build_dictionaries(tmp_path / "spoiled.h5ad")
    assert "spoiled.h5ad" in str(caught.value.where) and field in str(caught.value.where)


def test_arguments_that_do_not_fit():
    made, counts = make_cells(np.random.default_rng(8))
    with pytest.raises(UsageError, match="one source"):
        build_dictionaries([made, made], gene_ids=IDS)
    with pytest.raises(UsageError, match="no cells"):
        build_dictionaries([])
    with pytest.raises(InvalidDataError, match="2 gene ids for 7 columns"):
        build_dictionaries(made, gene_ids=["a", "b"])
    with pytest.raises(InvalidDataError, match="shape"):
        build_dictionaries(made, n_counts=[1.0])
    ids, totals = [f"T{i}" for i in range(7)], np.full(150, 1e4)
    named = build_dictionaries(made, gene_ids=ids, n_counts=totals, symbols={"x": "t3"})
    np.testing.assert_array_equal(
        named.medians, plain_medians(sp.csr_matrix(counts), totals, np.arange(7), 7)[[0, 1, 2, 3, 4, 6]]
    )
    assert named.gene_id("x") == "T3"
