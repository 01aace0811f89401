"""Hashtag molecules on every barcode, and the reads of the hashing library they give.

Structure of a read, 5' to 3' on the strand of the cell barcode (half of the reads are the other strand)::

    0-12 nt of anything | read 1 adapter (22) | cell barcode (16) | UMI (12) | capture | tag | end | 0-12 nt

    TotalSeq-A (poly-A):   T x 30                              | tag, reverse complement |        PCR handle
    TotalSeq-B (capture 1): TTGCTAGGACCGGCCTTAAAGC + 9 random  | tag, reverse complement | 10 random + read 2
    TotalSeq-C (5'):        TTTCTTATATGGG + 9 random           | tag, reverse complement | 10 random + read 2

The antibody's oligo runs 5' handle, 10 random, tag, 9 random, capture site; the bead's oligo primes on the
capture site and copies it, so the tag's reverse complement stands on the strand of the cell barcode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hyped_core.design import Hashtag
from hyped_seq.simulate.counts import negative_binomial
from hyped_seq.simulate.mex import gzip_writer
from hyped_seq.simulate.params import HashtagParams
from hyped_seq.simulate.population import BASES, PoolCells

READ2 = "GTGACTGGAGTTCAGACGTGTGCTCTTCCGATCT"
SMALL_RNA_HANDLE = "CCTTGGCACCCGAGAATTCCA"
CAPTURE_1 = "TTGCTAGGACCGGCCTTAAAGC"
_CAPTURE_C = "TTTCTTATATGGG"
_COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")
_RAGGED = 12
_BLOCK = 20_000


def hashtag_counts(pool: PoolCells, params: HashtagParams, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(barcodes, tags) molecules: staining of the cells behind each barcode, plus background of every tag."""
    n, k = len(pool.table), len(pool.tags)
    bright = np.resize(np.array(params.brightness), k)
    background = np.resize(np.array(params.background), k)
    counts = np.zeros((n, k), np.int64)
    tag = pool.cells["tag"].to_numpy()
    for rows, cells in (
        (np.arange(n), pool.first),
        (np.flatnonzero(pool.second >= 0), pool.second[pool.second >= 0]),
    ):
        stain = np.exp(params.brightness_sd * rng.standard_normal(rows.size) - params.brightness_sd**2 / 2)
        carried = np.maximum(tag[cells], 0)
        mean = np.where(tag[cells] >= 0, bright[carried] * stain, 0.0)
        counts[rows, carried] += negative_binomial(mean, np.full(rows.size, params.dispersion), rng)
    sticky = np.exp(params.background_sd * rng.standard_normal(n) - params.background_sd**2 / 2)
    low = np.where(pool.table["low_quality"].to_numpy(), 0.5, 1.0)
    mean = (sticky * low)[:, None] * background
    return counts + negative_binomial(mean, np.full((n, k), params.dispersion), rng)


def write_counts(path: Path, counts: npt.NDArray[np.int64], barcodes: Sequence[str], tags: Sequence[str]) -> None:
    """``counts.csv``: tags in rows, barcodes (no suffix) in columns."""
    lines = ["," + ",".join(barcodes)]
    lines += [f"{tag}," + ",".join(map(str, row)) for tag, row in zip(tags, counts.T.tolist(), strict=True)]
    path.write_text("\n".join(lines) + "\n")


def write_reads(
    path: Path,
    counts: npt.NDArray[np.int64],
    barcodes: Sequence[str],
    hashtags: Sequence[Hashtag],
    params: HashtagParams,
    rng: np.random.Generator,
) -> int:
    """Write the reads of all molecules in ``counts`` as FASTQ.gz, in random order; returns how many."""
    cell, tag = np.nonzero(counts)
    times = counts[cell, tag]
    cell, tag = np.repeat(cell, times), np.repeat(tag, times)
    umi = rng.integers(0, 4, (cell.size, 12), dtype=np.uint8)
    copies = 1 + rng.poisson(params.reads_per_molecule - 1, cell.size)
    molecule = rng.permutation(np.repeat(np.arange(cell.size), copies))[: params.max_reads]
    codes = np.array([_codes(barcode) for barcode in barcodes])
    templates = [_template(hashtag, params.adapter) for hashtag in hashtags]
    with open(path, "wb") as raw, gzip_writer(raw) as out:
        for start in range(0, molecule.size, _BLOCK):
            chosen = molecule[start : start + _BLOCK]
            block = _bases(codes[cell[chosen]], umi[chosen], tag[chosen], templates, rng)
            junk = rng.random(chosen.size) < params.junk
            block[junk] = rng.integers(0, 4, (int(junk.sum()), block.shape[1]))
            out.write(_records(block, params, start, rng))
    return int(molecule.size)


