"""In-silico perturbation: of counts before they are encoded (mode ``expression``) or of encoded cells (mode ``token``).

Mode ``expression`` is Algorithm 1 of the HYPED paper; mode ``token`` is what Geneformer's own perturber does. They
differ where a cell has more known genes than its sequence holds: a gene taken out of the counts lets the next one in
at the end, a token taken out of a sequence that was cut before does not. And an activated gene comes first in mode
``token``, in mode ``expression`` where its count divided by its median puts it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError, UsageError
from hyped_seq.geneformer import perturbation_kernels as kernels
from hyped_seq.geneformer.id_hints import strip_versions, versioned
from hyped_seq.geneformer.tokens import TokenSets

if TYPE_CHECKING:
    from hyped_core.design import Perturbation
    from hyped_seq.geneformer.dictionaries import Dictionaries

Mode = Literal["expression", "token"]
Level = Literal["max", "above"]


@dataclass(frozen=True, slots=True)
class Edit:
    """One gene of a perturbation in the terms of a dictionary and of the data.

    Attributes
    ----------
    gene : as the perturbation names it.
    gene_id, token : in the dictionary.
    direction : ``activation`` or ``suppression``.
    columns : columns of the counts that hold the gene, ascending; none for a gene to be activated that the data lack.
    """

    gene: str
    gene_id: str
    token: int
    direction: Literal["activation", "suppression"]
    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GeneRecord:
    """What became of one gene. Ranks count genes from 1, the highest value; special tokens are not counted.

    Attributes
    ----------
    gene, gene_id, direction : what was asked for.
    column_added : the data had no column for the gene, and it was taken as not expressed.
    share_expressed : share of the cells that had a count of it.
    share_in_sequence : share of the cells in whose sequence, cut to what the model holds, it was.
    rank_before : median rank it had in the cells that expressed it, uncut; None where none did.
    rank_median, rank_min, rank_max : ranks an activated gene reached, uncut; None for a suppressed one.
    share_cut : share of the cells in which the rank reached lies beyond the end of the sequence: nothing was changed
        there but, at most, the genes around the gene's old place. None for a suppressed gene.
    """

    gene: str
    gene_id: str
    direction: str
    column_added: bool
    share_expressed: float
    share_in_sequence: float
    rank_before: float | None
    rank_median: float | None
    rank_min: int | None
    rank_max: int | None
    share_cut: float | None


@dataclass(frozen=True, slots=True)
class Perturbed:
    """Which perturbation ran, in which mode, and what it did to its genes.

    Attributes
    ----------
    mode, level : as they ran; ``level`` is None in mode ``token``.
    n_cells : cells it was applied to.
    genes : one record a gene, in the perturbation's order.
    """

    mode: Mode
    level: Level | None
    n_cells: int
    genes: tuple[GeneRecord, ...]

    def as_dict(self) -> dict[str, Any]:
        """The record as plain values for JSON."""
        return asdict(self) | {"genes": [asdict(gene) for gene in self.genes]}


def edits_of(
    perturbation: Perturbation,
    dictionaries: Dictionaries,
    gene_ids: Sequence[str],
    names: Sequence[str] = (),
    *,
    add_absent: bool = False,
    held: str = 'var["gene_id"]',
) -> tuple[Edit, ...]:
    """Look up the genes of a perturbation in the dictionary and among the data's ``gene_ids``.

    With ``add_absent`` a gene to be activated may be absent from the data (a panel without it) and counts as not
    expressed in any cell. One to be suppressed may never be, since nothing would happen, nor one that the data have by
    name under an id that the dictionary does not know. ``names`` are the gene names of the ids; ``held`` says where the
    data have the ids, for messages.

    Raises
    ------
    UnknownNameError or InvalidDataError
        A gene is not in the dictionary, not in the data or there under another id; a gene is named twice.
    """
    positions = dictionaries.position(gene_ids)
    found: list[Edit] = []
    for change in perturbation.changes:
        gene_id = dictionaries.gene_id(change.gene)
        place = int(dictionaries.position([gene_id])[0])
        columns = tuple(map(int, np.flatnonzero(positions == place)))
        if any(edit.gene_id == gene_id for edit in found):
            raise InvalidDataError(
                f"gene {change.gene} ({gene_id}) is changed twice",
                where=f"perturbation {perturbation.name}",
                mend="name each gene once",
            )
        up = change.direction == "activation"
        if not columns:
            called = {change.gene.upper()} | {s.upper() for s, gene in dictionaries.symbols.items() if gene == gene_id}
            namesakes = [j for j, name in enumerate(names) if str(name).upper() in called]
            unknown = [j for j in namesakes if positions[j] < 0]
            where = f"perturbation {perturbation.name}"
            if unknown or (namesakes and not (up and add_absent)):
                raise _under_another_id(change.gene, gene_id, gene_ids[(unknown or namesakes)[0]], held, where)
            if not (up and add_absent):
                others = [str(name) for name in names if str(name).upper() not in called]
                raise _absent(change.gene, gene_id, up, len(gene_ids), others, where)
        found.append(Edit(change.gene, gene_id, int(dictionaries.tokens[place]), change.direction, columns))
    return tuple(found)


def _under_another_id(gene: str, gene_id: str, other: str, held: str, where: str) -> InvalidDataError:
    """The error for a gene whose name the data have, under ``other`` as its id."""
    return InvalidDataError(
        f"gene {gene} is among the data's genes, but "
        + (f"its id there is {other!r}, not {gene_id}" if other else f"has no id there; {gene_id} is expected"),
        where=where,
        mend=strip_versions(held) if versioned([other]) else f'put {gene_id} into var["gene_id"]',
    )


def _absent(gene: str, gene_id: str, up: bool, n_genes: int, others: Sequence[str], where: str) -> InvalidDataError:
    """The error for a gene that the data, whose genes are called ``others``, do not have."""
    close = difflib.get_close_matches(gene, others, n=3)
    mends = [f"did you mean {', '.join(close)}?"] if close else []
    mends.append("give cells with counts of it, or leave it out")
    if up:
        mends.append("or set add_absent (--add-absent) to take it as not expressed where the panel lacks it")
    return InvalidDataError(
        f"gene {gene} ({gene_id}) is to be {'activated' if up else 'suppressed'} and is not among the "
        f"data's {n_genes} genes",
        where=where,
        mend="; ".join(mends),
    )


def perturb_counts(
    counts: sp.csr_matrix,
    columns_up: Sequence[int | Sequence[int]],
    columns_down: Sequence[int | Sequence[int]],
    *,
    level: Level = "max",
    medians: npt.NDArray[np.float64] | None = None,
) -> sp.csr_matrix:
    """Counts after activation and suppression, as a new matrix with ascending columns and no stored zeros.

    With ``level="max"`` an activated gene gets the largest count that the cell has in any column before anything is
    changed (the paper's ``x[MYOD] <- max(x)``); after division by its median it need not come first. With ``"above"``
    it gets the smallest whole number above that maximum whose value count / median exceeds every other gene's, the
    first of several genes on top. Suppressed genes get 0. A cell without counts is left without. The cell's total, by
    which values are scaled, is to stay what it was: it scales all genes of a cell alike.

    Parameters
    ----------
    counts : (cells, columns) raw counts.
    columns_up, columns_down : a column, or all columns, of each gene; of several the first gets the count and the
        others 0, so that a sum over them is that count.
    medians : (columns,) the dictionary's median of each column's gene, NaN where it has none; needed for ``"above"``.

    Raises
    ------
    UsageError
        A column is named twice or lies outside, or ``"above"`` without the medians of the activated genes.
    """
    up, down = (
        [np.atleast_1d(np.asarray(gene, dtype=np.int64)) for gene in part] for part in (columns_up, columns_down)
    )
    columns = np.concatenate([*up, *down, np.empty(0, dtype=np.int64)])
    if len(np.unique(columns)) < len(columns) or (
        columns.size and not 0 <= columns.min() <= columns.max() < counts.shape[1]
    ):
        raise UsageError(
            f"columns {columns.tolist()} are not different columns of {counts.shape[1]}", where="perturb_counts"
        )
    first = np.array([gene[0] for gene in up], dtype=np.int64)
    if medians is None:
        medians = np.full(counts.shape[1], np.nan)
    if level == "above" and not (medians[first] > 0).all():
        raise UsageError(
            "level 'above' needs the median of each activated gene", where="perturb_counts", mend="give medians"
        )
    source = canonical(counts)
    changed = np.zeros(counts.shape[1], dtype=bool)
    changed[columns] = True
    # the first gene is the highest: targets are made in the given order, written in that of the columns
    targets = kernels.row_targets(
        source.indptr, source.data, source.indices, medians[first], np.where(changed, np.nan, medians), level == "above"
    )
    order = np.argsort(first)
    targets = np.ascontiguousarray(targets[:, order])
    indptr = kernels.row_sizes(source.indptr, source.indices, changed, targets)
    data = np.empty(indptr[-1], dtype=_type_for(source.dtype, int(targets.max(initial=0))))
    indices = np.empty(indptr[-1], dtype=source.indices.dtype)
    kernels.write_rows(
        source.indptr, source.indices, source.data, changed, first[order], targets, indptr, indices, data
    )
    out = sp.csr_matrix((data, indices, indptr.astype(source.indptr.dtype, copy=False)), shape=counts.shape)
    out.has_canonical_format = True
    return out


def canonical(counts: sp.csr_matrix) -> sp.csr_matrix:
    """CSR with one entry a place and no stored zeros, ``counts`` itself where it is so already."""
    source = sp.csr_matrix(counts)
    if source.has_canonical_format and (source.data != 0).all():
        return source
    source = source.copy()
    source.sum_duplicates()
    source.eliminate_zeros()
    return source


def _type_for(dtype: np.dtype, largest: int) -> np.dtype:
    """``dtype`` where it holds ``largest`` exactly, else the wide one of its kind."""
    if dtype.kind == "f":
        return dtype if largest <= 2 ** (np.finfo(dtype).nmant + 1) else np.dtype(np.float64)
    return dtype if largest <= np.iinfo(dtype).max else np.dtype(np.int64)


def perturb_tokens(
    tokens: TokenSets,
    up: Sequence[int],
    down: Sequence[int],
    dictionaries: Dictionaries,
    max_tokens: int | None = None,
) -> TokenSets:
    """Sequences after tokens were moved to the front and removed, as Geneformer's own perturber does on cut sequences.

    Activated tokens are removed where present and put in front (behind ``<cls>``) in the order of ``up``; suppressed
    ones are removed; what is then too long for ``max_tokens`` loses its last genes, not ``<eos>``. A sequence left
    without a gene is dropped. ``n_genes`` counts genes that were put in or taken out of the sequence.

    Raises
    ------
    UsageError
        A token is named twice or is no gene's, or more are activated than a sequence holds.
    """
    series = dictionaries.series
    limit = series.max_tokens if max_tokens is None else max_tokens
    named = [*up, *down]
    if len(set(named)) < len(named) or min(named, default=99) < len(series.specials):
        raise UsageError(f"tokens {named} are not different tokens of genes", where="perturb_tokens")
    if len(up) > series.room(limit):
        raise UsageError(
            f"{len(up)} genes are activated, a sequence holds {series.room(limit)}", where="perturb_tokens"
        )
    ups, downs = np.asarray(up, dtype=np.int32), np.asarray(down, dtype=np.int32)
    specials = 2 if series.special else 0
    sizes = np.zeros(len(tokens), dtype=np.int64)
    changes = np.zeros((len(tokens), 2), dtype=np.int64)
    kernels.edited_sizes(tokens.tokens, tokens.offsets, ups, downs, specials, limit, sizes, changes)
    kept = np.flatnonzero(sizes)
    offsets = np.concatenate([[0], np.cumsum(sizes[kept])]).astype(np.int64)
    out = np.empty(offsets[-1], dtype=np.int32)
    kernels.write_edited(tokens.tokens, tokens.offsets, ups, downs, specials, out, offsets, kept)
    n_genes = (tokens.n_genes + changes[:, 0] - changes[:, 1])[kept].astype(np.int32)
    return TokenSets(out, offsets, tokens.rows[kept], tokens.n_cells, n_genes)


def paired_original(
    tokens: TokenSets, up: Sequence[int], dictionaries: Dictionaries, max_tokens: int | None = None
) -> TokenSets:
    """The unperturbed sequences shortened by as many tokens as `perturb_tokens` with ``up`` had to cut off.

    Both then hold the same other genes (but for an activated gene that itself stands among the last ones), as
    Geneformer's own perturber compares them. Sequences that do not overflow stay as they are.
    """
    series = dictionaries.series
    limit = series.max_tokens if max_tokens is None else max_tokens
    specials = 2 if series.special else 0
    sizes = np.zeros(len(tokens), dtype=np.int64)
    changes = np.zeros((len(tokens), 2), dtype=np.int64)
    ups, none = np.asarray(up, dtype=np.int32), np.empty(0, dtype=np.int32)
    kernels.edited_sizes(tokens.tokens, tokens.offsets, ups, none, specials, limit, sizes, changes)
    overflow = np.maximum(tokens.lengths + changes[:, 0] - limit, 0)
    lengths = tokens.lengths - overflow
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    out = np.empty(offsets[-1], dtype=np.int32)
    everything = np.arange(len(tokens))
    kernels.write_edited(tokens.tokens, tokens.offsets, none, none, specials, out, offsets, everything)
    return TokenSets(out, offsets, tokens.rows, tokens.n_cells, tokens.n_genes)


def record(
    mode: Mode,
    level: Level,
    edits: Sequence[Edit],
    before: npt.NDArray[np.int32],
    after: npt.NDArray[np.int32],
    room: int,
) -> Perturbed:
    """Sum up ranks into a `Perturbed`.

    Parameters
    ----------
    before, after : (cells, genes) ranks, uncut, 0 where the gene is not there; columns as ``edits``.
    room : genes a sequence holds.
    """
    genes = []
    for j, edit in enumerate(edits):
        had, reached = before[:, j], after[after[:, j] > 0, j]
        up = edit.direction == "activation"
        genes.append(
            GeneRecord(
                gene=edit.gene,
                gene_id=edit.gene_id,
                direction=edit.direction,
                column_added=not edit.columns,
                share_expressed=_share(had > 0),
                share_in_sequence=_share((had > 0) & (had <= room)),
                rank_before=float(np.median(had[had > 0])) if (had > 0).any() else None,
                rank_median=float(np.median(reached)) if up and len(reached) else None,
                rank_min=int(reached.min()) if up and len(reached) else None,
                rank_max=int(reached.max()) if up and len(reached) else None,
                share_cut=_share(reached > room) if up else None,
            )
        )
    return Perturbed(mode, level if mode == "expression" else None, len(before), tuple(genes))


def _share(true: npt.NDArray[np.bool_]) -> float:
    return round(float(true.mean()), 6) if len(true) else 0.0
