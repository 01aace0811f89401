"""Hashtag counts from tables and from reads."""

from __future__ import annotations

import gzip
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.design import default_design
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_seq.hashtags.counts import read_hashtag_counts
from hyped_seq.hashtags.match import (
    ADAPTER,
    BarcodeIndex,
    TagFinder,
    collapse_umis,
    find_adapter,
    reverse_complement,
)
from hyped_seq.hashtags.reads import count_hashtag_reads
from hyped_seq.readers.wf_single_cell import read_whitelist

TAGS = {"A": "GTCAACTCTTTAGCG", "B": "TGATGGCCTATTGGG"}
CELLS = ["AAACCCAAGAAACACT", "GGGTTTCCATTTGGCA", "TTTGGGACATCGCATC"]
bases = st.text(alphabet="ACGT", min_size=1, max_size=40)


@given(bases)
def test_reverse_complement_twice_is_the_sequence(sequence):
    assert reverse_complement(reverse_complement(sequence)) == sequence


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("tags_in_rows", [True, False])
def test_tables_either_way_round(separator, tags_in_rows, tmp_path):
    rows = [["", *CELLS[:2]], ["A", "5", "0"], ["B", "1", "9"]]
    if not tags_in_rows:
        rows = [list(column) for column in zip(*rows)]
    path = tmp_path / ("t.csv" if separator == "," else "t.tsv")
    path.write_text("\n".join(separator.join(row) for row in rows) + "\n")
    read = read_hashtag_counts(path, ["A", "B"])
    assert read.barcodes == CELLS[:2] and list(read.features["name"]) == ["A", "B"]
    assert read.counts.toarray().tolist() == [[5, 1], [0, 9]]


def test_rows_that_are_no_tags_are_left_out(tmp_path):
    (tmp_path / "t.csv").write_text(f",{CELLS[0]},{CELLS[1]}\nA,5,0\nunmapped,70,80\nB,1,9\n")
    assert list(read_hashtag_counts(tmp_path / "t.csv", ["A"]).features["name"]) == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (",c1,c2\nA,5,x\nB,1,2\n", CorruptFileError, "'x'"),
        (",c1,c2\nA,5,-3\nB,1,2\n", InvalidDataError, "negative"),
        (",c1,c2\nA,5,0.5\nB,1,2\n", InvalidDataError, "whole"),
        (",c1,c1\nA,5,1\nB,1,2\n", InvalidDataError, "'c1'"),
        (",c1,c2\nA,5,1\nA,1,2\n", InvalidDataError, "'A'"),
        ("", CorruptFileError, "t.csv"),
        ("only\n", CorruptFileError, "table"),
    ],
)
def test_tables_that_are_none(text, error, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(error, match=message):
        read_hashtag_counts(tmp_path / "t.csv", ["A", "B"])


def read_of(cell: str, umi: str, tag: str) -> str:
    return (
        "GA"
        + ADAPTER
        + cell
        + umi
        + "TTGCTAGGACCGGCCTTAAAGC"
        + "ACGTACGTA"
        + reverse_complement(tag)
        + "CATCATCATC"
    )


def write_fastq(path, sequences):
    with gzip.open(path, "wt") as handle:
        for i, sequence in enumerate(sequences):
            handle.write(f"@r{i}\n{sequence}\n+\n{'I' * len(sequence)}\n")


def test_reads_on_both_strands_count_once_a_molecule(tmp_path):
    first = read_of(CELLS[0], "ACACACACACAC", TAGS["A"])
    other = read_of(CELLS[2], "GTGTGTGTGTGT", TAGS["B"])
    write_fastq(tmp_path / "r.fastq.gz", [first, reverse_complement(first), other, "ACGT" * 20])
    counts, report = count_hashtag_reads(tmp_path / "r.fastq.gz", CELLS, TAGS)
    assert counts.counts.toarray().tolist() == [[1, 0], [0, 0], [0, 1]]
    assert report.record() == {
        "reads": 4,
        "no_adapter": 1,
        "no_barcode": 0,
        "too_short": 0,
        "no_tag": 0,
        "used": 3,
        "molecules": 2,
    }


@settings(max_examples=60, deadline=None)
@given(
    position=st.integers(0, 15),
    kind=st.sampled_from(["substitute", "insert", "delete"]),
    base=st.sampled_from("ACGT"),
    cell=st.sampled_from(CELLS),
)
def test_one_error_in_the_cell_barcode_is_corrected(position, kind, base, cell):
    broken = {
        "substitute": cell[:position] + base + cell[position + 1 :],
        "insert": cell[:position] + base + cell[position:],
        "delete": cell[:position] + cell[position + 1 :],
    }[kind]
    umi = "ACACACACACAC"
    found = BarcodeIndex(CELLS, 2).locate(broken + umi + "GGGG", 0)
    assert found is not None and CELLS[found[0]] == cell
    assert abs(found[1] - len(broken)) <= 2


def test_a_barcode_equally_close_to_two_is_not_guessed():
    index = BarcodeIndex(["AAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAACC"], 2)
    assert index.correct("AAAAAAAAAAAAAAAC") is None
    assert index.correct("CAAAAAAAAAAAAAAA") == 0


@settings(max_examples=60, deadline=None)
@given(
    tag=st.sampled_from(list(TAGS)),
    position=st.integers(0, 14),
    base=st.sampled_from("ACGT"),
    prefix=bases,
    forward=st.booleans(),
)
def test_a_tag_with_one_error_is_found(tag, position, base, prefix, forward):
    barcode = TAGS[tag][:position] + base + TAGS[tag][position + 1 :]
    rest = prefix + (barcode if forward else reverse_complement(barcode)) + "GATTACA"
    assert TagFinder(TAGS, 2).find(rest) == list(TAGS).index(tag)


def test_adapter_with_errors():
    broken = ADAPTER[:5] + "G" + ADAPTER[6:]
    assert find_adapter("TT" + broken + CELLS[0]) == (False, 2 + len(ADAPTER))
    assert find_adapter("ACGT" * 15) is None


def test_umis():
    assert collapse_umis(Counter({"AAAAAAAAAAAA": 5, "AAAAAAAAAAAC": 1, "CCCCCCCCCCCC": 1}), 1) == 2
    assert collapse_umis(Counter({"AAAAAAAAAAAA": 5, "AAAAAAAAAAAC": 1}), 0) == 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(alphabet="AC", min_size=4, max_size=4), min_size=1, max_size=40), st.randoms())
