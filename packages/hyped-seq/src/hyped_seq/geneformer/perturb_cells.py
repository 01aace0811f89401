"""`perturb_cells`: cells to their sequences after a perturbation, in either mode, with the ranks its genes reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hyped_core.errors import UsageError
from hyped_seq.geneformer import perturbation_kernels as kernels
from hyped_seq.geneformer.cell_chunks import CellChunk, CellSource, open_cells
from hyped_seq.geneformer.perturbation import (
    Edit,
    Level,
    Mode,
    Perturbed,
    canonical,
    edits_of,
    perturb_counts,
    perturb_tokens,
    record,
)
from hyped_seq.geneformer.tokens import TokenSets

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_core.design import Perturbation
    from hyped_seq.geneformer.tokenizer import Columns, Tokenizer

Ranks = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PerturbedCells:
    """Sequences of perturbed cells.

    Attributes
    ----------
    tokens : the sequences.
    edits : the genes of the perturbation.
    before, after : (cells, genes) rank of each gene in each cell, 1 the highest, uncut; 0 where it is not there.
    room : genes a sequence holds.
    mode, level : as they ran.
    """

    tokens: TokenSets
    edits: tuple[Edit, ...]
    before: Ranks
    after: Ranks
    room: int
    mode: Mode
    level: Level

    def record(self) -> Perturbed:
        """What was done, summed up."""
        return record(self.mode, self.level, self.edits, self.before, self.after, self.room)

    def joined(self, earlier: PerturbedCells | None) -> PerturbedCells:
        """Ranks of these cells below those of cells that had the same perturbation before; the sequences are these."""
        if earlier is None:
            return self
        before, after = (np.concatenate(pair) for pair in ((earlier.before, self.before), (earlier.after, self.after)))
        return replace(self, before=before, after=after)


def perturb_cells(
    cells: AnnData,
    perturbation: Perturbation,
    tokenizer: Tokenizer,
    *,
    mode: Mode = "expression",
    level: Level = "max",
    add_absent: bool = False,
    context: RunContext,
) -> PerturbedCells:
    """Perturb cells and encode them.

    With ``add_absent`` a gene to be activated that the data have no column for counts as not expressed; without, it is
    an error.

    Counts, gene ids and totals are taken as by `Tokenizer.tokenize_cells`. A cell's total stays what it was. In series
    V2 columns whose ids mean one gene are summed first, so that a cell's largest count is that of a gene. Cells without
    a known gene get no sequence in either mode, as unperturbed.

    Raises
    ------
    UsageError
        There is no such mode or level.
    InvalidDataError
        As `edits_of` and `Tokenizer.tokenize`: a gene that is not known, values that are no counts.
    """
    if mode not in ("expression", "token") or level not in ("max", "above"):
        raise UsageError(
            f"there is no mode {mode!r} with level {level!r}", where="mode", mend="expression or token; max or above"
        )
    with open_cells(cells) as source:
        plan = _Plan(source, perturbation, tokenizer, mode, level, add_absent)
        parts = [plan.chunk(chunk, context.threads) for chunk in source.chunks()]
        tokens = join([part[0] for part in parts], [chunk_rows for *_, chunk_rows in parts])
        shape = (0, len(plan.edits))
        before, after = (
            np.concatenate([np.zeros(shape, dtype=np.int32), *(part[i] for part in parts)]) for i in (1, 2)
        )
    return PerturbedCells(tokens, plan.edits, before, after, tokenizer.room, mode, level)


class _Plan:
    """What is the same for every chunk of cells."""

    def __init__(
        self,
        source: CellSource,
        perturbation: Perturbation,
        tokenizer: Tokenizer,
        mode: Mode,
        level: Level,
        add_absent: bool,
    ) -> None:
        dictionaries = tokenizer.dictionaries
        self.tokenizer, self.mode, self.level, self.where = tokenizer, mode, level, source.where
        tokenizer.columns(source.gene_ids, source.where, source.held)  # before a gene that is added hides bad ids
        self.sums, kept = _shared_columns(dictionaries.position(source.gene_ids), tokenizer)
        ids = list(source.gene_ids[kept])
        edits = edits_of(
            perturbation,
            dictionaries,
            source.gene_ids.tolist(),
            source.symbols.tolist(),
            add_absent=add_absent,
            held=source.held,
        )
        self.edits = edits if self.sums is None else tuple(_summed(edit, self.sums) for edit in edits)
        added = [edit.gene_id for edit in self.edits if not edit.columns]
        self.width = len(ids) + len(added)
        at = iter(range(len(ids), self.width))
        places = [list(edit.columns) or [next(at)] for edit in self.edits]
        up = [edit.direction == "activation" for edit in self.edits]
        self.up = [place for place, is_up in zip(places, up, strict=True) if is_up]
        self.down = [place for place, is_up in zip(places, up, strict=True) if not is_up]
        self.columns: Columns = tokenizer.columns([*ids, *added], source.where)
        known = dictionaries.position([*ids, *added]) >= 0
        self.medians = np.where(known, self.columns.medians, np.nan)
        self.tokens = np.where(known, self.columns.tokens, -1).astype(np.int32)

    def chunk(self, chunk: CellChunk, threads: int) -> tuple[TokenSets, Ranks, Ranks, int]:
        """Sequences and ranks of a chunk of cells, and its number of cells."""
        counts = canonical(chunk.counts if self.sums is None else chunk.counts @ self.sums)
        wide = sp.csr_matrix((counts.data, counts.indices, counts.indptr), shape=(counts.shape[0], self.width))
        wide.has_canonical_format = True
        before = self._ranks(wide, chunk.n_counts)
        if self.mode == "expression":
            changed = perturb_counts(self._with_known(wide), self.up, self.down, level=self.level, medians=self.medians)
            tokens = self._tokenize(changed, chunk, threads)
            return tokens, before, self._ranks(changed, chunk.n_counts), wide.shape[0]
        ups = [edit.token for edit in self.edits if edit.direction == "activation"]
        downs = [edit.token for edit in self.edits if edit.direction == "suppression"]
        tokens = perturb_tokens(
            self._tokenize(wide, chunk, threads), ups, downs, self.tokenizer.dictionaries, self.tokenizer.max_tokens
        )
        after = np.zeros_like(before)
        specials = 2 if self.tokenizer.dictionaries.series.special else 0
        for j, edit in enumerate(self.edits):
            after[tokens.rows, j] = kernels.token_places(tokens.tokens, tokens.offsets, specials, edit.token)
        return tokens, before, after, wide.shape[0]

    def _with_known(self, counts: sp.csr_matrix) -> sp.csr_matrix:
        """Counts without those of cells that have no known gene: a gene activated there would be a cell of its own."""
        stored = np.diff(counts.indptr)
        known = np.zeros(len(stored), dtype=bool)
        known[np.repeat(np.arange(len(stored)), stored)[self.tokens[counts.indices] >= 0]] = True
        if known.all():
            return counts
        entries, stored = np.repeat(known, stored), np.where(known, stored, 0)
        parts = (counts.data[entries], counts.indices[entries], np.concatenate([[0], np.cumsum(stored)]))
        kept = sp.csr_matrix(parts, shape=counts.shape)
        kept.has_canonical_format = True
        return kept

    def _tokenize(self, counts: sp.csr_matrix, chunk: CellChunk, threads: int) -> TokenSets:
        return self.tokenizer.tokenize_rows(counts, self.columns, chunk.n_counts, threads, self.where, chunk.start)

    def _ranks(self, counts: sp.csr_matrix, n_counts: npt.NDArray[np.float64]) -> Ranks:
        ranks = np.zeros((counts.shape[0], len(self.edits)), dtype=np.int32)
        target = self.tokenizer.dictionaries.series.target_sum
        for j, edit in enumerate(self.edits):
            ranks[:, j] = kernels.column_ranks(
                counts.indptr, counts.indices, counts.data, n_counts, self.medians, self.tokens, target, edit.token
            )
        return ranks


def _shared_columns(
    positions: npt.NDArray[np.int64], tokenizer: Tokenizer
) -> tuple[sp.csr_matrix | None, npt.NDArray[np.int64]]:
    """A matrix that sums columns of one gene onto the first of them, and which are left; None where none share one."""
    known = positions[positions >= 0]
    if not tokenizer.dictionaries.series.collapse or len(np.unique(known)) == len(known):
        return None, np.arange(len(positions))
    first: dict[int, int] = {}
    owner = [first.setdefault(int(p), j) if p >= 0 else j for j, p in enumerate(positions)]
    kept = sorted(set(owner))
    target = {j: k for k, j in enumerate(kept)}
    entries = (np.ones(len(owner), dtype=np.int64), (np.arange(len(owner)), [target[j] for j in owner]))
    return sp.csr_matrix(entries, shape=(len(owner), len(kept))), np.array(kept, dtype=np.int64)


def _summed(edit: Edit, sums: sp.csr_matrix) -> Edit:
    """The edit with the columns that its own are summed onto; ``sums`` has one entry in each row."""
    return replace(edit, columns=tuple(sorted({int(sums.indices[j]) for j in edit.columns})))


def join(parts: Sequence[TokenSets], n_cells: Sequence[int]) -> TokenSets:
    """Sequences of consecutive chunks of cells as one; ``n_cells`` are the chunks' numbers of cells."""
    starts = np.concatenate([[0], np.cumsum(n_cells)]).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum([len(part.tokens) for part in parts])]).astype(np.int64)
    return TokenSets(
        np.concatenate([np.empty(0, dtype=np.int32), *(part.tokens for part in parts)]),
        np.concatenate([[0], *(part.offsets[1:] + end for part, end in zip(parts, ends, strict=False))]).astype(
            np.int64
        ),
        np.concatenate(
            [np.empty(0, dtype=np.int64), *(p.rows + start for p, start in zip(parts, starts, strict=False))]
        ),
        int(starts[-1]),
        np.concatenate([np.empty(0, dtype=np.int32), *(part.n_genes for part in parts)]),
    )
