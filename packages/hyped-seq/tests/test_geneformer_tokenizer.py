"""Rank value encoding against a plain implementation, its invariants, and bad input."""

from __future__ import annotations

import csv
import os
import pickle
import runpy
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.context import RunContext
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UnsupportedDataError, UsageError
from hyped_seq.geneformer import cell_chunks
from hyped_seq.geneformer.cell_chunks import open_cells
from hyped_seq.geneformer.dictionaries import Dictionaries, load_dictionaries
from hyped_seq.geneformer.series import V1, V2
from hyped_seq.geneformer.tokenizer import Tokenizer

FOLDER = Path(os.environ.get("HYPED_PUBLIC_DATA", ""))
oracle = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("geneformer_oracle.py"))))


def dictionaries(medians, series=V1, genes=None, mapping=None):
    """Dictionaries of genes ENSG0, ENSG1, ... whose tokens are in a shuffled order."""
    medians = np.asarray(medians, dtype=float)
    genes = [f"ENSG{i}" for i in range(len(medians))] if genes is None else genes
    tokens = np.random.default_rng(1).permutation(len(genes)) + len(series.specials)
    specials = {name: i for i, name in enumerate(series.specials)}
    return Dictionaries(series, np.array(genes, object), tokens, medians, specials, mapping=mapping or {})


def plain(made):
    """Token and median dictionaries as the official files hold them."""
    tokens = {**dict(zip(made.genes, made.tokens.tolist(), strict=True)), **made.specials}
    return tokens, dict(zip(made.genes, made.medians.tolist(), strict=True))


def assert_official(ours, counts, ids, n_counts, made, *, mapping=None, max_tokens=None):
    """Every cell's sequence is the oracle's, equal values in the order of their tokens."""
    name = made.series.name
    kwargs = {"series": name, "mapping": mapping}
    whole = oracle.official(counts, ids, n_counts, *plain(made), max_tokens=10**6, **kwargs)
    cut = oracle.official(counts, ids, n_counts, *plain(made), max_tokens=max_tokens, **kwargs)
    rows = [row for row, (sequence, _) in enumerate(whole) if sequence is not None]
    assert ours.rows.tolist() == rows and ours.n_cells == len(whole) and ours.n_dropped == len(whole) - len(rows)
    for mine, row in zip(map(ours.__getitem__, range(len(ours))), rows, strict=True):
        (sequence, values), (_, everything) = cut[row], whole[row]
        assert ours.n_genes[np.searchsorted(ours.rows, row)] == len(everything)
        if oracle.has_tie_at_cut(values, everything):  # which of them stay is then the rule's, not the oracle's
            ordered = oracle.with_ties_by_token(*whole[row], series=name)
            special = name == "v2"
            expected = ordered[: len(values) + special]
            expected = np.append(expected, ordered[-1]) if special else expected
        else:
            expected = oracle.with_ties_by_token(sequence, values, series=name)
        assert mine.tolist() == expected.tolist()


def some_counts(rng, cells, genes, share=0.6, most=40):
    """Dense counts, many small ones; the second cell has none."""
    counts = rng.geometric(0.3, (cells, genes)).clip(0, most) * (rng.random((cells, genes)) < share)
    counts[1] = 0
    return counts.astype(np.int32)


