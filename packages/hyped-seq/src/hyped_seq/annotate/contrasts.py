"""What changes between conditions: rank-sum tests of all genes, with the warnings that the design demands."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Design
from hyped_core.design.model import CONTROL

PSEUDOCOUNT = 0.05
"""Added to mean CP10k before fold changes, so that unseen genes give finite ones."""

INFERENCE = "cells as units: p-values say nothing about replicates"
POOLED = "cells as units: wells were pooled, there are no replicates to infer from"

COLUMNS = (
    "contrast", "group", "reference", "rank", "gene", "gene_id", "log2_fold_change", "z_score",
    "p_value", "p_adjusted", "mean_group", "mean_reference", "pct_group", "pct_reference",
    "n_group", "n_reference", "warning", "inference",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Contrast:
    """Cells of ``group`` against cells of ``reference`` (names of conditions)."""

    group: str
    reference: tuple[str, ...]
    warning: str = ""

    @property
    def name(self) -> str:
        """``group_vs_reference``; several references are called ``rest``."""
        return f"{self.group}_vs_{self.reference[0] if len(self.reference) == 1 else 'rest'}"


def plan_contrasts(condition: pd.Series, pool: pd.Series, design: Design, min_group: int) -> list[Contrast]:
    """Each condition against control, then each against the other perturbed ones.

    A contrast whose two sides share no pool carries a warning: what it shows may be the pool.
    """
    counts = condition[condition != ""].value_counts()
    order = [item.name for item in design.conditions]
    names = sorted(
        (name for name in counts.index if counts[name] >= min_group),
        key=lambda n: (order.index(n) if n in order else len(order), n),
    )
    perturbed = [name for name in names if name != CONTROL]
    pools = {name: set(pool[condition == name]) for name in names}
    plans = []
    if CONTROL in names:
        plans += [_contrast(name, (CONTROL,), pools, design) for name in perturbed]
    if len(perturbed) > 1:
        plans += [
            _contrast(name, tuple(n for n in perturbed if n != name), pools, design) for name in perturbed
        ]
    return plans


def _contrast(group: str, reference: tuple[str, ...], pools: dict[str, set[str]], design: Design) -> Contrast:
    shared = pools[group] & set().union(*(pools[name] for name in reference))
    notes = []
    if not shared:
        notes.append("confounded with pool: the two sides were captured apart")
    of_sorted = {name for name in (group, *reference)} & set(design.sorted_conditions())
    if of_sorted:
        notes.append(f"phase composition of {', '.join(sorted(of_sorted))} was set by sorting")
    return Contrast(group, reference, "; ".join(notes))


def run_contrasts(
    logs: sp.csr_matrix,
    var: pd.DataFrame,
    condition: pd.Series,
    plans: list[Contrast],
    design: Design,
    min_cells: int = 1,
) -> pd.DataFrame:
    """Two-sided rank-sum test (corrected for ties and continuity) of every gene in every contrast.

    Genes seen in fewer than ``min_cells`` cells are left out; p-values are adjusted within a contrast
    (Benjamini and Hochberg 1995). ``log2_fold_change`` is of mean CP10k plus `PSEUDOCOUNT`.
    """
    seen = np.bincount(logs.indices, minlength=logs.shape[1]) >= max(min_cells, 1)
    genes = np.flatnonzero(seen)
    matrix = logs[:, genes].tocsr()
    tables = [_test(matrix, var.iloc[genes], condition.to_numpy(), plan) for plan in plans]
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat(tables, ignore_index=True)
    table["inference"] = POOLED if design.flags.pooled_wells else INFERENCE
    return table[list(COLUMNS)]


def _test(matrix: sp.csr_matrix, var: pd.DataFrame, condition: np.ndarray, plan: Contrast) -> pd.DataFrame:
    in_group, in_reference = condition == plan.group, np.isin(condition, plan.reference)
    group, reference = matrix[in_group], matrix[in_reference]
    p_value, z_score = rank_sum(group, reference)
    mean_group, mean_reference = _mean_linear(group), _mean_linear(reference)
    table = pd.DataFrame(
        {
            "contrast": plan.name,
            "group": plan.group,
            "reference": "+".join(plan.reference) if len(plan.reference) == 1 else "rest",
            "gene": var["symbol"].astype(str).to_numpy() if "symbol" in var else var.index.astype(str),
            "gene_id": var["gene_id"].astype(str).to_numpy() if "gene_id" in var else "",
            "log2_fold_change": np.log2((mean_group + PSEUDOCOUNT) / (mean_reference + PSEUDOCOUNT)),
            "z_score": z_score,
            "p_value": p_value,
            "p_adjusted": benjamini_hochberg(p_value),
            "mean_group": mean_group,
            "mean_reference": mean_reference,
            "pct_group": 100 * group.getnnz(axis=0) / max(group.shape[0], 1),
            "pct_reference": 100 * reference.getnnz(axis=0) / max(reference.shape[0], 1),
            "n_group": group.shape[0],
            "n_reference": reference.shape[0],
            "warning": plan.warning,
        }
    )
    order = np.lexsort((table["gene"], -np.abs(table["z_score"]), table["p_value"]))
    table = table.iloc[order]
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def rank_sum(group: sp.csr_matrix, reference: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """(p-values, z-scores) of the Mann-Whitney test of each column; positive z: higher in ``group``."""
    from anndata import AnnData
    from illico import asymptotic_wilcoxon
    from loguru import logger

    logger.disable("illico")
    labels = np.repeat(["group", "reference"], [group.shape[0], reference.shape[0]])
    stacked = sp.csr_matrix(sp.vstack([group, reference], format="csr"))
    stacked.sort_indices()
    names = [str(i) for i in range(stacked.shape[0])]
    cells = AnnData(stacked, obs=pd.DataFrame({"side": pd.Categorical(labels)}, index=names))
    with contextlib.redirect_stderr(io.StringIO()):
        result = asymptotic_wilcoxon(cells, is_log1p=True, group_keys="side", reference="reference")
    result = result.loc["group"]
    return result["p_value"].to_numpy(dtype=float), result["z_score"].to_numpy(dtype=float)


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """Adjusted p-values; NaN counts as 1."""
    p_values = np.nan_to_num(np.asarray(p_values, dtype=float), nan=1.0)
    order = np.argsort(p_values, kind="stable")
    ranked = p_values[order] * len(p_values) / np.arange(1, len(p_values) + 1)
    adjusted = np.empty_like(ranked)
    adjusted[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1)
    return adjusted


def _mean_linear(logs: sp.csr_matrix) -> np.ndarray:
    """Mean CP10k of each column."""
    weights = np.expm1(logs.data.astype(np.float64))
    return np.bincount(logs.indices, weights=weights, minlength=logs.shape[1]) / max(logs.shape[0], 1)
