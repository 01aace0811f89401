"""Differential isoform usage: given a gene's molecules per cell, is their split over its transcripts the same?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError
from hyped_seq.annotate.change_params import IsoformParams
from hyped_seq.annotate.contrasts import Contrast, Stratum, benjamini_hochberg

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

OTHER = "other"
"""Name of a gene's rare transcripts taken together."""

NO_GENE = ("", "-", "nan", "None")
"""What stands for no gene in the columns ``gene_id`` and ``symbol``."""

COLUMNS = (
    "contrast", "group", "reference", "phase", "rank", "gene", "gene_id", "n_transcripts", "transcript",
    "delta", "share_group", "share_reference", "second_transcript", "second_delta", "overdispersion",
    "f_statistic", "df", "df_residual", "p_value", "p_adjusted", "molecules_group", "molecules_reference",
    "cells_group", "cells_reference", "n_group", "n_reference", "warning", "inference",
)  # fmt: skip


@dataclass(frozen=True)
class TranscriptGroups:
    """The features that are tested: frequent transcripts, and one ``other`` a gene; sorted by gene.

    Attributes
    ----------
    feature : (transcripts,) the feature each column of the matrix counts for; -1: none.
    gene : (features,) gene of each feature; rises.
    names : (features,) transcript id or `OTHER`.
    symbols, gene_ids : (genes,).
    record : how many transcripts and genes were left out, and why.
    """

    feature: IntArray
    gene: IntArray
    names: npt.NDArray[np.object_]
    symbols: npt.NDArray[np.object_]
    gene_ids: npt.NDArray[np.object_]
    record: dict[str, int]

    @cached_property
    def starts(self) -> IntArray:
        """(genes + 1,) first feature of each gene, and the number of features."""
        return np.searchsorted(self.gene, np.arange(len(self.symbols) + 1)).astype(np.int64)

    @cached_property
    def pair_starts(self) -> IntArray:
        """(genes + 1,) first pair of features of each gene, and the number of pairs."""
        return np.concatenate([[0], np.cumsum(np.diff(self.starts) ** 2)]).astype(np.int64)

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray]:
        """(pairs,) the two features of each pair: all pairs of a gene, by row and column."""
        width = np.diff(self.starts)
        gene = np.repeat(np.arange(len(width)), width**2)
        place = np.arange(len(gene)) - self.pair_starts[gene]
        return self.starts[gene] + place // width[gene], self.starts[gene] + place % width[gene]


def group_transcripts(molecules: npt.ArrayLike, var: pd.DataFrame, params: IsoformParams) -> TranscriptGroups:
    """Choose transcripts by their molecules over all tested cells, whatever the condition.

    ``var`` has ``gene_id`` or ``symbol``, and ``transcript_id`` (else the index). A transcript stays on its own
    with ``min_molecules`` and ``min_share`` of its gene; the others of the gene are lumped, and left out where
    even together they have fewer than ``min_molecules``. Genes with one feature have no split to test.

    Raises
    ------
    InvalidDataError
        ``var`` has neither ``gene_id`` nor ``symbol``.
    """
    total = np.asarray(molecules, dtype=np.float64)
    if not {"gene_id", "symbol"} & set(var.columns):
        raise InvalidDataError(
            f"has no gene of each transcript, only {', '.join(map(str, var.columns)) or 'no columns'}",
            where="isoform var",
            mend="add a column gene_id or symbol (ingest takes them from a GTF with transcripts)",
        )
    ids = _texts(var, "transcript_id", var.index)
    symbols = _texts(var, "symbol", var.get("gene_id"))
    keys = np.where(np.isin(gene_ids := _texts(var, "gene_id", var.get("symbol")), NO_GENE), symbols, gene_ids)
    known = ~np.isin(keys, NO_GENE)
    _, first, gene = np.unique(keys, return_index=True, return_inverse=True)
    of_gene = np.bincount(gene, total)
    frequent = known & (total >= params.min_molecules) & (total >= params.min_share * of_gene[gene])
    rare = known & ~frequent & (total > 0)
    lumped = np.bincount(gene, total * rare)
    rare &= lumped[gene] >= params.min_molecules
    features = np.bincount(gene, frequent) + (np.bincount(gene, rare) > 0)
    tested = features >= 2
    record = {
        "transcripts": len(total),
        "transcripts_without_gene": int((~known).sum()),
        "transcripts_own": int((frequent & tested[gene]).sum()),
        "transcripts_as_other": int((rare & tested[gene]).sum()),
        "genes": int(len(np.unique(gene[known]))),
        "genes_with_one_transcript": int((np.bincount(gene, known) == 1).sum()),
        "genes_testable": int(tested.sum()),
    }
    rows = np.flatnonzero((frequent | rare) & tested[gene])
    is_other = rare[rows]
    label = np.where(is_other, len(total), rows)  # within a gene the lumped ones come last, as one
    pairs, feature_of_row = np.unique(np.column_stack([gene[rows], label]), axis=0, return_inverse=True)
    chosen, gene_of_feature = np.unique(pairs[:, 0], return_inverse=True)
    feature = np.full(len(total), -1, np.int64)
    feature[rows] = feature_of_row.ravel()
    names = np.append(ids, OTHER)[pairs[:, 1]] if len(pairs) else np.empty(0, object)
    named = np.where(np.isin(symbols, NO_GENE), keys, symbols)[first[chosen]]
    return TranscriptGroups(
        feature, gene_of_feature.astype(np.int64), names.astype(object), named, gene_ids[first[chosen]], record
    )


