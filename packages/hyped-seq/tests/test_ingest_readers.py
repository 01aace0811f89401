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
from hyped_seq.ingest.params import IngestParams
from hyped_seq.ingest.pool import read_pool
from hyped_seq.readers import h5_sparse
from hyped_seq.readers.h5ad import read_h5ad, read_h5ad_counts, write_h5ad
from hyped_seq.readers.matrix import as_counts
from hyped_seq.readers.mex import read_mex, read_mex_features
from hyped_seq.readers.read_summary import read_summary
from hyped_seq.readers.tenx_h5 import read_tenx_h5
from hyped_seq.readers.wf_single_cell import open_wf_folder, read_mito, read_wf_matrix, strip_suffix

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


def test_a_matrix_the_other_way_round(tmp_path, mex_writer):
    mex_writer(tmp_path, COUNTS.T, ["a", "b", "c"], ROWS)
    with pytest.raises(InvalidDataError, match="transpose"):
        read_mex(tmp_path)


def test_a_feature_without_a_name_goes_by_its_id(tmp_path, mex_writer):
    mex_writer(tmp_path, COUNTS, ["a", "b", "c"], ["id1\t\tGene Expression", "id2\tG2\tGene Expression"])
    assert list(read_mex(tmp_path).features["name"]) == ["id1", "G2"]


def test_features_with_ragged_lines(tmp_path, mex_writer):
    mex_writer(tmp_path, COUNTS, ["a", "b", "c"], ["id1\tG1", "id2"])
    with pytest.raises(InvalidDataError, match=r"features.tsv.gz: line 2 has 1 columns, the first 2"):
        read_mex(tmp_path)


def test_a_feature_table_cut_short_is_named(tmp_path, mex_writer):
    mex_writer(tmp_path, COUNTS, ["a", "b", "c"], ROWS)
    assert list(read_mex_features(tmp_path)["name"]) == ["G1", "G2"]
    with gzip.open(tmp_path / "features.tsv.gz", "wt") as handle:
        handle.write(ROWS[0] + "\n")
    with pytest.raises(CorruptFileError, match="features.tsv.gz: names 1 features, the matrix has 2"):
        read_mex_features(tmp_path)


def test_mito_figures(tmp_path):
    path = tmp_path / "mito.tsv"
    path.write_text("CB\tmito_pct\nAC-1\t1.5\nGT\t\n")
    assert read_mito(path).to_dict() == pytest.approx({"AC": 1.5, "GT": np.nan}, nan_ok=True)
    path.write_text("CB\tmito_pct\nAC-1\t1.5\nAC\t2\n")
    with pytest.raises(InvalidDataError, match=r"mito.tsv.*'AC'"):
        read_mito(path)
    path.write_text("CB\tmito_pct\nAC-1\t1.5\n\nGT\t1,2\n")
    with pytest.raises(InvalidDataError, match=r"mito.tsv: line 4 has a mito_pct that is no number: '1,2'"):
        read_mito(path)
    path.write_text("CB\tpct\nAC\t2\n")
    with pytest.raises(InvalidDataError, match=r"no column mito_pct; columns there: CB, pct"):
        read_mito(path)


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


def tenx(path: Path, counts: np.ndarray, group: str, **columns: list[bytes]) -> None:
    """A 10x h5 of ``counts`` (features x cells): columns of features by their place in ``group``."""
    matrix = sp.csc_matrix(counts)
    with h5py.File(path, "a") as file:
        top = file.create_group(group)
        top["data"], top["indices"], top["indptr"] = matrix.data, matrix.indices.astype("int64"), matrix.indptr
        top["shape"] = matrix.shape
        top["barcodes"] = np.array([b"AA-1", b"CC-1", b"GG-1"])
        for name, values in columns.items():
            top[name.replace("__", "/")] = np.array(values)


def test_tenx_h5_version_2_has_a_group_a_genome(tmp_path, small_design):
    path = tmp_path / "m.h5"
    tenx(path, COUNTS, "hg38", genes=[b"id1", b"id2"], gene_names=[b"G1", b"G2"])
    assert (read_tenx_h5(path).counts.toarray() == COUNTS.T).all()
    tenx(path, COUNTS * 2, "mm10", genes=[b"id1", b"id2"], gene_names=[b"G1", b"G2"])
    with pytest.raises(InvalidDataError, match="hg38, mm10"):
        read_tenx_h5(path)
    params = IngestParams(genome="mm10", hashtags="none")
    assert (read_pool("p1", path, small_design, params).genes.counts.toarray() == COUNTS.T * 2).all()


def test_antibodies_of_a_10x_h5_are_hashtags(tmp_path, small_design):
    path = tmp_path / "m.h5"
    kinds = [b"Gene Expression", b"Antibody Capture", b"Antibody Capture"]
    counts = np.array([[1, 0, 2], [30, 1, 0], [0, 4, 50]])
    tenx(path, counts, "matrix", features__id=[b"e1", b"x", b"y"], features__name=[b"G1", b"B", b"A"],
         features__feature_type=kinds)  # fmt: skip
    pool = read_pool("p1", path, small_design, IngestParams())
    assert list(pool.genes.features["name"]) == ["G1"] and pool.genes.counts.toarray().ravel().tolist() == [1, 0, 2]
    assert pool.barcodes == ["AA", "CC", "GG"]
    assert list(pool.hashtags.features["name"]) == ["A", "B"]
    assert pool.hashtags.counts.toarray().tolist() == [[0, 30], [4, 1], [50, 0]]


