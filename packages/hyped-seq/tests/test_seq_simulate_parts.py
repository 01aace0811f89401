"""Parts of the sequencing simulator on their own: counts, splits, reads, MEX files, the command."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.cli.main import run as run_hyped
from hyped_core.design import Hashtag, default_design
from hyped_core.simulate.isoforms import Isoforms
from hyped_seq.cli_simulate import simulate
from hyped_seq.simulate.counts import negative_binomial, split_transcripts
from hyped_seq.simulate.hashtags import write_reads
from hyped_seq.simulate.mex import MatrixWriter, format_entries
from hyped_seq.simulate.params import HashtagParams
from hyped_seq.simulate.population import random_barcodes

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def other_strand(sequence: str) -> str:
    return sequence.translate(COMPLEMENT)[::-1]


def test_counts_have_the_mean_and_variance_asked_for() -> None:
    rng = np.random.default_rng(0)
    mean, dispersion = np.full((40_000, 2), [4.0, 30.0]), np.array([0.1, 0.5])
    counts = negative_binomial(mean, dispersion, rng)
    np.testing.assert_allclose(counts.mean(axis=0), [4.0, 30.0], rtol=0.03)
    np.testing.assert_allclose(counts.var(axis=0), [4 + 0.1 * 16, 30 + 0.5 * 900], rtol=0.06)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 2**31))
def test_split_molecules_add_up_to_their_gene(sizes: list[int], n_cells: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = np.array(sizes)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    gene = np.repeat(np.arange(len(count)), count)
    ids = np.array([f"T{i}" for i in range(gene.size)], dtype=object)
    isoforms = Isoforms(
        ids, gene, first, count, rng.standard_normal(gene.size), {"A:activation": rng.normal(size=gene.size)}
    )
    genes = sp.csr_matrix(rng.poisson(3.0, (n_cells, len(count))))
    split = split_transcripts(genes, isoforms, {"A:activation": rng.random(n_cells)}, rng)
    assert split.shape == (n_cells, gene.size)
    for g in range(len(count)):
        own = np.asarray(split[:, first[g] : first[g] + count[g]].sum(axis=1)).ravel()
        np.testing.assert_array_equal(own, genes[:, [g]].toarray().ravel())


def test_split_follows_the_proportions_and_the_switch() -> None:
    count, gene = np.array([3, 1]), np.array([0, 0, 0, 1])
    shift = np.array([-1.0, 1.0, 0.0, 0.0])
    isoforms = Isoforms(
        np.array(list("abcd"), object), gene, np.array([0, 3]), count, np.log([6.0, 3, 1, 1]), {"A:x": shift}
    )
    genes = sp.csr_matrix(np.full((2, 2), 200_000))
    split = split_transcripts(
        genes, isoforms, {"A:x": np.array([0.0, 1.0])}, np.random.default_rng(0)
    ).toarray()
    np.testing.assert_allclose(split[0] / 200_000, [0.6, 0.3, 0.1, 1.0], atol=0.005)
    np.testing.assert_allclose(split[1] / 200_000, isoforms.proportions({"A:x": 1.0}), atol=0.005)


def read_fastq(path: Path) -> list[tuple[str, str, str]]:
    rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert len(rows) % 4 == 0 and all(plus == "+" for plus in rows[2::4])
    return list(zip(rows[0::4], rows[1::4], rows[3::4], strict=True))


TAGS = [
    Hashtag(pool="p", tag="B1", barcode="GTCAACTCTTTAGCG", chemistry="TotalSeq-B", condition="c"),
    Hashtag(pool="p", tag="A1", barcode="TGATGGCCTATTGGG", chemistry="TotalSeq-A", condition="c"),
]


def test_reads_without_errors_are_exactly_the_molecules(tmp_path) -> None:
    rng = np.random.default_rng(2)
    params = HashtagParams(substitution=0, insertion=0, deletion=0, junk=0, reads_per_molecule=1.0)
    counts = rng.poisson(6.0, (30, 2))
    barcodes = random_barcodes(30, 16, rng)
    assert write_reads(tmp_path / "r.fastq.gz", counts, barcodes, TAGS, params, rng) == counts.sum()
    seen, molecules, forward = np.zeros_like(counts), set(), 0
    for _, sequence, quality in read_fastq(tmp_path / "r.fastq.gz"):
        assert len(sequence) == len(quality)
        if params.adapter in sequence:
            forward += 1
        else:
            sequence = other_strand(sequence)
        start = sequence.index(params.adapter) + len(params.adapter)
        cell, rest = barcodes.index(sequence[start : start + 16]), sequence[start + 28 :]
        tag = next(i for i, hashtag in enumerate(TAGS) if other_strand(hashtag.barcode) in rest)
        assert rest.startswith("T" * 30 if tag == 1 else "TTGCTAGGACCGGCCTTAAAGC")
        seen[cell, tag] += 1
        molecules.add((cell, tag, sequence[start + 16 : start + 28]))
    np.testing.assert_array_equal(seen, counts)
    assert len(molecules) == counts.sum() and 0.35 < forward / counts.sum() < 0.65


def test_reads_carry_errors_at_the_rate_asked_for(tmp_path) -> None:
    rng = np.random.default_rng(3)
    params = HashtagParams(junk=0.0, reads_per_molecule=1.0)
    barcodes = random_barcodes(40, 16, rng)
    write_reads(tmp_path / "r.fastq.gz", rng.poisson(60.0, (40, 2)), barcodes, TAGS, params, rng)
    found = []
    for _, sequence, _ in read_fastq(tmp_path / "r.fastq.gz"):
        found.append(params.adapter in sequence or params.adapter in other_strand(sequence))
    rate = params.substitution + params.insertion + params.deletion
    assert np.mean(found) == pytest.approx((1 - rate) ** len(params.adapter), abs=0.06)


def test_the_number_of_reads_has_a_limit(tmp_path) -> None:
    rng = np.random.default_rng(0)
    params = HashtagParams(max_reads=100)
    written = write_reads(
        tmp_path / "r.fastq.gz", np.full((20, 2), 30), random_barcodes(20, 16, rng), TAGS, params, rng
    )
    assert written == 100 == len(read_fastq(tmp_path / "r.fastq.gz"))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=4), st.integers(1, 6), st.integers(0, 2**31))
def test_a_matrix_written_in_blocks_reads_back(
    tmp_path_factory, blocks: list[int], width: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("mex")
    rng = np.random.default_rng(seed)
    parts = [rng.poisson(0.7, (n, width)) for n in blocks]
    with MatrixWriter(folder, width) as writer:
        for part in parts:
            writer.append(sp.csr_matrix(part))
    whole = np.concatenate([np.zeros((0, width), int), *parts])
    assert [p.name for p in folder.iterdir()] == ["matrix.mtx.gz"]
    rows, cells, entries = scipy.io.mminfo(folder / "matrix.mtx.gz")[:3]
    assert (rows, cells, entries) == (width, whole.shape[0], np.count_nonzero(whole))
    if entries:
        np.testing.assert_array_equal(scipy.io.mmread(folder / "matrix.mtx.gz").toarray().T, whole)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 200_000), st.integers(1, 30_000), st.floats(0, 99_999)),
        min_size=1,
        max_size=8,
    )
)
def test_numbers_are_written_as_python_writes_them(entries: list[tuple[int, int, float]]) -> None:
    row, column, value = (np.array(x) for x in zip(*entries, strict=True))
    whole = np.rint(value).astype(int)
    expected = "".join(f"{r} {c} {v}\n" for r, c, v in zip(row, column, whole, strict=True))
    assert format_entries(row, column, whole).decode() == expected
    lines = format_entries(row, column, value, 5).decode().splitlines()
    for line, (r, c, v) in zip(lines, entries, strict=True):
        first, second, third = line.split()
        assert (int(first), int(second)) == (r, c) and len(third.partition(".")[2]) == 5
        assert (
            float(third) == pytest.approx(v, abs=6e-6)
            and repr(int(third.split(".")[0])) == third.split(".")[0]
        )


def test_barcodes_are_unique_words() -> None:
    words = random_barcodes(200, 4, np.random.default_rng(0))
    assert (
        len(set(words)) == 200 and {len(word) for word in words} == {4} and set("".join(words)) == set("ACGT")
    )


def test_the_command_estimates_without_writing(tmp_path) -> None:
    result = CliRunner().invoke(
        simulate, [str(tmp_path / "raw"), str(tmp_path / "truth"), "--dry-run", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)) == {"disk_mb", "seconds", "memory_mb"}
    assert not list(tmp_path.iterdir())


def test_the_command_writes_everything_or_says_what_is_wrong(tmp_path, capsys) -> None:
    (tmp_path / "params.yaml").write_text(
        "sim: {n_cells: 60, programme: {n_genes: 400, n_transcripts: 500}, hashtags: {write_reads: false},\n"
        "  capture: {processed: false}}\nbad: {n_cell: 3}\n"
    )
    raw, truth = tmp_path / "raw", tmp_path / "truth"
    reference = f"{tmp_path / 'params.yaml'}#"
    arguments = ["seq", "simulate", str(raw), str(truth), "--seed", "3", "--json"]
    assert run_hyped([*arguments, "--params", f"{reference}bad"]) == 3
    assert "did you mean 'n_cells'" in capsys.readouterr().err
    assert not raw.exists() and not truth.exists()
    assert run_hyped([*arguments, "--params", f"{reference}sim", "--seed", "-1"]) == 2
    assert run_hyped([*arguments, "--params", f"{reference}sim"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["pools"]["perturbed"]["hashtag_reads"] == 0
    assert {p.name for p in raw.iterdir()} == {"perturbed", "control", "reference.gtf.gz"}
    tags = [tag.tag for tag in default_design().pool_hashtags("control")]
    rows = (raw / "control" / "hashtags" / "counts.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == tags