def _texts(var: pd.DataFrame, column: str, otherwise: Any) -> npt.NDArray[np.object_]:
    """A column as an array of str; ``otherwise`` where there is none."""
    values = var[column] if column in var else otherwise
    return pd.Series(np.asarray(values), dtype=object).astype(str).to_numpy(dtype=object)


@dataclass(frozen=True, slots=True)
class UsageSums:
    """What the test needs to know of some cells; the sums of disjoint cells add.

    With y the molecules of a feature in a cell and n those of its gene there:

    Attributes
    ----------
    y, ny : (..., features) sums over cells of y and of n y.
    yy : (..., pairs) sums over cells of the products of two features' y.
    n, n2, cells : (..., genes) sums over cells of n and n squared, and cells with n > 0.
    """

    y: FloatArray
    ny: FloatArray
    yy: FloatArray
    n: FloatArray
    n2: FloatArray
    cells: FloatArray

    def of(self, classes: npt.ArrayLike) -> UsageSums:
        """The sums of some classes (first axis) together."""
        rows = np.asarray(classes, dtype=np.int64)
        return UsageSums(*(getattr(self, name)[rows].sum(axis=0) for name in self.__slots__))


def usage_sums(
    counts: sp.csr_matrix, groups: TranscriptGroups, classes: npt.NDArray[np.integer], n_classes: int
) -> UsageSums:
    """`UsageSums` of each class of cells; cells of class -1 are left out. One pass over the matrix."""
    from hyped_seq.annotate.isoform_sums import class_sums

    return UsageSums(
        *class_sums(
            counts.indptr,
            counts.indices,
            counts.data,
            np.asarray(classes, dtype=np.int64),
            groups.feature,
            groups.gene,
            groups.starts,
            groups.pair_starts,
            n_classes,
        )
    )


