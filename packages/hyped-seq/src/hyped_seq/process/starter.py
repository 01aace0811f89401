"""The start of a design, from what pools and hashing libraries say of themselves. What tags mean is for the user."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from hyped_seq.hashtags.alignment import reverse_complement
from hyped_seq.hashtags.counts import read_hashtag_counts
from hyped_seq.hashtags.fastq import read_blocks
from hyped_seq.hashtags.files import is_fastq
from hyped_seq.ingest.kinds import TAGS, split_kinds
from hyped_seq.process.source import Source
from hyped_seq.readers.h5ad import read_h5ad_counts
from hyped_seq.readers.matrix import CountMatrix
from hyped_seq.readers.mex import is_mex, read_mex, read_mex_features
from hyped_seq.readers.tenx_h5 import read_tenx_h5

HUMAN_HASHTAGS = {
    "0251": "GTCAACTCTTTAGCG",
    "0252": "TGATGGCCTATTGGG",
    "0253": "TTCCGCCTCTCTTTG",
    "0254": "AGTAAGTTCAGCGTA",
    "0255": "AAGTATCGTTTCGCA",
    "0256": "GGTTGCCAGATGTCA",
    "0257": "TGTCTTTCCTGCCAG",
    "0258": "CTCCTCTGCAATTAC",
    "0259": "CAGTAGTCACGGTCA",
    "0260": "ATTGACCCGCGTTAG",
}
"""TotalSeq anti-human hashtags 1 to 10 (BioLegend): A, B and C carry the same barcodes under these numbers."""
READS_LOOKED_AT = 100_000
FEW_SHARE = 0.01
"""A tag with a smaller share of the pool's hits is taken for a stray."""
_CAPTURE = "GCTTTAAGG"
"""What follows the barcode and nine random bases of TotalSeq-B (10x Capture Sequence 1)."""
_SWITCH = "CCCATATAAG"
"""What follows the barcode and nine random bases of TotalSeq-C."""
_LETTERS = np.frombuffer(b"ACGTNN", np.uint8)
_BARCODE = re.compile(r"[-_ ]([ACGT]{10,})$")


@dataclass(frozen=True, slots=True)
class FoundTag:
    """A tag of a pool: name, sequence and chemistry where they are known, and a remark on how often it is there."""

    name: str
    barcode: str = ""
    chemistry: str = ""
    remark: str = ""


def starter_design(source: Source, name: str) -> str:
    """YAML of a design with the pools and the tags found in them, ``FILL-IN`` where conditions are to be put.

    Raises
    ------
    HypedError
        A library cannot be read.
    """
    found = {
        pool: found_tags(source.hashtags[pool]) if pool in source.hashtags else tags_inside(path)
        for pool, path in source.pools.items()
    }
    lines = [
        f"name: {_quoted(name)}",
        "conditions:                    # what was done to the cells; the untreated ones have to be called control",
        "  - {name: control}             # add `phase_composition: sorted` where FACS set the phases of the cells",
        "  # - {name: treated}           # any name; where a gene was changed, say so:",
        "  # - {name: siX, perturbation: [{gene: X, direction: suppression, agent: siRNA}]}   # or activation",
        "pools:                         # cells captured together; each is named as its folder",
    ]
    for pool in source.pools:
        hashed = bool(found.get(pool))
        lines.append(
            f"  - {{name: {_quoted(pool)}}}" if hashed else
            f"  - {{name: {_quoted(pool)}, conditions: [FILL-IN]}}   # has no hashtags: the condition of its cells"
        )  # fmt: skip
    if any(found.values()):
        lines += [
            "hashtags:                      # put the condition of each tag for FILL-IN; add `phase: G1` (S, G2M) to a",
            "                               # tag that marks cells sorted into that phase; delete tags you did not use",
        ]
    for pool, tags in found.items():
        for tag in tags:
            fields = [f"pool: {_quoted(pool)}", f"tag: {json.dumps(tag.name)}"]
            fields += [f"barcode: {tag.barcode}"] if tag.barcode else []
            fields += [f"chemistry: {tag.chemistry}"] if tag.chemistry else []
            lines.append(f"  - {{{', '.join(fields)}, condition: FILL-IN}}   # {tag.remark}")
    lines += [
        "flags:",
        "  confounded: []               # pairs that cannot be told apart, such as [condition, pool]",
        "  pooled_wells: false          # true where replicate wells were pooled before the capture",
    ]
    return "\n".join(lines) + "\n"


