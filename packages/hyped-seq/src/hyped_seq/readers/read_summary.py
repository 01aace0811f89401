"""``read_summary.tsv`` of wf-single-cell, one line a read: streamed into counts by barcode and by transcript."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hyped_core.errors import CorruptFileError
from hyped_seq.readers.matrix import open_text, reading
from hyped_seq.readers.wf_single_cell import UNASSIGNED, need_columns

COLUMNS = ("corrected_barcode", "gene", "transcript")
_BLOCK = 8 << 20
"""Bytes of text parsed at a time; no line is longer."""
_READS = 1_000_000
"""Reads counted at a time."""
_COMPACT = 4_000_000
"""Pairs of transcript and gene that are kept before equal ones are summed."""


@dataclass(frozen=True, slots=True)
class ReadFigures:
    """What the read summary says: reads by barcode, reads with a gene by barcode, gene of each transcript."""

    n_reads: pd.Series
    n_reads_assigned: pd.Series
    transcript_gene: dict[str, str]


def read_summary(path: Path, block: int = _BLOCK, reads: int = _READS) -> ReadFigures:
    """Stream ``read_summary.tsv`` into counts; memory does not grow with the reads.

    ``block`` is how many bytes are parsed at a time (no line may be longer), ``reads`` how many lines are counted at
    a time; the result does not depend on them.

    Reads without barcode are passed over. A transcript's gene is the one most of its reads have (of equals the
    first by name). Fields are taken as they are: quality strings may hold quotation marks.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file, a line with another number of fields, or a column is not there.
    """
    with reading(path), open_text(path) as handle:
        need_columns(handle.readline().rstrip("\r\n").split("\t"), COLUMNS, path)
    barcodes, genes, transcripts = _Names(), _Names(), _Names()
    pairs = _Pairs()
    for table in _tables(path, block, reads):
        columns = zip((barcodes, genes, transcripts), table.columns, strict=True)
        barcode, gene, transcript = (names.codes(column) for names, column in columns)
        known = barcode >= 0
        barcodes.add("reads", barcode[known])
        assigned = known & (gene >= 0)
        barcodes.add("assigned", barcode[assigned])
        both = assigned & (transcript >= 0)
        pairs.add(transcript[both], gene[both])
    return ReadFigures(
        barcodes.series("reads"), barcodes.series("assigned"), pairs.commonest(transcripts.names, genes.names)
    )


def _tables(path: Path, block: int, reads: int) -> Iterator[Any]:
    """Arrow tables of `COLUMNS`, each of about so many reads, texts as one dictionary a column."""
    import pyarrow as pa
    from pyarrow import csv

    text = pa.dictionary(pa.int32(), pa.string())
    batches: list[Any] = []
    try:
        for batch in csv.open_csv(
            path,
            read_options=csv.ReadOptions(block_size=block),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(
                include_columns=COLUMNS, column_types=dict.fromkeys(COLUMNS, text), strings_can_be_null=False
            ),
        ):
            batches.append(batch)
            if sum(len(batch) for batch in batches) >= reads:
                yield pa.Table.from_batches(batches).unify_dictionaries()
                batches = []
    except pa.ArrowInvalid as error:
        raise CorruptFileError(f"cannot be read: {error}", where=path, mend="copy the file again") from error
    if batches:
        yield pa.Table.from_batches(batches).unify_dictionaries()


class _Names:
    """Texts of a column by number, in order of first occurrence, and counts of them."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {UNASSIGNED: -1}
        self.counts: dict[str, np.ndarray] = {}

    @property
    def names(self) -> list[str]:
        """The texts in the order of their numbers."""
        return [name for name in self.numbers if name != UNASSIGNED]

    def codes(self, column: Any) -> np.ndarray:
        """Number of each value of a dictionary column, -1 where unassigned."""
        texts = column.chunk(0).dictionary.to_pylist()
        table = np.array([self.numbers.setdefault(name, len(self.numbers) - 1) for name in texts], dtype=np.int64)
        return table[np.concatenate([chunk.indices.to_numpy() for chunk in column.chunks])]

    def add(self, what: str, codes: np.ndarray) -> None:
        """Count ``codes``."""
        counts = np.bincount(codes, minlength=len(self.numbers) - 1)
        before = self.counts.get(what, np.zeros(0, dtype=np.int64))
        counts[: len(before)] += before
        self.counts[what] = counts

    def series(self, what: str) -> pd.Series:
        """The counts that are not zero, by name, sorted."""
        counts = self.counts.get(what, np.zeros(0, dtype=np.int64))
        names = self.names[: len(counts)]
        series = pd.Series(counts[: len(names)], index=pd.Index(names, dtype=object), dtype="int64")
        return series[series > 0].sort_index()


class _Pairs:
    """How often two numbers occur together."""

    def __init__(self) -> None:
        self.keys: list[np.ndarray] = []
        self.counts: list[np.ndarray] = []
        self.held = 0

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Count pairs of numbers below 2**31."""
        keys, counts = np.unique(first << 31 | second, return_counts=True)
        self.keys.append(keys)
        self.counts.append(counts)
        self.held += len(keys)
        if self.held > _COMPACT:
            self._compact()

    def _compact(self) -> None:
        keys, inverse = np.unique(np.concatenate(self.keys), return_inverse=True)
        counts = np.bincount(inverse, weights=np.concatenate(self.counts), minlength=len(keys)).astype(np.int64)
        self.keys, self.counts, self.held = [keys], [counts], len(keys)

    def commonest(self, first: list[str], second: list[str]) -> dict[str, str]:
        """For each first name the second that it occurs with most often."""
        if not self.keys:
            return {}
        self._compact()
        keys, counts = self.keys[0], self.counts[0]
        one, other = keys >> 31, keys & ((1 << 31) - 1)
        rank = np.empty(len(second), dtype=np.int64)
        rank[sorted(range(len(second)), key=second.__getitem__)] = np.arange(len(second))
        order = np.lexsort((rank[other], -counts, one))
        best = order[np.flatnonzero(np.diff(one[order], prepend=-1))]
        return {first[i]: second[j] for i, j in zip(one[best].tolist(), other[best].tolist(), strict=True)}