def compare_usage(
    group: UsageSums, reference: UsageSums, groups: TranscriptGroups, params: IsoformParams
) -> pd.DataFrame:
    r"""Test of every gene that has enough molecules on both sides.

    With :math:`N` the molecules of a gene on a side, :math:`p_k` the pooled and :math:`d_k` the difference of the
    sides' shares of transcript k,

    .. math:: X^2 = \frac{N_A N_B}{N_A + N_B} \sum_k \frac{d_k^2}{p_k}, \quad
              \delta = \frac{m}{m - 1} \frac{1}{(K - 1) N} \sum_k \sum_i \frac{(y_{ik} - n_i \hat p_k)^2}{\hat p_k}

    X^2 is Pearson's; :math:`\delta` is the design effect of a side, estimated over its m cells about the side's
    own shares: 1 where molecules are independent, more where those of a cell resemble one another. The statistic
    is :math:`F = X^2 / ((K - 1) D)` with :math:`D = (N_B \delta_A + N_A \delta_B) / (N_A + N_B)`. Where cells of
    several kinds are mixed, the spread lies along few directions; so the degrees of freedom are those of
    Satterthwaite, :math:`\mathrm{tr}(M)^2 / \mathrm{tr}(M^2)` of the covariance M of :math:`d_k / \sqrt{p_k}`
    over cells, between 1 and K - 1 (the second-order correction of Rao and Scott 1981, doi:10.2307/2287815, with
    cells as clusters). A side counts as :math:`(\sum n)^2 / \sum n^2` cells in the residual degrees of freedom.
    Transcripts of which fewer than ``min_expected`` molecules are expected on a side stay out of the sum, and
    their part of K - 1 too. The gene's total never enters: twice the molecules with the same split change nothing.

    Returns
    -------
    A row a tested gene: ``row`` (its number in ``groups``) and the figures of `COLUMNS`.
    """
    from scipy.stats import f as f_distribution

    enough = np.ones(len(groups.symbols), dtype=bool)
    for side in (group, reference):
        enough &= (side.n >= params.min_gene_molecules) & (side.cells >= params.min_gene_cells)
    gene, starts = groups.gene, groups.starts[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        n = group.n + reference.n
        pooled = (group.y + reference.y) / n[gene]
        shares = [side.y / side.n[gene] for side in (group, reference)]
        delta = shares[0] - shares[1]
        used = np.minimum(group.n, reference.n)[gene] * pooled >= params.min_expected
        df = np.add.reduceat(np.where(used, 1 - pooled, 0.0), starts)
        size = np.add.reduceat(np.where(used, delta**2 / pooled, 0.0), starts) * group.n * reference.n / n
        effects = [_design_effect(side, gene, starts) for side in (group, reference)]
        # a side with one transcript alone says nothing of its spread: it borrows the other's
        own = [np.where(np.isfinite(one), one, other) for one, other in (effects, effects[::-1])]
        parts = reference.n * own[0] / n, group.n * own[1] / n
        spread = parts[0] + parts[1]
        cells = [np.maximum(side.n**2 / side.n2 - 1, 0.5) for side in (group, reference)]
        df_shape = np.clip(_effective_df(group, reference, groups, pooled, used, cells), 1.0, df)
        df_shape = np.where(np.isfinite(df_shape), df_shape, df)
        df_residual = df_shape * spread**2 / (parts[0] ** 2 / cells[0] + parts[1] ** 2 / cells[1])
        statistic = size / (df * spread)
    tested = np.flatnonzero(enough & (df > 0) & np.isfinite(statistic) & (df_residual > 0))
    p_value = f_distribution.sf(statistic[tested], df_shape[tested], df_residual[tested])
    order = np.lexsort((np.arange(len(gene)), -np.abs(np.nan_to_num(delta)), gene))
    biggest, second = order[starts[tested]], order[starts[tested] + 1]
    return pd.DataFrame(
        {
            "row": tested,
            "n_transcripts": np.diff(groups.starts)[tested],
            "transcript": groups.names[biggest],
            "delta": delta[biggest],
            "share_group": shares[0][biggest],
            "share_reference": shares[1][biggest],
            "second_transcript": groups.names[second],
            "second_delta": delta[second],
            "overdispersion": spread[tested],
            "f_statistic": statistic[tested],
            "df": df_shape[tested],
            "df_residual": df_residual[tested],
            "p_value": p_value,
            "p_adjusted": benjamini_hochberg(p_value),
            "molecules_group": group.n[tested].astype(np.int64),
            "molecules_reference": reference.n[tested].astype(np.int64),
            "cells_group": group.cells[tested].astype(np.int64),
            "cells_reference": reference.cells[tested].astype(np.int64),
        }
    )


def _design_effect(side: UsageSums, gene: IntArray, starts: IntArray) -> FloatArray:
    """(genes,) design effect about the side's own shares; NaN where it has one transcript."""
    share = side.y / side.n[gene]
    squares = side.yy[_diagonal(starts, len(gene))]
    residual = squares - 2 * share * side.ny + share**2 * side.n2[gene]
    seen = side.y > 0
    extra = np.add.reduceat(seen.astype(float), starts) - 1
    total = np.add.reduceat(np.where(seen, residual / share, 0.0), starts)
    return np.where(extra > 0, total / (extra * side.n) * side.cells / (side.cells - 1), np.nan)


def _diagonal(starts: IntArray, n_features: int) -> IntArray:
    """(features,) the pair of each feature with itself."""
    width = np.diff(np.append(starts, n_features))
    first = np.cumsum(width**2) - width**2
    place = np.arange(n_features) - np.repeat(starts, width)
    return np.repeat(first, width) + place * (np.repeat(width, width) + 1)


def _effective_df(
    group: UsageSums,
    reference: UsageSums,
    groups: TranscriptGroups,
    pooled: FloatArray,
    used: npt.NDArray[np.bool_],
    cells: Sequence[FloatArray],
) -> FloatArray:
    """(genes,) tr(M)^2 / tr(M^2) of the covariance M of the differences of shares over the root of ``pooled``.

    The square of an estimated covariance has its noise in it: each side's is corrected as that of a Wishart matrix
    with as many degrees of freedom as ``cells``.
    """
    row, column = groups.pairs
    starts = groups.pair_starts[:-1]
    gene = groups.gene[row]
    scale = np.where(used[row] & used[column], 1 / np.sqrt(pooled[row] * pooled[column]), 0.0)
    sides, traces, squares = [], [], []
    for side, freedom in zip((group, reference), cells, strict=True):
        share = side.y / side.n[groups.gene]
        covariance = side.yy - share[row] * side.ny[column] - side.ny[row] * share[column]
        covariance += share[row] * share[column] * side.n2[gene]
        covariance *= scale / side.n[gene] ** 2
        trace = np.add.reduceat(np.where(row == column, covariance, 0.0), starts)
        square = np.add.reduceat(covariance**2, starts)
        freedom = np.maximum(freedom, 2.0)
        squares.append(freedom**2 / ((freedom - 1) * (freedom + 2)) * (square - trace**2 / freedom))
        sides.append(covariance)
        traces.append(trace)
    total = np.maximum(squares[0], 0) + np.maximum(squares[1], 0)
    total += 2 * np.add.reduceat(sides[0] * sides[1], starts)
    return (traces[0] + traces[1]) ** 2 / total


def isoform_usage(
    counts: sp.csr_matrix,
    var: pd.DataFrame,
    strata: Sequence[Stratum],
    params: IsoformParams,
    *,
    inference: str = "",
    rng: np.random.Generator | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Test every gene in every contrast of the strata.

    Parameters
    ----------
    counts : (cells, transcripts) molecules.
    var : a row a transcript, see `group_transcripts`.
    rng : where given, everything is done once more with the conditions shuffled over the cells, and the record
        says how often p was below 0.05 and how much was found: a check of the test on these very counts.

    Returns
    -------
    Table of `COLUMNS`, by rank within stratum and contrast, and the record (JSON-able).
    """
    strata = [stratum for stratum in strata if stratum.contrasts]
    columns = pd.DataFrame(columns=list(COLUMNS))
    if not strata:
        return columns, {"method": "none: nothing can be compared"}
    tested = np.any([stratum.condition != "" for stratum in strata], axis=0)
    groups = group_transcripts(np.asarray(counts.T @ tested.astype(np.float64)).ravel(), var, params)
    record: dict[str, Any] = {"method": "Pearson's X2 over its design effect, cells as clusters", **groups.record}
    if not len(groups.symbols):
        return columns, record
    tables = _all_contrasts(counts, groups, strata, params)
    if rng is not None:
        shuffled = []
        for stratum in strata:
            condition = stratum.condition.copy()
            members = np.flatnonzero(condition != "")
            condition[members] = condition[rng.permutation(members)]
            shuffled.append(Stratum(stratum.phase, condition, stratum.contrasts, stratum.left_out))
        null = [table for _, _, table in _all_contrasts(counts, groups, shuffled, params)]
        p_values = np.concatenate([table["p_value"].to_numpy(float) for table in null])
        record["shuffled"] = {
            "tests": len(p_values),
            "share_p_below_0.05": round(float((p_values < 0.05).mean()), 4) if len(p_values) else None,
            "found_at_fdr_0.05": int(sum((table["p_adjusted"] < 0.05).sum() for table in null if len(table))),
        }
    parts = [_labelled(table, stratum, plan, groups) for stratum, plan, table in tables if len(table)]
    if not parts:
        return columns, record
    table = pd.concat(parts, ignore_index=True)
    table["inference"] = inference
    return table[list(COLUMNS)], record


def _all_contrasts(
    counts: sp.csr_matrix, groups: TranscriptGroups, strata: Sequence[Stratum], params: IsoformParams
) -> list[tuple[Stratum, Contrast, pd.DataFrame]]:
    found = []
    for stratum in strata:
        names = sorted(set(stratum.condition) - {""})
        number = {name: i for i, name in enumerate(names)} | {"": -1}
        sums = usage_sums(counts, groups, np.array([number[name] for name in stratum.condition]), len(names))
        for plan in stratum.contrasts:
            sides = sums.of([number[plan.group]]), sums.of([number[name] for name in plan.members])
            found.append((stratum, plan, compare_usage(*sides, groups, params)))
    return found


def _labelled(table: pd.DataFrame, stratum: Stratum, plan: Contrast, groups: TranscriptGroups) -> pd.DataFrame:
    """The table with names, in the order of its ranks."""
    rows = table["row"].to_numpy()
    order = np.lexsort((groups.symbols[rows].astype(str), -table["f_statistic"], table["p_value"]))
    table = table.iloc[order]
    return table.assign(
        contrast=plan.name,
        group=plan.group,
        reference=plan.reference,
        phase=stratum.phase,
        rank=np.arange(1, len(table) + 1),
        gene=groups.symbols[rows[order]],
        gene_id=groups.gene_ids[rows[order]],
        n_group=int((stratum.condition == plan.group).sum()),
        n_reference=int(np.isin(stratum.condition, plan.members).sum()),
        warning=plan.warning,
    )
