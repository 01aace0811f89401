"""`Tokenizer`: raw counts of cells to Geneformer's sequences of tokens (rank value encoding), in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError, UsageError
from hyped_seq.geneformer.cell_chunks import check_counts, checked_totals, open_cells
from hyped_seq.geneformer.id_hints import mend_of, n_with_versions_off
from hyped_seq.geneformer.series import CLS, EOS
from hyped_seq.geneformer.tokens import TokenSets
from hyped_seq.readers.matrix import MOST

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_seq.geneformer.dictionaries import Dictionaries

_BLOCK_ENTRIES = 1 << 17
"""Stored counts handled between two calls of compiled code: few enough to stay in a core's cache."""
_UNIT_CELLS = 2048
"""Cells that one thread takes at a time."""
_STEEPEST = 1e28
"""Largest factor of a count: finite, so that a stored 0 stays 0, and above what keys tell apart."""
_PADDING = 8
"""Rows are sorted in one call where filling up all to the longest adds at most this part of their entries."""
_MARGIN = 64
"""How many more genes than fit are sorted, so that a run of close values seldom crosses the end."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of one matrix are in one dictionary.

    Attributes
    ----------
    tokens, medians : (columns,) int32 and float64 of each column's gene; 0 and 1 for a column of no known gene.
    narrow : ``tokens`` as uint16 where the vocabulary lets them, for less memory to read; else the same.
    scaled : (columns,) float32, 2 * largest median / median; 0 for no known gene, negative where columns share one.
    group : (columns,) int32, number of the gene that several columns share, else -1; ``n_groups`` of them.
    n_known : columns of a known gene.
    """

    tokens: npt.NDArray[np.int32]
    narrow: npt.NDArray[np.uint16] | npt.NDArray[np.int32]
    medians: npt.NDArray[np.float64]
    scaled: npt.NDArray[np.float32]
    group: npt.NDArray[np.int32]
    n_groups: int
    n_known: int


