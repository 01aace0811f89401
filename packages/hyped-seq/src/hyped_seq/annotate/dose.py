"""Dose and response: how much of the perturbed genes each cell has, and how far it has moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Design
from hyped_core.design.model import CONTROL
from hyped_seq.annotate.change_params import DoseParams
from hyped_seq.annotate.contrasts import REST, benjamini_hochberg

FloatArray = npt.NDArray[np.float64]


def perturbed_genes(design: Design) -> tuple[str, ...]:
    """The genes that any condition of the design perturbs, in its order."""
    return tuple(dict.fromkeys(change.gene for item in design.conditions for change in item.perturbation))


def dose_columns(genes: Sequence[str]) -> list[str]:
    """Columns of the table of `dose_response`."""
    responses = [
        f"{start}_{reference}{end}"
        for reference in (CONTROL, REST)
        for start, end in (("response", ""), ("response", "_rank"), ("responder", ""))
    ]
    return ["cell", "pool", "condition", "phase", *(f"level{e}_{g}" for g in genes for e in ("", "_rank")), *responses]


def dose_response(
    logs: sp.csr_matrix,
    symbols: Sequence[str],
    obs: pd.DataFrame,
    condition: npt.NDArray[np.object_],
    design: Design,
    params: DoseParams,
    *,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rank the cells of each perturbed condition by the level of the perturbed genes and by their response.

    Parameters
    ----------
    logs : (cells, genes) ln(1 + CP10k).
    obs : a row a cell (the index names it): ``pool``, ``phase``, ``n_counts`` (else the depth is not adjusted for).
    condition : (cells,) "" for cells that do not take part.

    Returns
    -------
    The table: a row a cell of a perturbed condition. ``level_<gene>`` in ln(1 + CP10k), ``level_rank_<gene>``
    within the condition, 1 the highest, ties sharing their mean rank. ``response_control`` is where the cell
    lies between the mean of the control cells (0) and that of its condition (1), ``response_rest`` the same from
    the other perturbed conditions together; see `held_out_response`. ``responder_...`` is true where the response
    is above that of 95 % of the reference's cells. Missing where there are too few cells, and where a fold has no
    direction.

    The record: for each condition, perturbed gene and reference the rank correlation of level and response, plain
    and given depth and phase, with 95 % intervals; and the genes that follow the level (`genes_with_level`).
    """
    genes = [gene for gene in perturbed_genes(design) if gene in set(symbols)]
    position = {symbol: i for i, symbol in reversed(list(enumerate(symbols)))}
    order = [item.name for item in design.conditions]
    names = sorted(set(condition) - {"", CONTROL}, key=lambda n: (order.index(n) if n in order else len(order), n))
    phase, pool = (
        obs[c].astype(str).to_numpy(dtype=object) if c in obs else np.full(len(obs), "") for c in ("phase", "pool")
    )
    allowed = ~np.isin(np.asarray(symbols, dtype=object), genes)
    levels = {gene: logs[:, [position[gene]]].toarray().ravel().astype(float) for gene in genes}
    record: dict[str, Any] = {
        "genes": genes,
        "genes_not_in_matrix": [g for g in perturbed_genes(design) if g not in set(symbols)],
        "conditions": {},
        "left_out": {},
    }
    parts = []
    folds = np.full(len(condition), -1)
    for name in (CONTROL, *names):
        rows = np.flatnonzero(condition == name)
        folds[rows] = rng.permutation(np.arange(len(rows)) % params.folds)
    for name in names:
        rows = np.flatnonzero(condition == name)
        table = pd.DataFrame(
            {"cell": obs.index[rows].astype(str), "pool": pool[rows], "condition": name, "phase": phase[rows]}
        )
        for gene in genes:
            table[f"level_{gene}"] = levels[gene][rows]
            table[f"level_rank_{gene}"] = _rank(levels[gene][rows])
        covariates = _covariates(obs.iloc[rows], phase[rows])
        entry: dict[str, Any] = {"cells": len(rows), "level_with_response": {}, "genes_with_level": {}}
        for reference, members in ((CONTROL, [CONTROL]), (REST, [n for n in names if n != name])):
            against = np.flatnonzero(np.isin(condition, members))
            if min(len(rows), len(against)) < params.min_cells:
                record["left_out"][f"{name}_vs_{reference}"] = {"cells": len(rows), "reference_cells": len(against)}
                table[[f"response_{reference}", f"response_{reference}_rank"]] = np.nan
                table[f"responder_{reference}"] = pd.array([pd.NA] * len(rows), dtype="boolean")
                continue
            response, of_reference = held_out_response(logs, rows, against, folds, allowed, params)
            table[f"response_{reference}"] = response
            table[f"response_{reference}_rank"] = _rank(response)
            known = np.isfinite(response)  # a fold may lack a direction: its cells have no response
            bar = np.nanquantile(of_reference, 0.95) if np.isfinite(of_reference).any() else np.nan
            responder = pd.array(response > bar, dtype="boolean")
            responder[~known] = pd.NA
            table[f"responder_{reference}"] = responder
            entry[f"responders_{reference}"] = round(float((response[known] > bar).mean()), 6) if known.any() else None
            entry["level_with_response"][reference] = {
                gene: rank_correlation(levels[gene][rows][known], response[known], covariates[known]) for gene in genes
            }
        if len(rows) >= params.min_cells and params.genes_listed:
            part = logs[rows]
            for gene in genes:
                found = genes_with_level(part, levels[gene][rows], covariates, allowed)
                entry["genes_with_level"][gene] = _first(found, symbols, params.genes_listed)
        record["conditions"][name] = entry
        parts.append(table)
    columns = dose_columns(genes)
    if not parts:
        return pd.DataFrame(columns=columns), record
    return pd.concat(parts, ignore_index=True)[columns], record


