"""Counting hashtags from reads: every read against the plain rules, and counts against what was simulated."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hashtag_oracle import (
    READ1N,
    back,
    barcodes,
    hashtags,
    library,
    molecule,
    nearest_barcode,
    noisy,
    random_bases,
    take_apart,
    write_fastq,
)

from hyped_core.design import default_design
from hyped_core.errors import CorruptFileError, DesignError, InvalidDataError, MissingFileError
from hyped_seq.hashtags.alignment import encode, reverse_complement
from hyped_seq.hashtags.counts import read_hashtag_counts
from hyped_seq.hashtags.dissect import OUTCOMES, anatomy, dissect
from hyped_seq.hashtags.fastq import read_blocks
from hyped_seq.hashtags.params import ReadParams
from hyped_seq.hashtags.reads import count_hashtag_reads
from hyped_seq.hashtags.translation import translate_v3
from hyped_seq.hashtags.whitelist import find_barcode, index_barcodes, pack_barcodes, unpack
from hyped_seq.readers.wf_single_cell import read_whitelist

TAG_BITS = 4
LOSSES = OUTCOMES[1:]


def indexed(whitelist):
    packed, length = pack_barcodes(whitelist, "test")
    return index_barcodes(packed, length, "test")


def taken_apart(path, whitelist, tags, **params):
    """(outcome, (cell, tag, UMI)) of every read of a file, as the compiled code finds them."""
    values = ReadParams(**params)
    parts, index = anatomy(tags, values, values.tag_distance), indexed(whitelist)
    found = []
    for block in read_blocks(path, 5000):
        result = dissect(block, parts, index, TAG_BITS)
        for outcome, key in zip(result.outcomes.tolist(), result.keys.tolist(), strict=True):
            umi = unpack(key & (1 << 24) - 1, 12)
            what = (key >> 24 + TAG_BITS, key >> 24 & (1 << TAG_BITS) - 1, umi) if outcome == 0 else None
            found.append((OUTCOMES[outcome], what))
    return found


@pytest.mark.parametrize(
    ("chemistry", "rate"),
    [("TotalSeq-B", 0.04), ("TotalSeq-B", 0.1), ("TotalSeq-A", 0.04), ("TotalSeq-C", 0.1)],
)
def test_every_read_is_taken_apart_as_the_plain_rules_say(chemistry, rate, tmp_path):
    made = library(2500, 80, seed=4, chemistry=chemistry, rate=rate)
    write_fastq(tmp_path / "r.fastq", made.reads)
    found = taken_apart(tmp_path / "r.fastq", made.whitelist, made.hashtags)
    expected = [take_apart(read, made.whitelist, made.hashtags) for read in made.reads]
    assert found == expected
    assert len({outcome for outcome, _ in found}) >= 4


@pytest.mark.parametrize(("chemistry", "rate", "least"), [("TotalSeq-B", 0.038, 0.95), ("TotalSeq-A", 0.1, 0.72)])
def test_reads_are_found_and_not_mistaken(chemistry, rate, least, tmp_path):
    made = library(6000, 2000, seed=1, chemistry=chemistry, rate=rate)
    write_fastq(tmp_path / "r.fastq", made.reads)
    found = taken_apart(tmp_path / "r.fastq", made.whitelist, made.hashtags)
    real = made.cells >= 0
    used = np.array([what is not None for _, what in found])
    wrong = [what[:2] != (c, t) for (_, what), c, t in zip(found, made.cells, made.tags) if what is not None and c >= 0]
    assert used[real].mean() > least * 0.97
    assert used[~real].mean() < 0.01
    assert np.mean(wrong) < 0.003


dense = st.lists(st.text("AC", min_size=9, max_size=9), min_size=1, max_size=40, unique=True)


@settings(max_examples=150, deadline=None)
@given(dense, st.text("ACN", min_size=0, max_size=20), st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True))
@pytest.mark.parametrize("distance", [0, 1, 2, 3])
def test_the_unique_nearest_barcode(distance, whitelist, text, starts):
    index, starts = indexed(whitelist), sorted(starts)
    place, end, edits = find_barcode(
        index, encode(text), np.array(starts), len(starts), distance, np.empty(128, np.uint64), np.empty(5, np.uint64)
    )
    cell, expected_end, expected_edits = nearest_barcode(text, starts, whitelist, distance)
    assert (int(index.rows[place]) if place >= 0 else place) == cell
    if cell >= 0:
        assert (end, edits) == (expected_end, expected_edits)


def test_a_long_list_corrects_as_a_scan_of_it_does():
    rng = np.random.default_rng(2)
    packed = np.unique(rng.integers(0, 4**16, 300_000, dtype=np.uint64))
    index = index_barcodes(packed, 16, "test")
    keys, masks = np.empty(128, np.uint64), np.empty(5, np.uint64)
    same = 0
    for true in rng.integers(0, len(packed), 25):
        observed = noisy(unpack(packed[true], 16) + random_bases(rng, 12), 0.08, rng)
        place, _, edits = find_barcode(index, encode(observed), np.array([0]), 1, 1, keys, masks)
        within = {
            code
            for at in range(16)
            for base in "ACGT"
            for code in (
                observed[:at] + base + observed[at + 1 : 16],
                observed[:at] + base + observed[at:15],
                observed[:at] + observed[at + 1 : 17],
            )
        }
        candidates, length = pack_barcodes(sorted(within), "test")
        hits = np.intersect1d(candidates, packed)
        exact = pack_barcodes([observed[:16]], "test")[0][0]
        expected = exact if exact in hits else hits[0] if len(hits) == 1 else None
        assert (index.codes[place] if place >= 0 else None) == expected
        same += place == true
    assert same >= 15


def test_counts_agree_with_the_simulator(seq_world):
    for pool in ("perturbed", "control"):
        folder = seq_world.raw / pool
        whitelist = read_whitelist(folder / f"{pool}.whitelist.tsv")
        tags = default_design().pool_hashtags(pool)
        counted, report = count_hashtag_reads(folder / "hashtags" / "reads.fastq.gz", whitelist, tags)
        table = read_hashtag_counts(folder / "hashtags" / "counts.csv", [tag.tag for tag in tags])
        truth = table.counts[[table.barcodes.index(b) for b in whitelist]].toarray()
        found = counted.counts.toarray()
        assert np.corrcoef(truth.ravel(), found.ravel())[0, 1] > 0.997
        assert 0.97 < found.sum() / truth.sum() < 1.03
        cells = truth.sum(axis=1)
        assert np.median(np.abs(found.sum(axis=1) - cells) / np.maximum(cells, 1)) < 0.05
        assert report.used > 0.94 * report.reads and report.barcode_translation == "none"
        top = truth.max(axis=1) > 3 * np.sort(truth, axis=1)[:, -2] + 5
        assert (found.argmax(1) == truth.argmax(1))[top].mean() > 0.995


def test_a_known_library_gives_its_counts_and_its_losses(tmp_path):
    rng = np.random.default_rng(0)
    tags, cells = hashtags(n=2), barcodes(rng, 3)
    first = molecule(cells[0], "ACACACACACAC", tags[0], rng)
    reads = [
        first,
        back(first),
        molecule(cells[0], "ACACACACACAT", tags[0], rng),
        molecule(cells[2], "GTGTGTGTGTGT", tags[1], rng, READ1N),
        molecule(cells[1], "ANACACACACAC", tags[1], rng),
        molecule(back(cells[1]), "ACACACACACAC", tags[1], rng),
        first[:45],
        first[:70],
        first + back(first),
        "ACGT" * 20,
        "",
        "A" * 100_000 + first,
    ]
    write_fastq(tmp_path / "r.fastq.gz", reads)
    counts, report = count_hashtag_reads(tmp_path / "r.fastq.gz", cells, tags)
    assert counts.counts.toarray().tolist() == [[1, 0], [0, 0], [0, 1]]
    assert counts.barcodes == cells and list(counts.features["name"]) == ["H1", "H2"]
    record = report.record()
    assert {name: record[name] for name in LOSSES} == {
        "no_adapter": 2,
        "both_strands": 1,
        "no_barcode": 1,
        "ambiguous_barcode": 0,
        "too_short": 1,
        "n_in_umi": 1,
        "no_tag": 1,
        "ambiguous_tag": 0,
    }
    assert record["reads"] == 12 == record["used"] + sum(record[name] for name in LOSSES)
    assert (record["used"], record["umis"], record["molecules"]) == (5, 3, 2)
    assert record["forward"] + record["backward"] == 9 and record["backward"] == 1
    assert record["saturation"] == 0.6 and record["exact_barcodes"] == record["exact_tags"] == 5


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_and_files_change_nothing(threads, tmp_path):
    made = library(600, 40, seed=8)
    write_fastq(tmp_path / "all.fastq.gz", made.reads)
    parted = tmp_path / "parts"
    parted.mkdir()
    write_fastq(parted / "b.fq", made.reads[:200])
    write_fastq(parted / "a.fastq.gz", made.reads[200:])
    one, report = count_hashtag_reads(tmp_path / "all.fastq.gz", made.whitelist, made.hashtags)
    params = ReadParams(threads=threads)
    for path in (tmp_path / "all.fastq.gz", parted):
        other, other_report = count_hashtag_reads(path, made.whitelist, made.hashtags, params)
        assert (one.counts != other.counts).nnz == 0 and report == other_report


def test_the_other_barcode_of_a_bead_is_recognised(tmp_path):
    made = library(400, 50, seed=3, adapter=READ1N)
    packed, length = pack_barcodes(["AAACCCAAGAAACACT", *made.whitelist], "test")
    published, *whitelist = [unpack(code, length) for code in translate_v3(packed, length)]
    assert published == "AAACCCATCAAACACT"
    write_fastq(tmp_path / "r.fastq", made.reads)
    as_is, _ = count_hashtag_reads(tmp_path / "r.fastq", made.whitelist, made.hashtags)
    for value in ("auto", "v3"):
        params = ReadParams(barcode_translation=value)
        counts, report = count_hashtag_reads(tmp_path / "r.fastq", whitelist, made.hashtags, params)
        assert (counts.counts != as_is.counts).nnz == 0 and counts.barcodes == whitelist
        assert report.barcode_translation == "v3"
    assert ReadParams().barcode_translation == "auto"
    with pytest.raises(InvalidDataError, match="different runs"):
        count_hashtag_reads(tmp_path / "r.fastq", whitelist, made.hashtags, ReadParams(barcode_translation="none"))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_list_of_barcode_pairs(swapped, tmp_path):
    rng = np.random.default_rng(5)
    made = library(300, 30, seed=3)
    whitelist = barcodes(rng, 30)
    pairs = list(zip(made.whitelist, whitelist) if swapped else zip(whitelist, made.whitelist))
    pairs += list(zip(barcodes(rng, 5), barcodes(rng, 5)))
    (tmp_path / "list.txt.gz").write_bytes(gzip.compress("".join(f"{a}\t{b}\n" for a, b in pairs).encode()))
    write_fastq(tmp_path / "r.fastq", made.reads)
    as_is, _ = count_hashtag_reads(tmp_path / "r.fastq", made.whitelist, made.hashtags)
    params = ReadParams(barcode_translation=str(tmp_path / "list.txt.gz"))
    counts, report = count_hashtag_reads(tmp_path / "r.fastq", whitelist, made.hashtags, params)
    assert (counts.counts != as_is.counts).nnz == 0 and report.barcode_translation.endswith("list.txt.gz")
    with pytest.raises(InvalidDataError, match="lacks 1 of"):
        count_hashtag_reads(tmp_path / "r.fastq", [*whitelist[:-1], "A" * 16], made.hashtags, params)
    (tmp_path / "list.txt").write_text("AAA CCC\nAAA\n")
    with pytest.raises(CorruptFileError, match="line 2 has 1 columns"):
        count_hashtag_reads(
            tmp_path / "r.fastq",
            whitelist,
            made.hashtags,
            ReadParams(barcode_translation=str(tmp_path / "list.txt")),
        )


def test_a_whitelist_of_another_run(tmp_path):
    made = library(400, 50, seed=3)
    write_fastq(tmp_path / "r.fastq", made.reads)
    foreign = barcodes(np.random.default_rng(99), 50)
    said = rf"(?s)r\.fastq.*barcode of w\.tsv \({foreign[0]}.*different runs.*this pool's reads"
    with pytest.raises(InvalidDataError, match=said):
        count_hashtag_reads(tmp_path / "r.fastq", foreign, made.hashtags, whitelist_name="w.tsv")
    write_fastq(tmp_path / "few.fastq", made.reads[:5])
    with pytest.raises(InvalidDataError, match="none of its 5 reads"):
        count_hashtag_reads(tmp_path / "few.fastq", foreign, made.hashtags)
    (tmp_path / "empty.fastq").write_text("")
    with pytest.raises(InvalidDataError, match="none of its 0 reads"):
        count_hashtag_reads(tmp_path / "empty.fastq", foreign, made.hashtags)
    with pytest.raises(MissingFileError, match="no such file"):
        count_hashtag_reads(tmp_path / "none.fastq", foreign, made.hashtags)


def test_reads_of_illumina_are_refused(tmp_path):
    made = library(400, 50, seed=3)
    write_fastq(tmp_path / "r_R1.fastq", [read[:28] for read in made.reads])
    with pytest.raises(InvalidDataError, match=r"(?s)r_R1.fastq: holds reads of Illumina.*CITE-seq-Count"):
        count_hashtag_reads(tmp_path / "r_R1.fastq", made.whitelist, made.hashtags)


CELL = "ACGTACGTACGTACGT"


@pytest.mark.parametrize(
    ("whitelist", "message"),
    [
        ([], "no cell barcodes"),
        ([CELL, CELL[::-1], CELL], f"1 cell barcode.* first '{CELL}'"),
        ([CELL, CELL + "-1"], f"of 16 and of 18 bases .'{CELL}-1'"),
        ([CELL, "ACGTACGTACGTACGN"], "not a sequence .'ACGTACGTACGTACGN'"),
        (["ACGTACGTACGTACÉ2"], "not a sequence"),
        (["ACGT"], "4 bases"),
    ],
)
def test_whitelists_that_are_none(whitelist, message, tmp_path):
    write_fastq(tmp_path / "r.fastq", ["ACGT"])
    with pytest.raises(InvalidDataError, match=message):
        count_hashtag_reads(tmp_path / "r.fastq", whitelist, hashtags())


def test_short_barcodes_are_not_translated(tmp_path):
    rng = np.random.default_rng(3)
    cells, tags = barcodes(rng, 5, length=8), hashtags()
    write_fastq(tmp_path / "r.fastq", [molecule(cell, random_bases(rng, 12), tags[0], rng) for cell in cells])
    _, report = count_hashtag_reads(tmp_path / "r.fastq", cells, tags)
    assert report.used == 5 and report.barcode_translation == "none"
    with pytest.raises(InvalidDataError, match="v3 needs cell barcodes of 9 bases"):
        count_hashtag_reads(tmp_path / "r.fastq", cells, tags, ReadParams(barcode_translation="v3"))


def test_tags_that_cannot_be_told_apart(tmp_path):
    write_fastq(tmp_path / "r.fastq", ["ACGT"])
    tags = hashtags()
    for other, message in (
        (tags[0].model_copy(update={"tag": "Z"}), "'H1' and 'Z' have one name or one barcode"),
        (tags[1].model_copy(update={"tag": "H1"}), "'H1' and 'H1'"),
        (tags[0].model_copy(update={"tag": "Z", "barcode": ""}), "'Z' has no barcode"),
    ):
        with pytest.raises(DesignError, match=message):
            count_hashtag_reads(tmp_path / "r.fastq", [CELL], [tags[0], other])
    with pytest.raises(InvalidDataError, match="4 bases"):
        count_hashtag_reads(tmp_path / "r.fastq", [CELL], [tags[0].model_copy(update={"barcode": "ACGT"})])
    with pytest.raises(DesignError, match="no hashtags"):
        count_hashtag_reads(tmp_path / "r.fastq", [CELL], [])


def test_near_tags_lower_the_distance(tmp_path):
    rng = np.random.default_rng(1)
    tags = hashtags(n=2)
    near = tags[0].model_copy(update={"tag": "near", "barcode": "GTCAACTCTTTAGTA"})
    read = molecule(CELL, random_bases(rng, 12), near, rng)
    two_off = read.replace(reverse_complement(near.barcode), reverse_complement("GACAACTCATTAGTA"))
    write_fastq(tmp_path / "r.fastq", [read, two_off])
    counts, report = count_hashtag_reads(tmp_path / "r.fastq", [CELL], [tags[0], near])
    assert report.tag_distance == 1 and report.no_tag == 1 and counts.counts.toarray().tolist() == [[0, 1]]
    alone, report = count_hashtag_reads(tmp_path / "r.fastq", [CELL], [tags[1], near])
    assert report.tag_distance == 3 and report.used == 2 and alone.counts.toarray().tolist() == [[0, 1]]


def test_a_tag_elsewhere_and_on_the_other_strand(tmp_path):
    rng = np.random.default_rng(1)
    tag, other = hashtags(n=2)
    far = "CTACACGACGCTCTTCCGATCT" + CELL + random_bases(rng, 12) + "GA" * 40 + tag.barcode + "GA" * 5
    write_fastq(tmp_path / "r.fastq", [far, far.replace(tag.barcode, noisy(tag.barcode[:7] + tag.barcode[9:], 0, rng))])
    counts, report = count_hashtag_reads(tmp_path / "r.fastq", [CELL], [tag, other])
    assert counts.counts.toarray().tolist() == [[1, 0]] and report.no_tag == 1
    unplaced = [item.model_copy(update={"chemistry": "other"}) for item in (tag, other)]
    counts, report = count_hashtag_reads(tmp_path / "r.fastq", [CELL], unplaced)
    assert report.used == 2 and report.molecules == 1