@dataclass(frozen=True)
class _Template:
    """Base codes of a read without errors: 4 stands for a random base, 5 for nothing."""

    head: npt.NDArray[np.uint8]
    tail: npt.NDArray[np.uint8]


def _codes(sequence: str) -> npt.NDArray[np.uint8]:
    """0..3 for ACGT, 4 for N."""
    return np.array(["ACGTN".index(base) for base in sequence], dtype=np.uint8)


def _reverse_complement(sequence: str) -> str:
    return sequence.encode().translate(_COMPLEMENT)[::-1].decode()


def _template(hashtag: Hashtag, adapter: str) -> _Template:
    tag = _reverse_complement(hashtag.barcode)
    if hashtag.chemistry == "TotalSeq-A":
        tail = "T" * 30 + tag + _reverse_complement(SMALL_RNA_HANDLE)
    else:
        capture = _CAPTURE_C if hashtag.chemistry == "TotalSeq-C" else CAPTURE_1
        tail = capture + "N" * 9 + tag + "N" * 10 + _reverse_complement(READ2)
    return _Template(_codes(adapter), _codes(tail))


def _bases(
    barcode: npt.NDArray[np.uint8],
    umi: npt.NDArray[np.uint8],
    tag: npt.NDArray[np.int64],
    templates: list[_Template],
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """(reads, L) base codes without errors, 5 where a read has nothing."""
    n = len(tag)
    width = max(template.tail.size for template in templates)
    tails = np.full((len(templates), width), 5, np.uint8)
    for i, template in enumerate(templates):
        tails[i, : template.tail.size] = template.tail
    head = np.broadcast_to(templates[0].head, (n, templates[0].head.size))
    ends = []
    for side in (0, 1):
        length = rng.integers(0, _RAGGED + 1, n)
        place = np.arange(_RAGGED)
        present = place >= (_RAGGED - length)[:, None] if side == 0 else place < length[:, None]
        ends.append(np.where(present, 4, 5).astype(np.uint8))
    block = np.concatenate([ends[0], head, barcode, umi, tails[tag], ends[1]], axis=1)
    anything = block == 4
    block[anything] = rng.integers(0, 4, int(anything.sum()), dtype=np.uint8)
    return block


def _records(block: npt.NDArray[np.uint8], params: HashtagParams, offset: int, rng: np.random.Generator) -> bytes:
    """FASTQ records with substitutions, insertions and deletions; each read has its own error rate."""
    n, length = block.shape
    severity = np.exp(0.4 * rng.standard_normal(n) - 0.08)
    rates = np.array([params.substitution, params.insertion, params.deletion])
    limits = np.cumsum(rates)[:, None, None] * severity[None, :, None]
    draw = rng.random((n, length))
    substituted = draw < limits[0]
    inserted = (draw >= limits[0]) & (draw < limits[1])
    deleted = (draw >= limits[1]) & (draw < limits[2])
    absent = block == 5
    shifted = (block + rng.integers(1, 4, block.shape, dtype=np.uint8)) % 4
    block = np.where(substituted & ~absent, shifted, block)
    repeats = np.where(absent | deleted, 0, np.where(inserted, 2, 1))
    flat = np.repeat(block.ravel(), repeats.ravel())
    doubled = np.flatnonzero(np.repeat(inserted.ravel(), repeats.ravel()))[1::2]
    flat[doubled] = rng.integers(0, 4, doubled.size, dtype=np.uint8)
    ends = np.cumsum(repeats.sum(axis=1))
    letters = BASES[np.minimum(flat, 3)].tobytes()
    error = np.clip(rates.sum() * severity, 1e-4, 0.5)
    quality = np.clip(np.round(-10 * np.log10(error)), 2, 40).astype(int) + 33
    reverse = rng.random(n) < 0.5
    words = rng.integers(0, 2**63, n)
    records = []
    begin = 0
    for i, end in enumerate(ends.tolist()):
        sequence = letters[begin:end]
        if reverse[i]:
            sequence = sequence.translate(_COMPLEMENT)[::-1]
        begin = end
        name = b"@%016x-%d" % (int(words[i]), offset + i)
        records.append(b"%b\n%b\n+\n%b\n" % (name, sequence, bytes([quality[i]]) * len(sequence)))
    return b"".join(records)
