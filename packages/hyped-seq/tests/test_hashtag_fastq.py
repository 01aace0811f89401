"""FASTQ in every shape it comes in, and broken ones."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.errors import CorruptFileError, HypedError, MissingFileError
from hyped_seq.hashtags.fastq import read_blocks
from hyped_seq.hashtags.files import is_fastq, is_illumina_pair


def sequences(path, block_bytes=1 << 22):
    """All reads of a file, N for what is no base."""
    letters = np.frombuffer(b"ACGTN", np.uint8)
    return [
        letters[block.codes[begin:end]].tobytes().decode()
        for block in read_blocks(path, block_bytes)
        for begin, end in zip(block.offsets[:-1], block.offsets[1:])
    ]


def wrapped(text, width):
    """Lines of ``width``; one empty line for nothing."""
    return [text[at : at + width] for at in range(0, len(text), width)] or [""]


records = st.lists(
    st.tuples(
        st.text("@+ r1/|", max_size=12),
        st.text("ACGTacgtNnRYu.", max_size=60),
        st.sampled_from([1000, 1, 7, 30]),
        st.sampled_from("I@+!"),
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(records, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans(), st.integers(1, 200))
def test_reads_come_back_however_they_are_laid_out(tmp_path_factory, reads, end, closed, packed, block):
    path = tmp_path_factory.mktemp("fastq") / "r.fastq.gz"
    lines, expected = [], []
    for name, sequence, width, quality in reads:
        lines += ["@" + name, *wrapped(sequence, width), "+" + name, *wrapped(quality * len(sequence), width)]
        bases = sequence.upper().replace("U", "T")
        expected.append("".join(base if base in "ACGT" else "N" for base in bases))
    text = end.join(lines) + (end if closed else "")
    data = text.encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    assert sequences(path, block) == expected


def test_blank_lines_between_records_and_a_read_of_a_megabase(tmp_path):
    (tmp_path / "r.fq").write_text(
        "\n@a\nACGT\n+\nIIII\n\n\r\n@b\n" + "AC" * 500_000 + "\n+\n" + "I" * 1_000_000 + "\n\n"
    )
    assert sequences(tmp_path / "r.fq", 1000) == ["ACGT", "AC" * 500_000]


def test_gz_files_put_behind_one_another(tmp_path):
    parts = [f"@{i}\n{'ACGT' * i}\n+\n{'IIII' * i}\n" for i in range(1, 5)]
    (tmp_path / "r.fq").write_bytes(b"".join(gzip.compress(part.encode()) for part in parts))
    assert sequences(tmp_path / "r.fq", 30) == ["ACGT" * i for i in range(1, 5)]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("@a\nACGT\n+\nIIII\n@b\nACGT\n+\nIII\n", 5, "complete"),
        ("@a\nACGT\n+\nIII\n@b\nACGT\n+\nIIII\n", 1, "quality"),
        ("@a\nACGT\n+\nIIIII\n", 1, "quality"),
        ("@a\nAC\nGT\n+\nII\nII\nACGT\n", 7, "begin with @"),
        (">a\nACGT\n", 1, "begin with @"),
        ("@a\nAC7T\n+\nIIII\n", 1, "no base"),
        ("@a\nACGT\nIIII\n@b\n", 1, "no base"),
        ("@a\nACGT\n", 1, "complete"),
        ("@a\nACGT\n+\n", 1, "complete"),
        ("@a", 1, "complete"),
        ("\x00\x01\x02\xff", 1, "begin with @"),
    ],
)
def test_a_broken_record_is_named_with_its_line(text, line, message, tmp_path):
    (tmp_path / "r.fastq").write_text(text)
    for block in (4, 1 << 20):
        with pytest.raises(CorruptFileError, match=rf"(?s)r\.fastq.*line {line} is not FASTQ.*{message}"):
            sequences(tmp_path / "r.fastq", block)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_gz_cut_short_anywhere(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / "r.fastq.gz"
    rng = np.random.default_rng(0)
    text = "".join(f"@r{i}\n{''.join(rng.choice(list('ACGT'), 40))}\n+\n{'I' * 40}\n" for i in range(30))
    whole = gzip.compress(text.encode())
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole) - 1))])
    with pytest.raises(CorruptFileError, match=r"r\.fastq\.gz"):
        sequences(path)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"", b"@a\nACGT\n+\nIIII\n"]))
def test_bytes_that_are_no_fastq_raise_nothing_but_typed_errors(tmp_path_factory, junk, before):
    path = tmp_path_factory.mktemp("junk") / "r.fastq"
    path.write_bytes(before + junk)
    try:
        found = sequences(path)
    except HypedError:
        return
    assert found[: bool(before)] == ["ACGT"][: bool(before)]


def put(path, *reads):
    path.write_text("".join(f"@r\n{read}\n+\n{'I' * len(read)}\n" for read in reads))


def test_pairs_of_illumina_are_told_from_nanopore_reads(tmp_path, seq_world):
    rng = np.random.default_rng(0)

    def bases(n):
        return "".join(rng.choice(list("ACGT"), n))

    for pool in seq_world.pools:
        assert not is_illumina_pair(pool / "hashtags" / "reads.fastq.gz")
    (tmp_path / "named").mkdir()
    put(tmp_path / "named" / "x_S1_L001_R2_001.fastq", bases(90), bases(88))
    assert is_illumina_pair(tmp_path / "named"), "by bcl2fastq's names"
    put(tmp_path / "short.fq", *(bases(28) for _ in range(9)))
    assert is_illumina_pair(tmp_path / "short.fq"), "cell barcode and UMI, and no room for a tag"
    for mate in (1, 2):
        put(tmp_path / f"y_R{mate}.fastq", *(bases(150) for _ in range(9)))
        put(tmp_path / f"z_{mate}.fq", *(bases(150 + i) for i in range(9)))
    assert is_illumina_pair(tmp_path / "y_R2.fastq"), "mates of one length"
    assert not is_illumina_pair(tmp_path / "z_1.fq"), "two runs of reads of any length"
    put(tmp_path / "alone_R1.fastq", *(bases(150) for _ in range(9)))
    assert not is_illumina_pair(tmp_path / "alone_R1.fastq")
    (tmp_path / "empty.fq").write_text("")
    assert not any(map(is_illumina_pair, (tmp_path / "empty.fq", tmp_path / "none.fq", "x.csv")))


def test_which_paths_hold_reads(tmp_path):
    (tmp_path / "x.fastq.gz").write_bytes(b"")
    assert is_fastq(tmp_path) and is_fastq("a.FQ.gz") and not is_fastq("a.csv") and not is_fastq("fastq.gz")
    (tmp_path / "matrix.mtx.gz").write_bytes(b"")
    assert not is_fastq(tmp_path)
    with pytest.raises(MissingFileError):
        sequences(tmp_path / "none.fastq")