class Tokenizer:
    """Rank value encoding of series V1 or V2.

    The genes of a cell that have a token are ordered by ``count / n_counts * 10,000 / median`` (float64, evaluated in
    this order), the highest first, and replaced by their tokens; the first that fit are kept. ``n_counts`` is of all
    genes, known or not. Equal values: the smaller token comes first (the official code leaves this open). Series V2
    first sums the counts of columns whose ids mean one current gene, and puts ``<cls>`` in front and ``<eos>`` at the
    end; in series V1 a gene that has two columns has two tokens, as there. Cells without a known gene get no sequence.

    Parameters
    ----------
    max_tokens : longest sequence, special tokens included (the series' own where None, which is the most).

    Raises
    ------
    UsageError
        ``max_tokens`` leaves no room for a gene, or is more than the series has.
    """

    def __init__(self, dictionaries: Dictionaries, *, max_tokens: int | None = None) -> None:
        series = dictionaries.series
        self.dictionaries = dictionaries
        self.max_tokens = series.max_tokens if max_tokens is None else int(max_tokens)
        self.room = series.room(self.max_tokens)
        if self.room < 1 or self.max_tokens > series.max_tokens:
            least = 3 if series.special else 1
            raise UsageError(
                f"max_tokens is {self.max_tokens}; series {series.name} takes {least} to {series.max_tokens}",
                mend="leave it out for the series' own",
            )
        self.front = dictionaries.specials[CLS] if series.special else -1
        self.back = dictionaries.specials[EOS] if series.special else -1

    def columns(
        self, gene_ids: Sequence[object], where: object = "cells", held: str = 'var["gene_id"]'
    ) -> Columns:
        """Which gene of the dictionary each column is; ``held`` says where an AnnData has the ids, for the message.

        Raises
        ------
        InvalidDataError
            None of the ids is in the dictionary, or most only without the version suffix that they have.
        """
        position = np.asarray(self.dictionaries.position(gene_ids), dtype=np.int64)
        known = position >= 0
        n_known = int(known.sum())
        unknown = list(itertools.compress(gene_ids, ~known))
        if len(np.unique(position[known])) <= n_with_versions_off(unknown, self.dictionaries):
            some = ", ".join(repr(str(name)) for name in list(gene_ids)[:3]) or "no gene at all"
            raise InvalidDataError(
                f"{f'no more than {n_known}' if n_known else 'none'} of the {len(position)} gene ids is in the "
                f"dictionary ({some})",
                where=where,
                mend=mend_of(gene_ids, self.dictionaries, held),
            )
        tokens = np.where(known, self.dictionaries.tokens[position], 0).astype(np.int32)
        narrow = tokens.astype(np.uint16) if self.dictionaries.vocabulary <= 1 << 16 else tokens
        medians = np.where(known, self.dictionaries.medians[position], 1.0)
        with np.errstate(over="ignore"):
            scaled = np.where(known, 2.0 * medians[known].max() / medians, 0.0)
        scaled = np.minimum(scaled, _STEEPEST).astype(np.float32)
        group = np.full(len(position), -1, dtype=np.int32)
        n_groups = 0
        if self.dictionaries.series.collapse:
            genes, number, columns = np.unique(position, return_inverse=True, return_counts=True)
            shared = (columns > 1) & (genes >= 0)
            n_groups = int(shared.sum())
            group = np.where(shared, np.cumsum(shared) - 1, -1)[number].astype(np.int32)
            scaled[group >= 0] *= -1
        return Columns(tokens, narrow, medians, scaled, group, n_groups, n_known)

    def tokenize(
        self,
        counts: Any,
        gene_ids: Sequence[object],
        n_counts: Any = None,
        *,
        threads: int = 1,
        where: object = "cells",
    ) -> TokenSets:
        """Sequences of all cells.

        Parameters
        ----------
        counts : (cells, genes) raw counts, sparse of any format or dense, of any number type. CSR is read in place.
        gene_ids : of the columns.
        n_counts : (cells,) counts of each cell over all its genes; the sums of the rows where None.
        threads : how many to use; the result does not depend on it.

        Raises
        ------
        InvalidDataError
            Values that are no counts, ``n_counts`` that are unusable or 0 where there are counts, lengths that
            disagree, or not one known gene.
        """
        matrix = counts if sp.issparse(counts) else np.atleast_2d(np.asarray(counts))
        if len(gene_ids) != matrix.shape[1]:
            raise InvalidDataError(
                f"the matrix has {matrix.shape[1]} genes and {len(gene_ids)} gene ids",
                where=where,
                mend="give one id a column",
            )
        totals = None if n_counts is None else checked_totals(n_counts, matrix.shape[0], f"{where}: n_counts")
        return self.tokenize_rows(sp.csr_matrix(matrix), self.columns(gene_ids, where), totals, threads, where)

    def tokenize_cells(
        self, cells: AnnData, *, layer: str | None = None, context: RunContext | None = None
    ) -> TokenSets:
        """Sequences of the cells of an AnnData.

        Counts are those of ``layer``, by default ``layers["counts"]``, ``raw.X`` or ``X``; ids are ``var["gene_id"]``
        (``gene_ids``, ``ensembl_id``) or the names of ``var``; ``n_counts`` is that column of ``obs``, else summed.
        """
        threads = 1 if context is None else context.threads
        with open_cells(cells, layer=layer) as source:
            columns = self.columns(source.gene_ids, source.where, source.held)
            return self.tokenize_rows(source.matrix(), columns, source.n_counts, threads, source.where)

    def tokenize_rows(
        self,
        counts: sp.csr_matrix,
        columns: Columns,
        n_counts: npt.NDArray[np.float64] | None,
        threads: int = 1,
        where: object = "cells",
        start: int = 0,
    ) -> TokenSets:
        """Sequences of the rows of ``counts``, whose `columns` are known; messages count rows from ``start``."""
        matrix = _Rows(counts, where, start)
        try:
            return self._rows(matrix, columns, n_counts, threads)
        except _NotRising:
            return self._rows(matrix.rising(), columns, n_counts, threads)

    def _rows(self, matrix: _Rows, columns: Columns, n_counts: np.ndarray | None, threads: int) -> TokenSets:
        """Sequences of all rows; raises `_NotRising` where their columns have to be put in order first."""
        n_cells = len(matrix.indptr) - 1
        totals = np.empty(n_cells) if n_counts is None else n_counts
        special = (self.front >= 0) + (self.back >= 0)
        upper = np.zeros(n_cells + 1, dtype=np.int64)
        np.cumsum(np.minimum(np.diff(matrix.indptr), self.room) + special, out=upper[1:])
        out = np.empty(int(upper[-1]), dtype=np.int32)
        known, lengths = np.empty(n_cells, dtype=np.int32), np.empty(n_cells, dtype=np.int64)
        size = _UNIT_CELLS if threads > 1 else max(1, n_cells)
        units = [(a, min(a + size, n_cells)) for a in range(0, n_cells, size)]

        def work(unit: tuple[int, int]) -> int:
            at = int(upper[unit[0]])
            return self._unit(*unit, matrix, columns, totals, n_counts is None, out, at, known, lengths)

        if threads > 1 and len(units) > 1:
            with ThreadPoolExecutor(threads) as pool:
                ends = list(pool.map(work, units))
        else:
            ends = [work(unit) for unit in units]
        at = 0
        for (a, _), end in zip(units, ends, strict=True):  # units wrote where they would begin were all genes known
            begin = int(upper[a])
            if at != begin:
                out[at : at + end - begin] = out[begin:end]
            at += end - begin
        out.resize(at, refcheck=False)
        rows = np.flatnonzero(known)
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths[rows], out=offsets[1:])
        return TokenSets(out, offsets, rows, n_cells, known[rows])

    def _unit(
        self,
        a: int,
        b: int,
        matrix: _Rows,
        columns: Columns,
        totals: np.ndarray,
        sum_up: bool,
        out: np.ndarray,
        at: int,
        known: np.ndarray,
        lengths: np.ndarray,
    ) -> int:
        """Tokenize rows ``a`` to ``b`` into ``out`` from ``at`` on; the place behind them."""
        from hyped_seq.geneformer.rank_kernels import FINE, rank_keys, write_tokens

        blocks = list(_blocks(matrix.indptr, a, b))
        most = max((int(matrix.indptr[last] - matrix.indptr[first]) for first, last in blocks), default=0)
        longest = max((last - first for first, last in blocks), default=0)
        keys = np.empty(most + most // _PADDING, dtype=np.uint32)
        n_sums = min(most, longest * columns.n_groups)
        groups = (np.empty(n_sums, dtype=np.int32), np.empty(n_sums), np.empty(longest, dtype=np.int64))
        entries = (matrix.indptr, matrix.indices, matrix.data)
        for first, last in blocks:
            stored = np.diff(matrix.indptr[first : last + 1])
            starts, padded = _layout(stored)
            code, row = rank_keys(
                first, last, *entries, columns.scaled, columns.group, columns.n_groups,
                matrix.data.dtype.kind == "i", sum_up, totals, keys, starts, known[first:last], *groups,
            )  # fmt: skip
            if code != FINE:
                matrix.refuse(code, row, totals)
            sorted_to = self._sort(keys, stored, starts, padded)
            at = write_tokens(
                first, last, *entries, columns.narrow, columns.medians, self.dictionaries.series.target_sum, totals,
                keys, starts, known[first:last], sorted_to, columns.group, columns.n_groups, *groups, self.room,
                self.front, self.back, out, at, lengths[first:last],
            )  # fmt: skip
        return at

    def _sort(self, keys: np.ndarray, stored: np.ndarray, starts: np.ndarray, padded: bool) -> np.ndarray:
        """Sort each row's keys in place, of long rows the smallest that may be kept; how many of each are sorted."""
        most = self.room + _MARGIN
        if padded:
            blocks = [keys[: starts[-1]].reshape(len(stored), -1)]
        else:
            blocks = [keys[a:b] for a, b in itertools.pairwise(starts.tolist())]
        ready = stored
        for block in blocks:  # of any number of rows in one call where they are of one width
            if block.shape[-1] > most + most // 4:
                block.partition(most)
                block[..., :most].sort()
                ready = np.minimum(stored, most)
            else:
                block.sort()
        return ready


def _layout(stored: np.ndarray) -> tuple[np.ndarray, bool]:
    """Where the keys of rows with so many entries begin (and the last ends), all in one width if that costs little."""
    width, rows = int(stored.max()), len(stored)
    ends = np.cumsum(stored)
    padded = 0 < width * rows * _PADDING <= int(ends[-1]) * (_PADDING + 1)
    return (np.arange(rows + 1) * width if padded else np.concatenate([[0], ends])), padded


def _blocks(indptr: np.ndarray, a: int, b: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows with about `_BLOCK_ENTRIES` stored values each, one row at least."""
    first = a
    while first < b:
        last = int(np.searchsorted(indptr, indptr[first] + _BLOCK_ENTRIES, side="right")) - 1
        last = min(max(last, first + 1), b)
        yield first, last
        first = last


class _NotRising(Exception):
    """Columns of a row are not sorted, or one occurs twice."""


class _Rows:
    """Arrays of a CSR matrix in types that compiled code takes."""

    def __init__(self, counts: sp.csr_matrix, where: object, start: int) -> None:
        self.counts, self.where, self.start = counts, where, start
        self.indptr = np.asarray(counts.indptr, dtype=np.int64)
        self.indices = counts.indices
        self.data = _plain(counts.data, where)

    def rising(self) -> _Rows:
        """The same with sorted columns, and those that occur twice in a row summed; the matrix stays as it is."""
        check_counts(self.counts, self.where)
        wide = np.int64 if self.data.dtype.kind == "i" else np.float64  # a sum may be above what the type holds
        counts = self.counts.astype(wide, copy=True)
        counts.sum_duplicates()
        return _Rows(counts, self.where, self.start)

    def refuse(self, code: int, row: int, totals: np.ndarray) -> NoReturn:
        """Raise what `rank_keys` found wrong in ``row``."""
        from hyped_seq.geneformer.rank_kernels import NO_TOTAL, NOT_RISING

        if code == NOT_RISING:
            raise _NotRising
        if code == NO_TOTAL:
            raise InvalidDataError(
                f"n_counts of cell {self.start + row} is {totals[row]:g}, and it has counts",
                where=self.where,
                mend="give each cell's sum of counts, or leave n_counts out: it is then summed",
            )
        low, high = self.indptr[row], self.indptr[row + 1]
        one = (self.data[low:high], self.indices[low:high], [0, high - low])
        where = f"{self.where}, cell {self.start + row}"
        check_counts(sp.csr_matrix(one, shape=(1, self.counts.shape[1])), where)
        raise InvalidDataError(f"holds counts above {MOST}", where=where, mend="give raw counts")  # float32 blurs 2**31


def _plain(data: np.ndarray, where: object) -> np.ndarray:
    """Numbers as one of the four types that compiled code knows; most are passed on as they are."""
    if data.dtype in (np.int32, np.int64, np.float32, np.float64) and data.dtype.isnative:
        return data
    if data.dtype.kind in "biu":
        narrow = np.int32 if data.dtype.itemsize < 4 else np.int64
        return data.astype(narrow if data.dtype.itemsize <= 4 else np.float64)
    if data.dtype.kind == "f":
        return data.astype(np.float32 if data.dtype.itemsize <= 4 else np.float64)
    raise InvalidDataError(f"holds values of type {data.dtype}", where=where, mend="give raw counts")