def test_molecules_do_not_depend_on_the_order_of_reads(umis, random):
    shuffled = list(umis)
    random.shuffle(shuffled)
    assert collapse_umis(Counter(umis), 1) == collapse_umis(Counter(shuffled), 1) <= len(set(umis))


def test_simulated_reads_agree_with_the_counts(seq_world):
    for pool in ("perturbed", "control"):
        folder = seq_world.raw / pool
        whitelist = read_whitelist(folder / f"{pool}.whitelist.tsv")
        tags = {tag.tag: tag.barcode for tag in default_design().pool_hashtags(pool)}
        counted, report = count_hashtag_reads(folder / "hashtags" / "reads.fastq.gz", whitelist, tags)
        table = read_hashtag_counts(folder / "hashtags" / "counts.csv", list(tags))
        given_counts = table.counts[[table.barcodes.index(b) for b in whitelist]].toarray()
        found = counted.counts.toarray()
        assert np.corrcoef(given_counts.ravel(), found.ravel())[0, 1] > 0.99
        assert 0.9 < found.sum() / given_counts.sum() < 1.03
        assert report.used > 0.8 * report.reads
        top = given_counts.max(axis=1) > 3 * np.sort(given_counts, axis=1)[:, -2] + 5
        assert (found.argmax(1) == given_counts.argmax(1))[top].mean() > 0.995


def test_reads_of_another_run(tmp_path):
    write_fastq(tmp_path / "r.fastq.gz", [read_of(CELLS[0], "ACACACACACAC", TAGS["A"])])
    with pytest.raises(InvalidDataError, match="none of its 1 reads"):
        count_hashtag_reads(tmp_path / "r.fastq.gz", ["CCCCCCCCCCCCCCCC"], TAGS)


def test_broken_fastq(tmp_path):
    path = tmp_path / "r.fastq.gz"
    write_fastq(
        path,
        [read_of(CELLS[0], f"{i:012b}".replace("0", "A").replace("1", "C"), TAGS["A"]) for i in range(400)],
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError, match="cut short"):
        count_hashtag_reads(path, CELLS, TAGS)
    with gzip.open(path, "wt") as handle:
        handle.write("@r0\nACGT\n+\nIIII\n@r1\nACGT\n+\nII\n")
    with pytest.raises(CorruptFileError, match="line 5"):
        count_hashtag_reads(path, CELLS, TAGS)
    with pytest.raises(MissingFileError):
        count_hashtag_reads(tmp_path / "none.fastq", CELLS, TAGS)