def found_tags(path: Path) -> list[FoundTag]:
    """The tags of a hashing library: all of a count table, those known by their sequence in reads."""
    return _tags_of_reads(path) if is_fastq(path) else _tags_of_counts(read_hashtag_counts(path))


def tags_inside(path: Path) -> list[FoundTag]:
    """The tags among the features of a 10x matrix, or of an h5ad that was made of one."""
    if is_mex(path):
        features = read_mex_features(path)
        if "kind" not in features or not features["kind"].isin(TAGS).any():
            return []
        matrix = read_mex(path)
    elif path.suffix in (".h5", ".hdf5"):
        matrix = read_tenx_h5(path)
    elif path.suffix == ".h5ad":
        matrix = read_h5ad_counts(path)
    else:
        return []
    hashtags = split_kinds(matrix, ()).hashtags
    return [] if hashtags is None else _tags_of_counts(hashtags)


def _tags_of_counts(matrix: CountMatrix) -> list[FoundTag]:
    totals = np.asarray(matrix.counts.sum(axis=0)).ravel()
    top = np.bincount(np.asarray(matrix.counts.argmax(axis=1)).ravel(), minlength=len(totals))
    found = []
    for k, name in enumerate(map(str, matrix.features["name"])):
        sequence = _BARCODE.search(name)
        remark = f"{totals[k]} counts; the highest tag of {top[k]} cells"
        found.append(FoundTag(name, sequence.group(1) if sequence else "", "", remark))
    return found


def _tags_of_reads(path: Path) -> list[FoundTag]:
    """Exact matches of the known barcodes on either strand, in the first reads."""
    number = {sequence: tag for tag, sequence in HUMAN_HASHTAGS.items()}
    pattern = re.compile("|".join([*number, *map(reverse_complement, number)]))
    hits: Counter[str] = Counter()
    behind: dict[str, Counter[str]] = {tag: Counter() for tag in HUMAN_HASHTAGS}
    reads = 0
    for sequence in _first_reads(path):
        reads += 1
        match = pattern.search(sequence)
        if match is None:
            continue
        if match.group() in number:
            tag, after = number[match.group()], sequence[match.end() : match.end() + 24]
        else:
            tag = number[reverse_complement(match.group())]
            after = reverse_complement(sequence[max(match.start() - 24, 0) : match.start()])
        hits[tag] += 1
        behind[tag][_chemistry(after)] += 1
    total = sum(hits.values())
    return [
        FoundTag(tag, HUMAN_HASHTAGS[tag], _commonest(behind[tag]), f"in {hits[tag]} of the first {reads} reads")
        for tag in HUMAN_HASHTAGS if total and hits[tag] >= FEW_SHARE * total
    ]  # fmt: skip


def _first_reads(path: Path) -> Iterator[str]:
    """Sequences of the first `READS_LOOKED_AT` reads."""
    left = READS_LOOKED_AT
    for block in read_blocks(path):
        letters = _LETTERS[block.codes].tobytes().decode("ascii")
        for start, stop in pairwise(block.offsets[: left + 1].tolist()):
            yield letters[start:stop]
        left -= len(block.offsets) - 1
        if left <= 0:
            return


def _chemistry(after: str) -> str:
    """The chemistry of a tag by what follows its barcode; "" where that is not plain."""
    if after[:12].count("A") >= 10:
        return "TotalSeq-A"
    if _CAPTURE in after:
        return "TotalSeq-B"
    return "TotalSeq-C" if _SWITCH in after else ""


def _commonest(seen: Counter[str]) -> str:
    known = [(count, name) for name, count in seen.items() if name]
    return max(known)[1] if known else ""


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w.-]*", name) else json.dumps(name)
