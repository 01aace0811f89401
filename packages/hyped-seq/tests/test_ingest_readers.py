"""Readers of count matrices: what they return, and what they refuse."""

from __future__ import annotations

import gzip
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_seq.readers.h5ad import read_h5ad, read_h5ad_counts, write_h5ad
from hyped_seq.readers.matrix import as_counts
from hyped_seq.readers.mex import read_mex
from hyped_seq.readers.tenx_h5 import read_tenx_h5
from hyped_seq.readers.wf_single_cell import open_wf_folder, read_summary, read_wf_matrix, strip_suffix

COUNTS = np.array([[1, 0, 2], [0, 0, 5]])
ROWS = ["id1\tG1\tGene Expression", "id2\tG2\tGene Expression"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dense=hnp.arrays(
        np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 2**31 - 1)
    )
)
def test_mex_gives_back_what_was_written(dense, tmp_path_factory, mex_writer):
    folder = tmp_path_factory.mktemp("mex")
    features, cells = dense.shape
    mex_writer(folder, dense, [f"C{i}" for i in range(cells)], [f"i{i}\tn{i}" for i in range(features)])
    read = read_mex(folder)
    assert (read.counts.toarray() == dense.T).all()
    assert read.barcodes == [f"C{i}" for i in range(cells)]
    assert list(read.features["name"]) == [f"n{i}" for i in range(features)]
    assert read.counts.has_sorted_indices and read.counts.dtype == np.int32


@pytest.mark.parametrize("name", ["matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz"])
def test_a_missing_file_is_named(name, tmp_path, mex_writer):
    mex_writer(tmp_path, COUNTS, ["a", "b", "c"], ROWS)
    (tmp_path / name).unlink()
    with pytest.raises(MissingFileError, match=name.removesuffix(".gz").split(".")[0]):
        read_mex(tmp_path)


@pytest.mark.parametrize("name", ["matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz"])
def test_a_gz_cut_short_is_named(name, tmp_path, mex_writer):
    rng = np.random.default_rng(0)
    dense = rng.integers(0, 9, (300, 40))
    mex_writer(tmp_path, dense, [f"cell{i}" for i in range(40)], [f"id{i}\tG{i}" for i in range(300)])
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError, match=name):
        read_mex(tmp_path)


def test_lengths_that_disagree(tmp_path, mex_writer):
    mex_writer(tmp_path, COUNTS, ["a", "b"], ROWS)
    with pytest.raises(InvalidDataError, match="3 cells but there are 2 barcodes"):
        read_mex(tmp_path)
    mex_writer(tmp_path, COUNTS, ["a", "b", "c"], ROWS[:1])
    with pytest.raises(InvalidDataError, match="2 features but 1"):
        read_mex(tmp_path)


def test_repeated_barcodes(tmp_path, mex_writer):
    mex_writer(tmp_path, COUNTS, ["a", "b", "a"], ROWS)
    with pytest.raises(InvalidDataError, match="'a'"):
        read_mex(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"), [(-1, "negative"), (1.5, "whole numbers"), (np.inf, "finite"), (3e9, "2147483647")]
)
def test_what_is_no_count_is_refused(value, message):
    with pytest.raises(InvalidDataError, match=message):
        as_counts(sp.csr_matrix(np.array([[0, value]])), "here")


def test_as_counts_leaves_its_input_alone():
    given_matrix = sp.csr_matrix(np.array([[0.0, 2.0], [1.0, 0.0]]))
    as_counts(given_matrix, "here").data[:] = 7
    assert given_matrix.data.tolist() == [2.0, 1.0]


def test_tenx_h5_version_3(tmp_path):
    path = tmp_path / "m.h5"
    matrix = sp.csc_matrix(COUNTS)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["data"], group["indices"], group["indptr"] = matrix.data, matrix.indices, matrix.indptr
        group["shape"] = matrix.shape
        group["barcodes"] = np.array([b"a", b"b", b"c"])
        group["features/id"], group["features/name"] = np.array([b"id1", b"id2"]), np.array([b"G1", b"G2"])
    read = read_tenx_h5(path)
    assert (read.counts.toarray() == COUNTS.T).all() and list(read.features["name"]) == ["G1", "G2"]
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(CorruptFileError, match="m.h5"):
        read_tenx_h5(path)


