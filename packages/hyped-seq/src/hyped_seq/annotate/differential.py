"""Differential expression: rank-sum tests of every gene in every contrast of a stratum, with effect sizes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hyped_core.design.model import CONTROL
from hyped_seq.annotate.contrasts import Contrast, Stratum, benjamini_hochberg

FloatArray = npt.NDArray[np.float64]

COLUMNS = (
    "contrast", "group", "reference", "phase", "rank", "gene", "gene_id", "log2_fold_change",
    "shared_log2_fold_change", "specific_log2_fold_change", "auc", "u_statistic", "z_score", "p_value",
    "p_adjusted", "mean_group", "mean_reference", "pct_group", "pct_reference", "n_group", "n_reference",
    "warning", "inference",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RankSums:
    """(contrasts, genes) results of Mann-Whitney tests.

    Attributes
    ----------
    u : U statistic of the group: pairs in which its cell is higher, ties half.
    z : deviation of U from its mean in standard deviations (tie and continuity corrected); positive: higher in
        the group.
    p : two-sided p-values by the normal approximation; 1 where all cells are tied.
    """

    u: FloatArray
    z: FloatArray
    p: FloatArray


def differential_expression(
    logs: sp.csr_matrix,
    var: pd.DataFrame,
    strata: Sequence[Stratum],
    *,
    pseudocount: float = 0.05,
    min_cells: int = 1,
    inference: str = "",
    threads: int = 1,
) -> pd.DataFrame:
    """Test every gene in every contrast of every stratum.

    Parameters
    ----------
    logs : (cells, genes) ln(1 + CP10k).
    var : a row a gene: ``symbol`` (else the index) and ``gene_id`` (else "").
    min_cells : genes seen in fewer of a stratum's cells are left out of it.
    inference : text of the column of that name.

    Returns
    -------
    Table of `COLUMNS`, a row a stratum, contrast and gene, by rank within stratum and contrast (p-value, then
    size of z, then gene).

    ``log2_fold_change`` is log2((mean CP10k of the group + pseudocount) / (the same of the reference)).
    ``shared_log2_fold_change`` stands beside contrasts with control: the mean over the *other* perturbed
    conditions of their change from control in the same phase, which is what the pool, the staining and the
    sorting do to all of them, and what their perturbations share; ``specific_log2_fold_change`` is the rest,
    in which control cancels out. ``auc`` is U / (n_group n_reference), the chance that a cell of the group is
    the higher one (Cliff's delta is 2 auc - 1). p-values are adjusted within a contrast and phase
    (Benjamini and Hochberg 1995).
    """
    strata = [stratum for stratum in strata if stratum.contrasts]
    if not strata:
        return pd.DataFrame(columns=list(COLUMNS))
    plans = [plan for stratum in strata for plan in stratum.contrasts]
    categories = {
        "contrast": list(dict.fromkeys(plan.name for plan in plans)),
        "group": list(dict.fromkeys(plan.group for plan in plans)),
        "reference": list(dict.fromkeys(plan.reference for plan in plans)),
        "phase": [stratum.phase for stratum in strata],
        "warning": list(dict.fromkeys(plan.warning for plan in plans)),
        "inference": [inference],
    }
    tables = [_stratum_table(logs, var, stratum, categories, pseudocount, min_cells, threads) for stratum in strata]
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def _stratum_table(
    logs: sp.csr_matrix,
    var: pd.DataFrame,
    stratum: Stratum,
    categories: dict[str, list[str]],
    pseudocount: float,
    min_cells: int,
    threads: int,
) -> pd.DataFrame:
    """The rows of one stratum; columns of few texts are categoricals of ``categories``."""
    rows = np.flatnonzero(stratum.condition != "")
    labels, codes = np.unique(stratum.condition[rows].astype(str), return_inverse=True)
    by_condition = np.argsort(codes, kind="stable")  # cells of a condition next to each other
    part, condition = sp.csr_matrix(logs[rows[by_condition]]), labels[codes[by_condition]]
    seen = np.bincount(part.indices, minlength=part.shape[1]) >= min_cells
    genes = var[seen]
    part = part if seen.all() else part[:, np.flatnonzero(seen)]
    plans = stratum.contrasts
    tests = rank_sums(part, condition, plans, threads=threads)
    ends = np.searchsorted(condition, labels, side="right")
    sums = {
        str(name): _sums(part, first, last) for name, first, last in zip(labels, [0, *ends[:-1]], ends, strict=True)
    }
    group = _stack([sums[plan.group] for plan in plans])
    reference = _stack([_together([sums[name] for name in plan.members]) for plan in plans])
    change = np.log2((group.mean + pseudocount) / (reference.mean + pseudocount))
    shared = _shared(change, [plan.reference == CONTROL for plan in plans])
    symbols = (genes["symbol"] if "symbol" in genes else genes.index.to_series()).astype(str).to_numpy(dtype=object)
    ids = genes["gene_id"].astype(str).to_numpy(dtype=object) if "gene_id" in genes else np.full(len(genes), "")
    alphabetical = np.argsort(np.argsort(symbols, kind="stable"), kind="stable")
    order = np.lexsort((np.broadcast_to(alphabetical, change.shape), -np.abs(tests.z), tests.p), axis=-1)

    def ordered(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.take_along_axis(np.broadcast_to(values, change.shape), order, axis=1).ravel()

    def text(column: str, values: Sequence[str]) -> pd.Categorical:
        codes = np.repeat([categories[column].index(value) for value in values], change.shape[1])
        return pd.Categorical.from_codes(codes, categories[column])

    return pd.DataFrame(
        {
            "contrast": text("contrast", [plan.name for plan in plans]),
            "group": text("group", [plan.group for plan in plans]),
            "reference": text("reference", [plan.reference for plan in plans]),
            "phase": text("phase", [stratum.phase] * len(plans)),
            "rank": np.tile(np.arange(1, change.shape[1] + 1), len(plans)),
            "gene": symbols[order.ravel()],
            "gene_id": ids[order.ravel()],
            "log2_fold_change": ordered(change),
            "shared_log2_fold_change": ordered(shared),
            "specific_log2_fold_change": ordered(change - shared),
            "auc": ordered(tests.u / (group.cells * reference.cells)),
            "u_statistic": ordered(tests.u),
            "z_score": ordered(tests.z),
            "p_value": ordered(tests.p),
            "p_adjusted": ordered(benjamini_hochberg(tests.p)),
            "mean_group": ordered(group.mean),
            "mean_reference": ordered(reference.mean),
            "pct_group": ordered(100 * group.expressing / group.cells),
            "pct_reference": ordered(100 * reference.expressing / reference.cells),
            "n_group": ordered(group.cells),
            "n_reference": ordered(reference.cells),
            "warning": text("warning", [plan.warning for plan in plans]),
            "inference": text("inference", categories["inference"] * len(plans)),
        }
    )


def rank_sums(
    matrix: sp.spmatrix,
    condition: npt.ArrayLike,
    contrasts: Sequence[Contrast],
    *,
    continuity: bool = True,
    ties: bool = True,
    threads: int = 1,
) -> RankSums:
    """Mann-Whitney tests of every column of ``matrix`` (cells, genes; any order-preserving scale) by illico.

    The matrix is turned to columns once; contrasts with one reference share a pass. U is corrected for ties and,
    by ``continuity``, moved half a step towards its mean, as scipy's ``mannwhitneyu(method="asymptotic")`` does;
    scanpy's ``rank_genes_groups(method="wilcoxon", tie_correct=True)`` has no continuity correction.
    """
    from anndata import AnnData
    from illico import asymptotic_wilcoxon
    from loguru import logger

    logger.disable("illico")
    columns = sp.csc_matrix(matrix)
    columns.sort_indices()
    labels = pd.Categorical(np.asarray(condition, dtype=str))
    cells = AnnData(columns, obs=pd.DataFrame({"side": labels}, index=[str(i) for i in range(columns.shape[0])]))
    sizes = labels.value_counts().to_dict()
    shape = (len(contrasts), columns.shape[1])
    result = RankSums(np.full(shape, np.nan), np.zeros(shape), np.ones(shape))
    for members in dict.fromkeys(_pass(plan) for plan in contrasts):
        mine = [i for i, plan in enumerate(contrasts) if _pass(plan) == members]
        single = len(members) == 1
        outside = [name for name in labels.categories if name not in members]
        with contextlib.redirect_stderr(io.StringIO()):  # illico draws a progress bar whatever one says
            found = asymptotic_wilcoxon(
                cells,
                is_log1p=True,
                group_keys="side",
                reference=members[0] if single else None,
                groups=[contrasts[i].group for i in mine],
                exclude_from_ovr=None if single else outside or None,
                use_continuity=continuity,
                tie_correct=ties,
                n_threads=threads,
            )
        for i in mine:
            table = found.loc[contrasts[i].group]
            result.u[i] = table["statistic"].to_numpy(float)
            z, p = table["z_score"].to_numpy(float), table["p_value"].to_numpy(float)
            pairs = sizes[contrasts[i].group] * sum(sizes[name] for name in contrasts[i].members)
            nothing = ~(np.isfinite(z) & np.isfinite(p))
            if continuity:  # half a step cannot move U past its mean; illico lets it
                nothing |= np.abs(result.u[i] - pairs / 2) <= 0.5
            result.z[i], result.p[i] = np.where(nothing, 0.0, z), np.where(nothing, 1.0, p)
    return result


def _pass(plan: Contrast) -> tuple[str, ...]:
    """Contrasts with the same key are one call: the reference, or all conditions of one-against-the-rest."""
    return plan.members if len(plan.members) == 1 else tuple(sorted((plan.group, *plan.members)))


@dataclass(frozen=True, slots=True)
class _Sums:
    """Number of cells, and by gene the sum of CP10k and the cells that express it; with a first axis of contrasts."""

    cells: Any
    total: FloatArray
    expressing: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Mean CP10k."""
        return self.total / self.cells


def _sums(logs: sp.csr_matrix, first: int, last: int) -> _Sums:
    """`_Sums` of the rows from ``first`` to before ``last``."""
    entries = slice(logs.indptr[first], logs.indptr[last])
    genes, n_genes = logs.indices[entries], logs.shape[1]
    total = np.bincount(genes, weights=np.expm1(logs.data[entries], dtype=np.float64), minlength=n_genes)
    return _Sums(int(last - first), total, np.bincount(genes, minlength=n_genes).astype(float))


def _together(parts: Sequence[_Sums]) -> _Sums:
    """The sums of all cells of some conditions."""
    if len(parts) == 1:
        return parts[0]
    return _Sums(
        sum(part.cells for part in parts),
        np.sum([part.total for part in parts], axis=0),
        np.sum([part.expressing for part in parts], axis=0),
    )


def _stack(parts: Sequence[_Sums]) -> _Sums:
    """One row a contrast; ``cells`` (contrasts, 1)."""
    return _Sums(
        np.array([[part.cells] for part in parts]),
        np.stack([part.total for part in parts]),
        np.stack([part.expressing for part in parts]),
    )


def _shared(change: FloatArray, with_control: Sequence[bool]) -> FloatArray:
    """(contrasts, genes) mean change of the other contrasts with control; NaN where there is none."""
    shared = np.full(change.shape, np.nan)
    mine = np.flatnonzero(with_control)
    if len(mine) > 1:
        shared[mine] = (change[mine].sum(axis=0) - change[mine]) / (len(mine) - 1)
    return shared