def held_out_response(
    logs: sp.csr_matrix,
    group: npt.NDArray[np.integer],
    reference: npt.NDArray[np.integer],
    folds: npt.NDArray[np.integer],
    allowed: npt.NDArray[np.bool_],
    params: DoseParams,
) -> tuple[FloatArray, FloatArray]:
    """Position of each cell on the way from the reference's mean (0) to the group's (1).

    The direction is that of the differences of means over the variance within, gene by gene, of the
    ``params.n_genes`` genes with the largest Welch t; the scores of a fold's cells come from a direction, and from
    means, estimated without them, so a group that differs from the reference by chance alone scores 0 on average.

    Parameters
    ----------
    group, reference : rows of ``logs``.
    folds : (cells,) fold of each cell.
    allowed : (genes,) genes that may enter: those that were perturbed are kept out, or level and response would be
        the same thing.

    Returns
    -------
    Responses of the cells of ``group`` and of ``reference``.
    """
    n_folds = params.folds
    sums = [[_moments(logs[rows[folds[rows] == k]]) for k in range(n_folds)] for rows in (group, reference)]
    found = [np.full(len(rows), np.nan) for rows in (group, reference)]
    for k in range(n_folds):
        (n1, mean1, var1), (n0, mean0, var0) = (_mean_variance(side, k) for side in sums)
        spread = np.sqrt(var1 / n1 + var0 / n0)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(allowed & (spread > 0), np.abs(mean1 - mean0) / spread, 0.0)
        chosen = np.argsort(-t, kind="stable")[: params.n_genes]
        chosen = chosen[t[chosen] > 0]
        within = (var1 * n1 + var0 * n0)[chosen] / (n1 + n0)
        weights = np.zeros(logs.shape[1])
        weights[chosen] = (mean1 - mean0)[chosen] / (within + np.median(within) if len(chosen) else 1.0)
        length = float(weights @ (mean1 - mean0))
        if length <= 0:
            continue
        for rows, values in zip((group, reference), found, strict=True):
            here = folds[rows] == k
            values[here] = (logs[rows[here]] @ weights - weights @ mean0) / length
    return found[0], found[1]


def _moments(part: sp.csr_matrix) -> tuple[int, FloatArray, FloatArray]:
    """Number of rows, and the sums of each column and of its squares."""
    values = part.data.astype(np.float64)
    n = part.shape[1]
    return part.shape[0], np.bincount(part.indices, values, n), np.bincount(part.indices, values**2, n)


def _mean_variance(
    parts: Sequence[tuple[int, FloatArray, FloatArray]], without: int
) -> tuple[int, FloatArray, FloatArray]:
    rest = [part for k, part in enumerate(parts) if k != without]
    n = sum(part[0] for part in rest)
    mean = np.sum([part[1] for part in rest], axis=0) / n
    square = np.sum([part[2] for part in rest], axis=0) / n
    return n, mean, np.maximum(square - mean**2, 0) * n / max(n - 1, 1)