def test_h5ad_counts_come_from_the_layer(tmp_path):
    cells = anndata.AnnData(sp.csr_matrix(np.log1p(COUNTS.T)), layers={"counts": sp.csr_matrix(COUNTS.T)})
    write_h5ad(cells, tmp_path / "x.h5ad")
    assert (read_h5ad_counts(tmp_path / "x.h5ad").counts.toarray() == COUNTS.T).all()
    del cells.layers["counts"]
    write_h5ad(cells, tmp_path / "x.h5ad")
    with pytest.raises(InvalidDataError, match="whole numbers"):
        read_h5ad_counts(tmp_path / "x.h5ad")


def test_a_file_that_is_no_h5ad(tmp_path):
    (tmp_path / "x.h5ad").write_bytes(b"nothing of the kind")
    with pytest.raises(CorruptFileError, match="x.h5ad"):
        read_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(MissingFileError):
        read_h5ad(tmp_path / "y.h5ad")


def test_suffixes():
    assert strip_suffix("ACGT-1") == strip_suffix("ACGT-12") == strip_suffix("ACGT") == "ACGT"
    assert strip_suffix("1_ACGT-x") == "1_ACGT-x"


def test_wf_matrix_drops_the_unassigned_feature(tmp_path, mex_writer):
    mex_writer(
        tmp_path / "s.gene_raw_feature_bc_matrix", COUNTS, ["A-1", "C-1", "G-1"], ["x\t-\tg", "y\tG2\tg"]
    )
    read = read_wf_matrix(open_wf_folder(tmp_path))
    assert list(read.features["name"]) == ["G2"] and read.counts.toarray().ravel().tolist() == [0, 0, 5]
    assert read.barcodes == ["A", "C", "G"]


def test_wf_folder_without_and_with_two_samples(tmp_path):
    with pytest.raises(MissingFileError, match="gene_raw_feature_bc_matrix"):
        open_wf_folder(tmp_path)
    for alias in ("a", "b"):
        (tmp_path / f"{alias}.gene_raw_feature_bc_matrix").mkdir()
    with pytest.raises(InvalidDataError, match="2 samples"):
        open_wf_folder(tmp_path)


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_read_summary_does_not_depend_on_chunks(chunk, small_pool):
    figures = read_summary(small_pool / "p1.read_summary.tsv", chunk=chunk)
    assert figures.n_reads.to_dict() == {"AAACCCAAGAAACACT": 2, "GGGTTTCCATTTGGCA": 1}
    assert figures.n_reads_assigned.to_dict() == {"AAACCCAAGAAACACT": 1, "GGGTTTCCATTTGGCA": 1}
    assert figures.transcript_gene == {"ENST1": "MYOD1", "ENST2": "DUP"}


def test_read_summary_without_a_column(tmp_path):
    (tmp_path / "s.tsv").write_text("read_id\tgene\n1\tA\n")
    with pytest.raises(InvalidDataError, match="corrected_barcode"):
        read_summary(tmp_path / "s.tsv")


@pytest.mark.public
def test_public_mex_and_csv_hold_the_same_counts(public_folder: Path):
    folder = public_folder / "hto" / "gmm_demux"
    mex = read_mex(folder)
    table = pd.read_csv(folder / "example_hto.csv", index_col=0)
    if table.shape[0] < table.shape[1]:
        table = table.T
    order = [mex.barcodes.index(name) for name in table.index]
    assert mex.counts.sum() == table.to_numpy().sum()
    assert (np.sort(mex.counts[order].toarray().sum(0)) == np.sort(table.to_numpy().sum(0))).all()


@pytest.mark.public
def test_public_tenx_versions_agree_with_scanpy(public_folder: Path):
    import scanpy as sc

    files = sorted((public_folder / "reference" / "scanpy_10x").rglob("*.h5"))
    assert files
    for path in files:
        genome = "hg19_chr21" if path.parent.name.startswith("1.") else None
        ours = read_tenx_h5(path, genome)
        theirs = sc.read_10x_h5(path, genome=genome, gex_only=False)
        assert ours.barcodes == list(theirs.obs_names)
        assert (ours.counts != theirs.X).nnz == 0


def test_plain_text_works_as_gz_does(tmp_path, mex_writer):
    mex_writer(tmp_path, COUNTS, ["a", "b", "c"], ROWS)
    for path in list(tmp_path.glob("*.gz")):
        (tmp_path / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert (read_mex(tmp_path).counts.toarray() == COUNTS.T).all()
