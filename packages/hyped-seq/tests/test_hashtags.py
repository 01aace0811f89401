"""Hashtag counts from tables, tag names, and the hashtags of a pool."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hashtag_oracle import barcodes, hashtags, molecule, random_bases, write_fastq

from hyped_core.errors import CorruptFileError, DesignError, InvalidDataError, MissingFileError
from hyped_seq.hashtags.alignment import edit_distance, reverse_complement
from hyped_seq.hashtags.counts import read_hashtag_counts
from hyped_seq.hashtags.names import name_tags, split_name
from hyped_seq.ingest.import_hashtags import is_hashtag_table
from hyped_seq.ingest.params import IngestParams
from hyped_seq.ingest.pool_hashtags import match_tags, read_pool_hashtags
from hyped_seq.readers.matrix import CountMatrix

CELLS = ["AAACCCAAGAAACACT", "GGGTTTCCATTTGGCA", "TTTGGGACATCGCATC"]


@given(st.text(alphabet="ACGT", max_size=40))
def test_reverse_complement_twice_is_the_sequence(sequence):
    assert reverse_complement(reverse_complement(sequence)) == sequence


@given(st.text("ACGT", max_size=12), st.text("ACGT", max_size=12))
def test_edit_distance_is_a_metric_step(one, other):
    assert edit_distance(one, other) == edit_distance(other, one) == edit_distance(one[::-1], other[::-1])
    assert abs(len(one) - len(other)) <= edit_distance(one, other) <= max(len(one), len(other))
    assert edit_distance(one + "A", one) == 1


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t"), ("csv", ";"), ("csv", "\t")])
@pytest.mark.parametrize("tags_in_rows", [True, False])
@pytest.mark.parametrize("corner", [True, False])
def test_tables_either_way_round(suffix, separator, tags_in_rows, corner, tmp_path):
    rows = [["", *CELLS[:2]], ["A", "5", "0"], ["B", "1", "9"]]
    if not tags_in_rows:
        rows = [list(column) for column in zip(*rows)]
    if not corner:
        rows[0] = rows[0][1:]
    path = tmp_path / f"t.{suffix}"
    path.write_text("\n".join(separator.join(row) for row in rows) + "\n", encoding="utf-8-sig")
    read = read_hashtag_counts(path, ["A", "B"])
    assert read.barcodes == CELLS[:2] and list(read.features["name"]) == ["A", "B"]
    assert read.counts.toarray().tolist() == [[5, 1], [0, 9]]


def test_the_side_with_names_and_sequences_is_the_tags(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f",{CELLS[0]}\nA-GTCAACTCTTTAGCG,5\nB-TGATGGCCTATTGGG,1\nunmapped,3\n")
    read = read_hashtag_counts(path, ["A", "B"])
    assert read.barcodes == CELLS[:1] and read.counts.toarray().tolist() == [[5, 1, 3]]


labels = st.lists(st.text("abcXYZ019_", min_size=1, max_size=8), min_size=1, max_size=6, unique=True)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), tags=labels, cells=st.integers(1, 6), packed=st.booleans(), turned=st.booleans())
def test_what_is_written_is_read(tmp_path_factory, data, tags, cells, packed, turned):
    values = data.draw(st.lists(st.integers(0, 2**31 - 1), min_size=len(tags) * cells, max_size=len(tags) * cells))
    table = pd.DataFrame(np.reshape(values, (cells, len(tags))), index=[f"cell{i}" for i in range(cells)], columns=tags)
    path = tmp_path_factory.mktemp("table") / ("t.csv.gz" if packed else "t.csv")
    (table.T if turned else table).to_csv(path)
    read = read_hashtag_counts(path, tags)
    assert read.barcodes == list(table.index) and list(read.features["name"]) == tags
    assert (read.counts.toarray() == table.to_numpy()).all()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (",c1,c2\nA,5,x\nB,1,2\n", CorruptFileError, "tag 'A' in cell 'c2' is 'x'"),
        (",c1,c2\nA,5,\nB,1,2\n", CorruptFileError, "tag 'A' in cell 'c2' is ''"),
        (",c1,c2\nA,5,3\nB,-1,2\n", InvalidDataError, "tag 'B' in cell 'c1' is '-1'.*negative"),
        (",c1,c2\nA,5,0.5\nB,1,2\n", InvalidDataError, "tag 'A' in cell 'c2' is '0.5'.*whole"),
        (",c1,c2\nA,5,nan\nB,1,2\n", InvalidDataError, "'nan'"),
        (",c1,c2\nA,5,1e12\nB,1,2\n", InvalidDataError, "'1e12'"),
        (",c1,c1\nA,5,1\nB,1,2\n", InvalidDataError, "'c1'"),
        (",c1,c2\nA,5,1\nA,1,2\n", InvalidDataError, "tag 'A' occurs more than once"),
        (",c1,c2\nA,5,1,7,8\nB,1,2\n", CorruptFileError, "line 2"),
        ("", CorruptFileError, "t.csv"),
        ("only\n", CorruptFileError, "table"),
    ],
)
def test_tables_that_are_none(text, error, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(error, match=message):
        read_hashtag_counts(tmp_path / "t.csv", ["A", "B"])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_table_cut_short_anywhere(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / "t.csv.gz"
    whole = gzip.compress(("," + ",".join(CELLS) + "\nA,5,0,1\nB,1,9,2\n").encode())
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CorruptFileError, match=r"t\.csv\.gz"):
        read_hashtag_counts(path, ["A", "B"])


def test_antibodies_among_genes_and_a_counting_tools_folder(mex_writer, tmp_path):
    counts = np.array([[5, 0, 1], [1, 2, 3], [0, 7, 0]])
    rows = ["ENSG1\tMYOD1\tGene Expression", "A\tA\tAntibody Capture", "B\tB\tAntibody Capture"]
    mex_writer(tmp_path / "mex", counts, CELLS, rows)
    read = read_hashtag_counts(tmp_path / "mex", ["A", "B"])
    assert list(read.features["name"]) == ["A", "B"] and read.counts.toarray().T.tolist() == counts[1:].tolist()
    mex_writer(tmp_path / "tool" / "umi_count", counts, CELLS, ["A-ACGTACGTACGTACG", "B-GGGTACGTACGTACG", "unmapped"])
    read = read_hashtag_counts(tmp_path / "tool", ["A", "B"])
    assert list(read.features["name"])[2] == "unmapped" and is_hashtag_table(tmp_path / "tool")
    with pytest.raises(MissingFileError, match="matrix.mtx"):
        read_hashtag_counts(tmp_path, ["A"])
    with pytest.raises(MissingFileError, match="no such hashtag table"):
        read_hashtag_counts(tmp_path / "none.csv", ["A"])


@pytest.mark.parametrize("kind", ["alone", "among genes", "obsm"])
def test_h5ad_files(kind, tmp_path):
    counts = np.array([[5, 0], [1, 2], [0, 7]])
    path = tmp_path / "x.h5ad"
    obs = pd.DataFrame(index=CELLS)
    if kind == "alone":
        AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=["A", "B"])).write_h5ad(path)
    elif kind == "among genes":
        types = pd.DataFrame({"feature_types": ["Gene Expression", *["Antibody Capture"] * 2]}, index=["G", "A", "B"])
        AnnData(sp.csr_matrix(np.c_[[9, 9, 9], counts]), obs=obs, var=types).write_h5ad(path)
    else:
        cells = AnnData(sp.csr_matrix(np.ones((3, 1))), obs=obs, var=pd.DataFrame(index=["G"]))
        cells.obsm["hashtag_counts"] = pd.DataFrame(counts, index=CELLS, columns=["A", "B"])
        cells.write_h5ad(path)
    read = read_hashtag_counts(path, ["A", "B"])
    assert read.barcodes == CELLS and list(read.features["name"]) == ["A", "B"]
    assert read.counts.toarray().tolist() == counts.tolist()


def matrix_of(names, values=None):
    values = np.ones((1, len(names)), np.int32) if values is None else values
    return CountMatrix(sp.csr_matrix(values), CELLS[: len(values)], pd.DataFrame({"id": names, "name": names}))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("H1", "H1"),
        ("GTCAACTCTTTAGCG", "H1"),
        ("H1-GTCAACTCTTTAGCG", "H1"),
        ("anything_TGATGGCCTATTGGG", "H2"),
        ("h-2", "H2"),
        ("H 2", "H2"),
        ("CD3-AACAAGACCCTTGAG", "CD3-AACAAGACCCTTGAG"),
        ("H9", "H9"),
    ],
)
def test_names_are_matched_to_the_design(label, name):
    found, record = name_tags(matrix_of([label]), hashtags(n=2))
    assert list(found.features["name"]) == [name] and list(found.features["id"]) == [label]
    assert record == ({} if label == name else {"renamed_tags": {label: name}})


def test_a_tag_without_barcode_goes_by_its_name():
    bare = [hashtags(n=1)[0].model_copy(update={"barcode": ""})]
    assert list(name_tags(matrix_of(["H1-ACGTACGTACGTACG"]), bare)[0].features["name"]) == ["H1"]
    assert split_name("x-ACGT") == ("x-ACGT", "")


def test_rows_that_are_no_tags_are_left_out_and_counted():
    values = np.array([[1, 70, 2], [3, 80, 4]], np.int32)
    found, record = name_tags(matrix_of(["H1", "unmapped", "H2"], values), hashtags(n=2))
    assert found.counts.toarray().tolist() == [[1, 2], [3, 4]]
    assert record == {"rows_that_are_no_tags": {"unmapped": 150}}
    named = [hashtags(n=1)[0].model_copy(update={"tag": "unmapped"})]
    assert list(name_tags(matrix_of(["unmapped"]), named)[0].features["name"]) == ["unmapped"]


def test_names_that_contradict_the_design():
    with pytest.raises(InvalidDataError, match="'H1' and 'x-GTCAACTCTTTAGCG' are both tag 'H1'"):
        name_tags(matrix_of(["H1", "x-GTCAACTCTTTAGCG"]), hashtags(n=2))
    with pytest.raises(DesignError, match="'H1' the barcode GTCAACTCTTTAGCG, the counts call it 'H1-AAAAAAAAAAAAAAA'"):
        name_tags(matrix_of(["H1-AAAAAAAAAAAAAAA"]), hashtags(n=2))


def test_tags_on_one_side_only(small_design):
    tags = ["A", "B"]
    both = matrix_of(["B", "A", "C"], np.array([[1, 2, 3]], np.int32))
    with pytest.raises(DesignError, match="does not name tag 'C'"):
        match_tags(both, tags, "p1", small_design, IngestParams())
    dropped = match_tags(both, tags, "p1", small_design, IngestParams(unlisted_tags="drop"))
    assert dropped.counts.toarray().tolist() == [[2, 1]] and list(dropped.features["name"]) == tags
    kept = match_tags(both, tags, "p1", small_design, IngestParams(unlisted_tags="keep"))
    assert kept.counts.toarray().tolist() == [[2, 1, 3]]
    with pytest.raises(DesignError, match="names tag 'B', which the counts lack"):
        match_tags(matrix_of(["A"]), tags, "p1", small_design, IngestParams())
    filled = match_tags(matrix_of(["A"]), tags, "p1", small_design, IngestParams(absent_tags="zero"))
    assert filled.counts.toarray().tolist() == [[1, 0]]
    silent = matrix_of(["A", "B"], np.array([[3, 0]], np.int32))
    with pytest.raises(DesignError, match="names tag 'B', of which no cell has a count"):
        match_tags(silent, tags, "p1", small_design, IngestParams())
    filled = match_tags(silent, tags, "p1", small_design, IngestParams(absent_tags="zero"))
    assert filled.counts.toarray().tolist() == [[3, 0]]
    many = matrix_of([f"G{i}" for i in range(900)])
    with pytest.raises(DesignError, match="'G4' and 895 more"):
        match_tags(many, tags, "p1", small_design, IngestParams())


@pytest.mark.parametrize("kind", ["table", "reads"])
def test_the_hashtags_of_a_pool_over_its_cells(kind, small_design, tmp_path):
    rng = np.random.default_rng(0)
    tags = small_design.pool_hashtags("p1")
    whitelist = barcodes(rng, 4)
    if kind == "reads":
        path = tmp_path / "r.fastq.gz"
        reads = [molecule(cell, random_bases(rng, 12), tag, rng) for cell in whitelist[:3] for tag in [*tags, tags[1]]]
        write_fastq(path, reads)
    else:
        path = tmp_path / "t.csv"
        lines = ["unmapped,9,9,9", "A-GTCAACTCTTTAGCG,1,1,1", "B-TGATGGCCTATTGGG,2,2,2"]
        path.write_text("\n".join([",".join(["", *(f"{cell}-1" for cell in whitelist[:3])]), *lines]) + "\n")
    cells = [whitelist[3], whitelist[1], whitelist[0]]
    found, record = read_pool_hashtags("p1", path, cells, whitelist, small_design, IngestParams())
    assert found.counts.toarray().tolist() == [[0, 0], [1, 2], [1, 2]] and found.barcodes == cells
    assert list(found.features["name"]) == ["A", "B"]
    if kind == "reads":
        assert record["hashtag_reads"]["used"] == 9
    else:
        assert record["rows_that_are_no_tags"] == {"unmapped": 27} and record["cells_without_hashtags"] == 1
    with pytest.raises(InvalidDataError, match="(knows 0 of the 5 cells|of different runs|none of its)"):
        foreign = barcodes(rng, 5)
        read_pool_hashtags("p1", path, foreign, foreign, small_design, IngestParams())


def test_a_tag_that_no_read_holds(small_design, tmp_path):
    rng = np.random.default_rng(0)
    first, _ = small_design.pool_hashtags("p1")
    write_fastq(tmp_path / "r.fq", [molecule(CELLS[0], random_bases(rng, 12), first, rng) for _ in range(5)])
    arguments = ("p1", tmp_path / "r.fq", CELLS, CELLS, small_design)
    with pytest.raises(DesignError, match="names tag 'B', whose barcode the reads of .* lack"):
        read_pool_hashtags(*arguments, IngestParams())
    found, _ = read_pool_hashtags(*arguments, IngestParams(absent_tags="zero"))
    assert found.counts.toarray().tolist() == [[5, 0], [0, 0], [0, 0]]