def rank_correlation(x: FloatArray, y: FloatArray, covariates: FloatArray) -> dict[str, Any]:
    """Spearman's rank correlation with its 95 % interval, plain and with ``covariates`` (cells, k) held fixed.

    Interval: Fisher's z with the standard error sqrt((1 + r^2 / 2) / (n - k - 3)) of Bonett and Wright 2000
    (doi:10.1007/BF02294183). None where either is constant or there are no cells.
    """
    if not len(x):
        return {"n": 0, "spearman": None, "spearman_given_depth_and_phase": None}
    ranks = [_rank(values) for values in (x, y)]
    plain = _with_interval(*(r - r.mean() for r in ranks), 0)
    given = _with_interval(*(_residual(r, covariates) for r in ranks), covariates.shape[1] - 1)
    return {"n": len(x), "spearman": plain, "spearman_given_depth_and_phase": given}


def _with_interval(x: FloatArray, y: FloatArray, k: int) -> list[float] | None:
    """[r, low, high] of two centred arrays."""
    scale = float(np.sqrt((x @ x) * (y @ y)))
    n = len(x) - k - 3
    if n <= 0 or scale <= 1e-9 * len(x) or not np.isfinite(scale):
        return None
    r = float(np.clip(x @ y / scale, -1, 1))
    z, half = np.arctanh(np.clip(r, -0.999999, 0.999999)), 1.959964 * np.sqrt((1 + r * r / 2) / n)
    return [round(float(value), 4) for value in (r, np.tanh(z - half), np.tanh(z + half))]


def genes_with_level(
    part: sp.csr_matrix, level: FloatArray, covariates: FloatArray, allowed: npt.NDArray[np.bool_]
) -> pd.DataFrame:
    """Correlation of each gene with the rank of ``level`` over some cells, depth and phase held fixed.

    The partial correlation of ln(1 + CP10k); two-sided t-test with n - 2 - k degrees of freedom, adjusted by
    Benjamini and Hochberg. Indexed by the gene's column; genes that do not vary or are not ``allowed`` are left out.
    """
    from scipy.stats import t as t_distribution

    basis = _basis(covariates)
    residual = _residual(-_rank(level), covariates)  # ranks fall with the level
    within = np.asarray(part.T @ basis)
    squares = np.bincount(part.indices, part.data.astype(np.float64) ** 2, part.shape[1]) - (within**2).sum(axis=1)
    df = len(level) - 1 - basis.shape[1]
    length = float(residual @ residual)
    use = np.flatnonzero(allowed & (squares > 1e-6 * len(level)))
    if length <= 1e-9 * len(level) or df < 1:
        use = use[:0]
    r = np.asarray(part.T @ residual)[use] / np.sqrt(max(length, 1e-300) * squares[use])
    r = np.clip(r, -0.999999, 0.999999)
    p_value = 2 * t_distribution.sf(np.abs(r) * np.sqrt(df / (1 - r**2)), df)
    return pd.DataFrame({"correlation": r, "p_value": p_value, "p_adjusted": benjamini_hochberg(p_value)}, index=use)


def _first(found: pd.DataFrame, symbols: Sequence[str], n: int) -> dict[str, Any]:
    """How many genes of `genes_with_level` follow, and the first ``n`` of them, for the record."""
    listed = found.nsmallest(n, ["p_value"], keep="first")
    return {
        "found_at_fdr_0.05": int((found["p_adjusted"] < 0.05).sum()),
        "first": [
            {
                "gene": str(symbols[column]),
                "correlation": round(float(row.correlation), 4),
                "p_adjusted": float(f"{row.p_adjusted:.4g}"),
            }
            for column, row in listed.iterrows()
        ],
    }


def _covariates(obs: pd.DataFrame, phase: npt.NDArray[np.object_]) -> FloatArray:
    """(cells, k) a constant, the rank of the depth and an indicator of each phase but the first."""
    columns = [np.ones(len(obs))]
    if "n_counts" in obs:
        columns.append(_rank(obs["n_counts"].to_numpy(float)))
    columns += [(phase == name).astype(float) for name in sorted(set(phase))[1:]]
    return np.column_stack(columns)


def _basis(covariates: FloatArray) -> FloatArray:
    """Orthonormal columns that span ``covariates`` (cells, k)."""
    scaled = covariates / np.maximum(np.abs(covariates).max(axis=0, keepdims=True, initial=0), 1e-300)
    left, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    return left[:, sizes > 1e-9 * sizes[0]]


def _residual(values: FloatArray, covariates: FloatArray) -> FloatArray:
    basis = _basis(covariates)
    return values - basis @ (basis.T @ values)


def _rank(values: FloatArray) -> FloatArray:
    """1 for the highest; equal values share their mean rank."""
    return pd.Series(-np.asarray(values, dtype=float)).rank(method="average").to_numpy()
