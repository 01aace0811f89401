"""Hashtag counts from the hashing library's nanopore reads: adapter, cell barcode, UMI and tag of each.

A read runs (on either strand) adapter, cell barcode, UMI, ..., tag barcode on either strand, ...
Reads are streamed; memory grows with the molecules, not with the reads.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import CorruptFileError, InvalidDataError
from hyped_seq.hashtags.match import BarcodeIndex, TagFinder, collapse_umis, find_adapter, reverse_complement
from hyped_seq.readers.matrix import CountMatrix, open_text, reading


@dataclass
class ReadReport:
    """Where the reads of one hashing library went.

    Attributes
    ----------
    reads : all of them.
    no_adapter, no_barcode, no_tag : lost because that part was not found (or not unambiguously).
    too_short : the read ends before the UMI does.
    used : reads with all parts.
    molecules : unique (cell, tag, UMI) after collapsing.
    """

    reads: int = 0
    no_adapter: int = 0
    no_barcode: int = 0
    too_short: int = 0
    no_tag: int = 0
    used: int = 0
    molecules: int = 0

    def record(self) -> dict[str, int]:
        """As a plain dict."""
        return asdict(self)


def count_hashtag_reads(
    path: str | Path,
    whitelist: Sequence[str],
    tags: Mapping[str, str],
    *,
    tag_distance: int = 2,
    barcode_distance: int = 2,
    umi_length: int = 12,
    umi_distance: int = 1,
) -> tuple[CountMatrix, ReadReport]:
    """Count hashtag molecules per cell.

    Parameters
    ----------
    path : FASTQ, plain or gzipped.
    whitelist : cell barcodes, no suffix, all of one length; rows of the result.
    tags : tag name -> barcode; columns of the result.

    Raises
    ------
    MissingFileError, CorruptFileError
        No such file, cut short, or not FASTQ.
    InvalidDataError
        The whitelist is empty, or none of the reads fits it and the tags.
    """
    path = Path(path)
    if not whitelist or not tags:
        raise InvalidDataError(
            "counting needs cell barcodes and tags",
            where=path,
            mend="give a whitelist and a design with tags",
        )
    cells = BarcodeIndex(whitelist, barcode_distance)
    finder = TagFinder(dict(tags), tag_distance)
    molecules: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    report = ReadReport()
    with reading(path):
        for sequence in iterate_fastq(path):
            report.reads += 1
            found = _dissect(sequence, cells, finder, umi_length, report)
            if found is not None:
                cell, tag, umi = found
                molecules[cell, tag][umi] += 1
                report.used += 1
    if not report.used:
        raise InvalidDataError(
            f"none of its {report.reads} reads fits this whitelist and these tags ({report.record()})",
            where=path,
            mend="check that reads, whitelist and design belong to one pool",
        )
    rows, columns, values = [], [], []
    for (cell, tag), umis in sorted(molecules.items()):
        rows.append(cell)
        columns.append(tag)
        values.append(collapse_umis(umis, umi_distance))
    report.molecules = int(sum(values))
    counts = sp.csr_matrix((values, (rows, columns)), shape=(len(whitelist), len(tags)), dtype=np.int32)
    features = pd.DataFrame({"id": list(tags), "name": list(tags)})
    return CountMatrix(counts, list(whitelist), features), report


def iterate_fastq(path: Path) -> Iterator[str]:
    """Sequences of a FASTQ file, upper case.

    Raises
    ------
    CorruptFileError
        A record is incomplete; its line is named.
    """
    with open_text(path) as handle:
        number = 0
        while header := handle.readline():
            sequence, plus, quality = handle.readline(), handle.readline(), handle.readline()
            if (
                not header.startswith("@")
                or not plus.startswith("+")
                or len(quality.strip()) != len(sequence.strip())
            ):
                raise CorruptFileError(
                    f"the record at line {number + 1} is not FASTQ", where=path, mend="copy the file again"
                )
            number += 4
            yield sequence.strip().upper()


def _dissect(
    sequence: str, cells: BarcodeIndex, finder: TagFinder, umi_length: int, report: ReadReport
) -> tuple[int, int, str] | None:
    """(cell, tag, UMI) of a read, or None with the reason counted in ``report``."""
    adapter = find_adapter(sequence)
    if adapter is None:
        report.no_adapter += 1
        return None
    reverse, end = adapter
    strand = reverse_complement(sequence) if reverse else sequence
    located = cells.locate(strand, end)
    if located is None:
        report.no_barcode += 1
        return None
    cell, umi_start = located
    umi = strand[umi_start : umi_start + umi_length]
    if len(umi) < umi_length:
        report.too_short += 1
        return None
    tag = finder.find(strand[umi_start + umi_length - 2 :])
    if tag is None:
        report.no_tag += 1
        return None
    return cell, tag, umi