# --------------------------------------------------------------------------------------- against the plain code
@pytest.mark.parametrize("series", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("genes", [50, 3000, 9000])
def test_equals_the_plain_code(series, genes):
    rng = np.random.default_rng(genes)
    made = dictionaries(rng.lognormal(0, 1.5, genes), series)
    counts = some_counts(rng, 12, genes + 5)
    ids = [f"ENSG{i}" for i in rng.permutation(genes + 5)]  # five of them are not in the dictionary
    n_counts = counts.sum(axis=1) + rng.integers(0, 50, 12)  # genes of the cell that the matrix does not have
    ours = Tokenizer(made).tokenize(sp.csr_matrix(counts), ids, n_counts)
    assert ours.tokens.dtype == np.int32
    assert_official(ours, counts, ids, n_counts, made)
    assert ours.lengths.max() == min(series.max_tokens, int(ours.n_genes.max()) + 2 * series.special)



@pytest.mark.parametrize("room", [300, 700, 1000])
def test_ties_across_the_cut_are_those_with_the_smaller_tokens(room):
    """Few distinct values and long rows of any length: what is kept of a run of ties is decided by tokens alone."""
    made = dictionaries(np.ones(3000))
    rng = np.random.default_rng(5)
    counts = rng.integers(1, 3, (40, 3000)) * (rng.random((40, 3000)) < 0.6)
    found = Tokenizer(made, max_tokens=room).tokenize(counts, list(made.genes))
    for row in range(40):
        columns = np.flatnonzero(counts[row])
        order = np.lexsort((made.tokens[columns], -counts[row, columns]))
        assert found[row].tolist() == made.tokens[columns][order][:room].tolist()


@pytest.mark.parametrize("medians", [[1.0], [1.0, 2.0, 4.0], [0.1, 634.0], [1e-30, 1.0, 1e30]], ids=str)
def test_many_ties_are_in_the_order_of_tokens(medians):
    """Few distinct medians: whole runs of equal values, some across the cut, and values out of the keys' range."""
    rng = np.random.default_rng(2)
    made = dictionaries(np.resize(medians, 3000))
    counts = some_counts(rng, 6, 3000, most=3)
    ids = list(made.genes)
    for most in (2048, 700, 1):
        ours = Tokenizer(made, max_tokens=most).tokenize(counts, ids)
        assert_official(ours, counts, ids, counts.sum(axis=1), made, max_tokens=most)


def test_stored_zeros_stay_absent_beside_extreme_medians():
    made = dictionaries([1e-300, 1.0, 1e300])
    counts = sp.csr_matrix((np.array([0, 1, 2, 3, 0, 0]), np.array([0, 1, 2] * 2), np.array([0, 3, 6])), shape=(2, 3))
    ours = Tokenizer(made).tokenize(counts, [f"ENSG{i}" for i in range(3)])
    token = dict(zip(made.genes, made.tokens.tolist(), strict=True))
    assert ours[0].tolist() == [token["ENSG1"], token["ENSG2"]] and ours[1].tolist() == [token["ENSG0"]]


def test_close_values_are_compared_exactly():
    """Medians a few units of a float64's last place apart: only the official arithmetic tells their order."""
    rng = np.random.default_rng(3)
    medians = 1.7 * (1 + rng.integers(0, 40, 4000) * 2.0**-52)
    made = dictionaries(medians)
    counts = some_counts(rng, 8, 4000, most=2)
    n_counts = counts.sum(axis=1) + 7
    assert_official(Tokenizer(made).tokenize(counts, made.genes, n_counts), counts, made.genes, n_counts, made)
    exact = 1 / n_counts[0] * 10_000 / medians
    assert len(np.unique(exact)) < len(np.unique(medians))  # rounding makes ties of what are none


@pytest.mark.parametrize("genes", [64, 128, 1024])
def test_rows_of_any_length_beside_each_other(genes):
    """Rows alike in length are sorted in one call, others one by one; a row of a power of two fills its places."""
    rng = np.random.default_rng(genes)
    made = dictionaries(rng.lognormal(0, 1, genes))
    full = rng.geometric(0.3, (6, genes))
    ragged = full * (rng.random((6, genes)) < np.array([1, 0.9, 0, 0.01, 0.5, 1])[:, None])
    for counts in (full, ragged):
        n_counts = counts.sum(axis=1) + 1
        assert_official(Tokenizer(made).tokenize(counts, made.genes, n_counts), counts, made.genes, n_counts, made)


def test_a_vocabulary_above_16_bits():
    rng = np.random.default_rng(12)
    made = dictionaries(rng.lognormal(0, 1, 70_000))
    ids = list(made.genes[np.argsort(made.tokens)][-50:])
    counts = some_counts(rng, 5, 50)
    ours = Tokenizer(made).tokenize(counts, ids)
    assert ours.tokens.min() > 2**16 and ours.tokens.dtype == np.int32
    assert_official(ours, counts, ids, counts.sum(axis=1), made)


def test_ids_are_collapsed_in_v2():
    """Ids in any case, old ids of current genes, and several columns of one gene, summed before ranking."""
    rng = np.random.default_rng(4)
    mapping = {f"ENSG{i}": f"ENSG{i % 300}" for i in range(500)}  # 300 to 499 are old ids of 0 to 199
    made = dictionaries(rng.lognormal(0, 1, 300), V2, mapping=mapping)
    ids = [f"ensg{i}" if i % 3 else f"ENSG{i}" for i in rng.permutation(550)]
    counts = some_counts(rng, 40, 550)
    n_counts = counts.sum(axis=1)
    ours = Tokenizer(made).tokenize(sp.csr_matrix(counts), ids, n_counts)
    assert_official(ours, counts, ids, n_counts, made, mapping=mapping)
    assert all(len(set(ours[i].tolist())) == len(ours[i]) for i in range(len(ours)))
    assert (ours.tokens[ours.offsets[:-1]] == 2).all() and (ours.tokens[ours.offsets[1:] - 1] == 3).all()
    whole = sp.csr_matrix(counts)
    back = sp.csr_matrix(counts[:, ::-1])
    assert np.array_equal(Tokenizer(made).tokenize(back, ids[::-1], n_counts).tokens, ours.tokens)
    assert (whole != sp.csr_matrix(counts)).nnz == 0


def test_v1_leaves_repeated_ids_apart():
    made = dictionaries([1.0, 2.0])
    ours = Tokenizer(made).tokenize([[3, 8, 5]], ["ENSG0", "ENSG1", "ENSG0"])
    a, b = made.tokens[np.argsort(made.genes)].tolist()
    assert ours[0].tolist() == [a, b, a]


def test_max_tokens_counts_the_specials():
    made = dictionaries(np.arange(1.0, 9.0), V2)
    ids = list(made.genes)
    ours = Tokenizer(made, max_tokens=5).tokenize(np.arange(1, 9)[None, :], ids)
    assert len(ours[0]) == 5 and ours[0][0] == 2 and ours[0][-1] == 3 and ours.n_genes.tolist() == [8]
    for wrong in (2, 4097):
        with pytest.raises(UsageError, match="3 to 4096"):
            Tokenizer(made, max_tokens=wrong)


# --------------------------------------------------------------------------------------------- forms of the input
FORMS = {
    "int32": lambda m: m.astype(np.int32),
    "int64": lambda m: m.astype(np.int64),
    "uint16": lambda m: m.astype(np.uint16),
    "uint64": lambda m: m.astype(np.uint64),
    "float32": lambda m: m.astype(np.float32),
    "float64": lambda m: m.astype(np.float64),
    "csc": sp.csc_matrix,
    "coo": sp.coo_matrix,
    "array": sp.csr_array,
    "dense": lambda m: m.toarray(),
    "long": lambda m: sp.csr_matrix((m.data, m.indices.astype(np.int64), m.indptr.astype(np.int64)), shape=m.shape),
    "unsorted": lambda m: unsorted(m),
    "split": lambda m: split(m),
    "zeros": lambda m: with_zeros(m),
}


def unsorted(m):
    out = m.copy()
    for row in range(m.shape[0]):
        low, high = m.indptr[row : row + 2]
        out.indices[low:high], out.data[low:high] = m.indices[low:high][::-1], m.data[low:high][::-1]
    return sp.csr_matrix((out.data, out.indices, out.indptr), shape=m.shape)


def split(m):
    """Each count in two entries of one place, the first 1 (or 0)."""
    data = np.column_stack([np.ones_like(m.data), m.data - 1]).ravel()
    return sp.csr_matrix((data, np.repeat(m.indices, 2), 2 * m.indptr), shape=m.shape)


def with_zeros(m):
    """Every place stored, zeros too."""
    dense = m.toarray()
    cells, genes = dense.shape
    return sp.csr_matrix((dense.ravel(), np.tile(np.arange(genes), cells), np.arange(cells + 1) * genes), shape=m.shape)


@pytest.mark.parametrize("series", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("form", FORMS)
def test_form_does_not_matter(form, series):
    rng = np.random.default_rng(5)
    made = dictionaries(rng.lognormal(0, 1, 60), series)
    ids = [*made.genes, "ensg3", "ENSG3", "x"]
    whole = sp.csr_matrix(some_counts(rng, 30, 63))
    given_ = FORMS[form](whole)
    before = given_.copy()
    expected, ours = (Tokenizer(made).tokenize(matrix, ids) for matrix in (whole, given_))
    assert np.array_equal(ours.tokens, expected.tokens) and np.array_equal(ours.offsets, expected.offsets)
    assert np.array_equal(ours.rows, expected.rows) and np.array_equal(ours.n_genes, expected.n_genes)
    if sp.issparse(given_):
        assert np.array_equal(given_.data, before.data)  # the caller's matrix is left as it was
    else:
        assert np.array_equal(given_, before)


def test_threads_do_not_matter(monkeypatch):
    monkeypatch.setattr("hyped_seq.geneformer.tokenizer._UNIT_CELLS", 7)
    rng = np.random.default_rng(6)
    made = dictionaries(rng.lognormal(0, 1, 90), V2)
    counts = sp.csr_matrix(some_counts(rng, 100, 90, share=0.3))
    one, three = (Tokenizer(made, max_tokens=20).tokenize(counts, made.genes, threads=n) for n in (1, 3))
    for name in ("tokens", "offsets", "rows", "n_genes"):
        assert np.array_equal(getattr(one, name), getattr(three, name))


def test_no_cells_and_cells_without_genes():
    made = dictionaries([1.0, 2.0], V2)
    none = Tokenizer(made).tokenize(sp.csr_matrix((0, 2)), made.genes)
    assert len(none) == 0 and none.n_cells == 0 and none.tokens.shape == (0,) and none.offsets.tolist() == [0]
    ours = Tokenizer(made).tokenize([[0, 0, 9], [0, 1, 0], [0, 0, 0]], [*made.genes, "unknown"], [9, 1, 0])
    assert ours.rows.tolist() == [1] and ours.n_dropped == 2 and len(ours[0]) == 3


def test_counts_of_anndata_are_found():
    rng = np.random.default_rng(7)
    made = dictionaries(rng.lognormal(0, 1, 40))
    counts = sp.csr_matrix(some_counts(rng, 9, 40))
    totals = np.asarray(counts.sum(axis=1)).ravel() + 3.0
    expected = Tokenizer(made).tokenize(counts, made.genes, totals).tokens
    var = pd.DataFrame({"gene_id": made.genes}, index=[f"G{i}" for i in range(40)])
    obs = pd.DataFrame({"n_counts": totals}, index=[f"c{i}" for i in range(9)])
    logs = counts.log1p()
    layered = anndata.AnnData(logs, obs=obs, var=var, layers={"counts": counts})
    as_raw = anndata.AnnData(counts.astype(np.float32), obs=obs, var=var)
    as_raw.raw = as_raw.copy()
    as_raw.X = logs
    plain_x = anndata.AnnData(counts, obs=obs, var=var)
    for cells in (layered, as_raw, plain_x):
        assert np.array_equal(Tokenizer(made).tokenize_cells(cells, context=RunContext(threads=2)).tokens, expected)
    with pytest.raises(InvalidDataError, match="not whole numbers"):
        Tokenizer(made).tokenize_cells(layered, layer="X")
    with pytest.raises(InvalidDataError, match="no matrix layers/other") as caught:
        Tokenizer(made).tokenize_cells(layered, layer="other")
    assert "layers/counts" in caught.value.mend


# ------------------------------------------------------------------------------------------------------ properties
counts_of = st.integers(0, 2**32 - 1).map(lambda seed: some_counts(np.random.default_rng(seed), 7, 30, most=9))


@settings(max_examples=40, deadline=None)
@given(counts_of, st.sampled_from([V1, V2]), st.integers(1, 40), st.permutations(range(7)))
def test_order_of_cells_and_of_genes_does_not_matter(counts, series, most, order):
    made = dictionaries(np.resize([0.5, 1.0, 3.3, 0.7], 25), series)
    ids = [f"ENSG{i % 27}" for i in range(30)] if series is V2 else [f"ENSG{i}" for i in range(30)]
    tokenizer = Tokenizer(made, max_tokens=most + 2)
    ours, moved = tokenizer.tokenize(counts, ids), tokenizer.tokenize(counts[list(order)], ids)
    turned = tokenizer.tokenize(sp.csc_matrix(counts[:, ::-1]), ids[::-1])
    by_row = dict(zip(ours.rows.tolist(), range(len(ours)), strict=True))
    for i, row in enumerate(moved.rows.tolist()):
        assert moved[i].tolist() == ours[by_row[order[row]]].tolist()
    assert np.array_equal(turned.tokens, ours.tokens)


@settings(max_examples=40, deadline=None)
@given(counts_of, st.integers(0, 20))
def test_scaling_by_powers_of_two_changes_nothing(counts, power):
    made = dictionaries(np.random.default_rng(8).lognormal(0, 1, 30))
    totals = counts.sum(axis=1) + 11.0
    ours = Tokenizer(made).tokenize(counts, made.genes, totals)
    scaled = Tokenizer(made).tokenize(counts.astype(np.int64) << power, made.genes, totals * 2.0**power)
    assert np.array_equal(ours.tokens, scaled.tokens) and np.array_equal(ours.offsets, scaled.offsets)


@settings(max_examples=40, deadline=None)
@given(counts_of, st.integers(2, 1000))
def test_scaling_changes_no_order_of_values_that_differ(counts, factor):
    made = dictionaries(np.random.default_rng(9).lognormal(0, 1, 30))
    totals = counts.sum(axis=1) + 11.0
    one = Tokenizer(made).tokenize(counts, made.genes, totals)
    two = Tokenizer(made).tokenize(counts * np.int64(factor), made.genes, totals * factor)
    median = dict(zip(made.tokens.tolist(), made.medians, strict=True))
    column = {token: i for i, token in enumerate(made.tokens.tolist())}
    for i, row in enumerate(one.rows):
        values = [[counts[row, column[t]] / median[t] for t in sets[i].tolist()] for sets in (one, two)]
        assert np.allclose(*values, rtol=1e-12)


# ------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("value", "says"),
    [(-1, "negative"), (1.5, "not whole numbers"), (np.nan, "not finite"), (np.inf, "not finite"), (2.0**31, "above")],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_no_count_is_refused(value, says, dtype):
    counts = np.ones((5, 4), dtype)
    counts[3, 2] = value
    made = dictionaries(np.ones(4))
    with pytest.raises(InvalidDataError, match=says) as caught:
        Tokenizer(made).tokenize(sp.csr_matrix(counts), made.genes, where="my.h5ad/X")
    assert caught.value.where == "my.h5ad/X, cell 3" and "raw" in caught.value.mend
    if value == -1:
        with pytest.raises(InvalidDataError, match="negative"):
            Tokenizer(made).tokenize(counts.astype(np.int64), made.genes)


def test_what_is_no_count_is_refused_in_genes_that_are_not_known():
    with pytest.raises(InvalidDataError, match="not whole numbers"):
        Tokenizer(dictionaries([1.0])).tokenize([[1.0, 0.3]], ["ENSG0", "unknown"])


def test_columns_outside_the_matrix_are_refused():
    counts = sp.csr_matrix(np.ones((2, 3), np.int32))
    counts.indices[4] = 7
    with pytest.raises(InvalidDataError, match="outside its 3"):
        Tokenizer(dictionaries(np.ones(3))).tokenize(counts, ["ENSG0", "ENSG1", "ENSG2"])


@pytest.mark.parametrize(
    ("n_counts", "says"),
    [([1.0, np.nan], "is nan in cell 1"), ([1.0, -2.0], "-2"), ([1.0], "shape"), (["a", "b"], "numbers")],
)
def test_unusable_totals_are_refused(n_counts, says):
    with pytest.raises(InvalidDataError, match=says):
        Tokenizer(dictionaries([1.0])).tokenize([[1], [2]], ["ENSG0"], n_counts)


def test_a_total_of_zero_is_refused_where_there_are_counts():
    with pytest.raises(InvalidDataError, match="n_counts of cell 1 is 0"):
        Tokenizer(dictionaries([1.0])).tokenize([[0], [2]], ["ENSG0"], [0, 0])


def test_genes_that_are_not_there():
    made = dictionaries([1.0, 2.0])
    for ids in (["MYOD1", "PRRX1"], [None, np.nan], ["", "x"]):
        with pytest.raises(InvalidDataError, match="none of the 2 gene ids"):
            Tokenizer(made).tokenize([[1, 2]], ids)
    with pytest.raises(InvalidDataError, match="2 genes and 1 gene ids"):
        Tokenizer(made).tokenize([[1, 2]], ["ENSG0"])
    assert Tokenizer(made).tokenize([[1, 2]], [None, "ENSG1"]).n_genes.tolist() == [1]


# ------------------------------------------------------------------------------------------------- cells in chunks
def written(path, matrix, raw=None, **columns):
    cells = anndata.AnnData(matrix, obs=pd.DataFrame(columns, index=[f"c{i}" for i in range(matrix.shape[0])]))
    cells.var["gene_id"] = [f"ENSG{i}" for i in range(matrix.shape[1])]
    if raw is not None:
        cells.layers["counts"] = raw
    cells.write_h5ad(path)
    return path


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
def test_chunks_of_a_file(tmp_path, form, monkeypatch):
    counts = some_counts(np.random.default_rng(10), 20, 6)
    path = written(tmp_path / "a.h5ad", form(counts.astype(np.float32)), pool=list("ab" * 10))
    monkeypatch.setattr(cell_chunks, "CHUNK_ENTRIES", 30)
    with open_cells(path) as source:
        assert source.n_counts is None and source.n_cells == 20 and source.gene_ids[5] == "ENSG5"
        chunks = list(source.chunks(7))
        assert source.obs(["pool"])["pool"].tolist() == list("ab" * 10) and source.cell_names[3] == "c3"
        with pytest.raises(InvalidDataError, match="no column 'phase'"):
            source.obs(["phase"])
    assert np.array_equal(sp.vstack([c.counts for c in chunks]).toarray(), counts)
    assert np.array_equal(np.concatenate([c.n_counts for c in chunks]), counts.sum(axis=1))
    assert [c.start for c in chunks] == np.cumsum([0, *(c.counts.shape[0] for c in chunks[:-1])]).tolist()
    assert max(c.counts.shape[0] for c in chunks) <= 7 and all(c.counts.nnz <= 30 for c in chunks)


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
@pytest.mark.parametrize("place", ["X", "raw"])
def test_backed_cells_are_read(tmp_path, form, place):
    counts = some_counts(np.random.default_rng(10), 20, 6).astype(np.float32)
    whole = anndata.AnnData(form(counts), obs=pd.DataFrame(index=[f"c{i}" for i in range(20)]))
    whole.var_names = [f"ENSG{i}" for i in range(6)]
    if place == "raw":
        whole.raw = whole
        whole.X = form(np.log1p(counts))
    whole.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    tokenizer = Tokenizer(dictionaries(np.ones(6)))
    for mine, theirs in ((backed, whole), (backed[5:9], whole[5:9])):
        found, expected = tokenizer.tokenize_cells(mine), tokenizer.tokenize_cells(theirs)
        assert np.array_equal(found.tokens, expected.tokens) and np.array_equal(found.offsets, expected.offsets)
    with open_cells(backed) as source:
        assert np.array_equal(sp.vstack([chunk.counts for chunk in source.chunks(7)]).toarray(), counts)
    backed.file.close()


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    counts = some_counts(np.random.default_rng(11), 20, 6)
    with pytest.raises(MissingFileError), open_cells(tmp_path / "no.h5ad"):
        pass
    (tmp_path / "text.h5ad").write_text("no HDF5")
    with pytest.raises(CorruptFileError), open_cells(tmp_path / "text.h5ad"):
        pass
    normalised = written(tmp_path / "log.h5ad", sp.csr_matrix(np.log1p(counts)))
    with open_cells(normalised) as source, pytest.raises(InvalidDataError, match="not whole numbers") as caught:
        list(source.chunks())
    assert str(caught.value.where).endswith("log.h5ad/X")
    by_column = written(tmp_path / "csc.h5ad", sp.csc_matrix(counts))
    monkeypatch.setattr(cell_chunks, "CSC_BYTES", 10)
    with pytest.raises(UnsupportedDataError, match="by columns") as caught, open_cells(by_column):
        pass
    assert "tocsr" in caught.value.mend
    bad_total = written(tmp_path / "nan.h5ad", sp.csr_matrix(counts), n_counts=[np.nan] * 20)
    with pytest.raises(InvalidDataError, match="nan in cell 0"), open_cells(bad_total):
        pass


# ---------------------------------------------------------------------------------------------- official dictionaries
@cache
def official_files():
    folder = FOLDER / "geneformer"
    names = ("token_dictionary", "gene_median_dictionary", "gene_name_id_dict")
    tokens, medians, ids = (pickle.loads((folder / f"{name}.pkl").read_bytes()) for name in names)
    return tokens, {gene: float(median) for gene, median in medians.items()}, ids


@cache
def real_cells():
    """88 real cells: dense counts and Ensembl ids by the official names."""
    with (FOLDER / "reference/celltypist_sample_cell_by_gene_f04e3dd.csv").open() as handle:
        header, *lines = csv.reader(handle)
    counts = np.array([line[1:] for line in lines], dtype=np.float64)
    ids = official_files()[2]
    return counts, [ids.get(name, name) for name in header[1:]]


@pytest.mark.parametrize("series", ["v1", "v2"])
@pytest.mark.public
@pytest.mark.skipif(not (FOLDER / "manifest.csv").is_file(), reason="HYPED_PUBLIC_DATA names no folder")
def test_real_cells_with_the_official_dictionaries(series):
    """Token for token; in v2 with the same genes, medians and ids, its specials and its collapsing."""
    tokens, medians, _ = official_files()
    counts, ids = real_cells()
    n_counts = counts.sum(axis=1)
    made = load_dictionaries(FOLDER / "geneformer")
    if series == "v2":
        made = Dictionaries(V2, made.genes, made.tokens + 2, made.medians, {n: i for i, n in enumerate(V2.specials)})
        tokens = plain(made)[0]
    ours = Tokenizer(made).tokenize(sp.csr_matrix(counts), ids, n_counts)
    assert len(ours) == 88 and ours.n_genes.min() > 100
    plainly = oracle.official(counts, ids, n_counts, tokens, medians, series=series)
    identical = sum(ours[i].tolist() == plainly[i][0].tolist() for i in range(88))
    ties = sum(len(np.unique(values)) < len(values) for _, values in plainly)
    assert identical >= 88 - ties  # those with a tie may differ there
    assert_official(ours, counts, ids, n_counts, made)