def test_a_tenx_h5_whose_indices_are_outside_it(tmp_path):
    path = tmp_path / "m.h5"
    tenx(path, COUNTS, "matrix", features__id=[b"id1", b"id2"], features__name=[b"G1", b"G2"])
    with h5py.File(path, "a") as file:
        file["matrix/indices"][0] = 7
    with pytest.raises(CorruptFileError, match="m.h5"):
        read_tenx_h5(path)


def test_columns_outside_a_matrix_are_refused():
    matrix = sp.csr_matrix((np.array([1, 2]), np.array([0, 1]), np.array([0, 1, 2])), shape=(2, 2))
    matrix.indices[1] = 9
    with pytest.raises(InvalidDataError, match="outside its 2 features"):
        as_counts(matrix, "here")


def test_repeated_entries_are_summed_and_their_sum_is_checked():
    def of(value: int) -> sp.csr_matrix:
        return sp.csr_matrix((np.array([value, 1, 0]), np.array([1, 1, 0]), np.array([0, 3])), shape=(1, 2))

    counts = as_counts(of(4), "here")
    assert counts.toarray().tolist() == [[0, 5]] and counts.nnz == 1
    with pytest.raises(InvalidDataError, match="above 2147483647"):
        as_counts(of(2**31 - 1), "here")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dense=hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 9)),
    kind=st.sampled_from([np.int32, np.float32, np.float64, np.uint8]),
    form=st.sampled_from([sp.csr_matrix, sp.csc_matrix]),
    chunk=st.sampled_from([1, 3, 1000]),
)
def test_h5ad_gives_back_what_was_written(dense, kind, form, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(h5_sparse, "CHUNK", chunk)
    x, other = form(dense.astype(kind)), sp.csr_matrix(dense.astype(np.int32) * 2)
    obs = pd.DataFrame({"pool": ["a"] * len(dense)}, index=[f"c{i}" for i in range(len(dense))])
    cells = anndata.AnnData(x, obs=obs, layers={"same": x, "other": other}, obsm={"m": sp.csr_matrix(dense)})
    cells.uns["note"] = {"a": np.arange(3), "b": "text"}
    write_h5ad(cells, tmp_path / "x.h5ad")
    read = anndata.read_h5ad(tmp_path / "x.h5ad")
    for ours, theirs in ((read.X, x), (read.layers["same"], x), (read.layers["other"], other)):
        assert type(ours) is type(theirs) and ours.dtype == theirs.dtype and (ours != theirs).nnz == 0
    assert (read.obsm["m"].toarray() == dense).all() and read.uns["note"]["b"] == "text"
    assert read.obs["pool"].tolist() == obs["pool"].tolist() and list(read.obs_names) == list(obs.index)
    whole = (tmp_path / "x.h5ad").read_bytes()
    write_h5ad(cells, tmp_path / "x.h5ad")
    assert (tmp_path / "x.h5ad").read_bytes() == whole


def test_a_long_matrix_is_written_as_anndata_writes_it(tmp_path):
    rng = np.random.default_rng(0)
    x = sp.random(900, 1100, density=0.5, format="csr", rng=rng, data_rvs=lambda n: rng.integers(1, 50, n))
    x = sp.csr_matrix(x, dtype=np.int32)
    assert x.nnz > 3 * h5_sparse.CHUNK
    cells = anndata.AnnData(x)
    write_h5ad(cells, tmp_path / "ours.h5ad")
    cells.write_h5ad(tmp_path / "theirs.h5ad")
    with h5py.File(tmp_path / "ours.h5ad") as ours, h5py.File(tmp_path / "theirs.h5ad") as theirs:
        for name in ("X/data", "X/indices", "X/indptr"):
            assert (ours[name][()] == theirs[name][()]).all() and ours[name].dtype == theirs[name].dtype
        assert dict(ours["X"].attrs).keys() == dict(theirs["X"].attrs).keys()
        assert ours.attrs["encoding-type"] == theirs.attrs["encoding-type"] == "anndata"
    backed = anndata.read_h5ad(tmp_path / "ours.h5ad", backed="r")
    assert (backed[10:20].X != x[10:20]).nnz == 0


def test_h5ad_counts_come_from_the_layer(tmp_path):
    cells = anndata.AnnData(sp.csr_matrix(np.log1p(COUNTS.T)), layers={"counts": sp.csr_matrix(COUNTS.T)})
    write_h5ad(cells, tmp_path / "x.h5ad")
    assert (read_h5ad_counts(tmp_path / "x.h5ad").counts.toarray() == COUNTS.T).all()
    del cells.layers["counts"]
    write_h5ad(cells, tmp_path / "x.h5ad")
    with pytest.raises(InvalidDataError, match="whole numbers"):
        read_h5ad_counts(tmp_path / "x.h5ad")
    cells.raw = cells.copy()
    cells.X = sp.csr_matrix(COUNTS.T)
    write_h5ad(cells, tmp_path / "x.h5ad")
    assert (read_h5ad_counts(tmp_path / "x.h5ad").counts.toarray() == COUNTS.T).all(), "raw.X holds no counts"


def test_repeated_names_of_an_h5ad_warn_of_nothing(tmp_path, recwarn):
    var = pd.DataFrame(index=["G", "G"])
    cells = anndata.AnnData(sp.csr_matrix(COUNTS.T), obs=pd.DataFrame(index=["a", "b", "c"]), var=var)
    cells.write_h5ad(tmp_path / "x.h5ad")
    recwarn.clear()
    assert list(read_h5ad_counts(tmp_path / "x.h5ad").features["name"]) == ["G", "G"]
    assert not [str(item.message) for item in recwarn if "unique" in str(item.message)]


def test_an_h5ad_of_scanpy_keeps_ids_and_antibodies_apart(tmp_path, small_design):
    counts = np.array([[1, 30, 0], [0, 1, 4], [2, 0, 50]])
    var = pd.DataFrame(
        {"gene_ids": ["ENSG00000000001", "x", "y"], "feature_types": ["Gene Expression", *["Antibody Capture"] * 2]},
        index=["G1", "A", "B"],
    )
    obs = pd.DataFrame(index=["AA-1", "CC-1", "GG-1"])
    anndata.AnnData(sp.csr_matrix(counts.astype("float32")), obs=obs, var=var).write_h5ad(tmp_path / "p.h5ad")
    pool = read_pool("p1", tmp_path / "p.h5ad", small_design, IngestParams())
    assert pool.genes.features[["id", "name"]].to_numpy().tolist() == [["ENSG00000000001", "G1"]]
    assert pool.hashtags.counts.toarray().tolist() == [[30, 0], [1, 4], [0, 50]]


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


@pytest.mark.parametrize("reads", [1, 2, 100])
@pytest.mark.parametrize("block", [300, 1 << 20])
def test_read_summary_does_not_depend_on_blocks(block, reads, small_pool):
    figures = read_summary(small_pool / "p1.read_summary.tsv", block=block, reads=reads)
    assert figures.n_reads.to_dict() == {"AAACCCAAGAAACACT": 2, "GGGTTTCCATTTGGCA": 1}
    assert figures.n_reads_assigned.to_dict() == {"AAACCCAAGAAACACT": 1, "GGGTTTCCATTTGGCA": 1}
    assert figures.transcript_gene == {"ENST1": "MYOD1", "ENST2": "DUP"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(*(st.sampled_from(["-", *names]) for names in (("AA", "CC", "GG"), ("X", "Y"), ("t1", "t2")))),
        max_size=30,
    ),
    reads=st.integers(1, 9),
    quality=st.sampled_from(["5", '"', "'", "#"]),
)
def test_read_summary_counts_as_pandas_does(rows, reads, quality, tmp_path):
    path = tmp_path / "s.tsv"
    lines = [f"{barcode}\t{quality}\t{gene}\t{transcript}\n" for barcode, gene, transcript in rows]
    path.write_text("corrected_barcode\tquality_barcode\tgene\ttranscript\n" + "".join(lines))
    figures = read_summary(path, block=64, reads=reads)
    table = pd.DataFrame(rows, columns=["barcode", "gene", "transcript"])
    table = table[table["barcode"] != "-"]
    genes = table[table["gene"] != "-"]
    assert figures.n_reads.to_dict() == table["barcode"].value_counts().to_dict()
    assert figures.n_reads_assigned.to_dict() == genes["barcode"].value_counts().to_dict()
    both = genes[genes["transcript"] != "-"]
    expected = {
        name: sorted(part.value_counts().items(), key=lambda item: (-item[1], item[0]))[0][0]
        for name, part in both.groupby("transcript")["gene"]
    }
    assert figures.transcript_gene == expected


def test_a_read_summary_with_a_line_cut_short(small_pool):
    path = small_pool / "p1.read_summary.tsv"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(CorruptFileError, match=r"read_summary.tsv.*Expected 12 columns, got"):
        read_summary(path)


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


@pytest.mark.public
def test_public_mex_folders_agree_with_scanpy(public_folder: Path):
    import scanpy as sc

    folders = [path.parent for path in sorted((public_folder / "reference" / "scanpy_10x").rglob("matrix.mtx*"))]
    assert folders
    for folder in folders:
        ours, theirs = read_mex(folder), sc.read_10x_mtx(folder, gex_only=False)
        assert ours.barcodes == list(theirs.obs_names)
        assert list(ours.features["id"]) == list(theirs.var["gene_ids"])
        assert (ours.counts != theirs.X).nnz == 0


def test_plain_text_works_as_gz_does(tmp_path, mex_writer):
    mex_writer(tmp_path, COUNTS, ["a", "b", "c"], ROWS)
    for path in list(tmp_path.glob("*.gz")):
        (tmp_path / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert (read_mex(tmp_path).counts.toarray() == COUNTS.T).all()
