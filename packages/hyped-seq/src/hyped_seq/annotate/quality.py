"""Which cells are kept: figures per cell, thresholds from the data, a table of what was removed and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError
from hyped_seq.annotate.params import QualityParams

MAD_TO_SD = 1.4826
"""Median absolute deviation times this is the standard deviation of a normal."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Result of the quality step.

    Attributes
    ----------
    keep : (cells,) bool.
    removed : one row a removed cell: ``cell, pool, reason``.
    thresholds : pool -> name of the bound -> value.
    """

    keep: np.ndarray
    removed: pd.DataFrame
    thresholds: dict[str, dict[str, float]]


def cell_figures(counts: sp.csr_matrix, symbols: pd.Series, mito_pct: pd.Series | None) -> pd.DataFrame:
    """``n_counts``, ``n_genes`` and ``mito_pct`` of each cell.

    ``mito_pct`` is the workflow's where given, else the percentage of counts in genes that begin with ``MT-``
    (a prefix, not a substring), NaN where there are none.
    """
    total = np.asarray(counts.sum(axis=1)).ravel()
    mito_genes = symbols.astype(str).str.upper().str.startswith("MT-").to_numpy()
    if mito_genes.any():
        mito = 100 * np.asarray(counts[:, mito_genes].sum(axis=1)).ravel() / np.maximum(total, 1)
    else:
        mito = np.full(counts.shape[0], np.nan)
    if mito_pct is not None:
        given = mito_pct.to_numpy(dtype=float)
        mito = np.where(np.isfinite(given), given, mito)
    return pd.DataFrame(
        {
            "n_counts": total.astype(np.int64),
            "n_genes": np.diff(counts.indptr).astype(np.int64),
            "mito_pct": mito.astype(np.float32),
        }
    )


def judge(figures: pd.DataFrame, pools: pd.Series, params: QualityParams) -> Quality:
    """Decide which cells stay; ``figures`` and ``pools`` share their index (cell names).

    Lower bounds of counts and genes are taken on ln(1 + x), the upper bound of mito on percent; a cell that
    misses several bounds has all of them in its reason.

    Raises
    ------
    InvalidDataError
        No cell of a pool would be left.
    """
    reasons = pd.Series("", index=figures.index, dtype=object)
    thresholds: dict[str, dict[str, float]] = {}
    for pool in dict.fromkeys(pools):
        member = (pools == pool).to_numpy()
        part = figures[member]
        bounds = thresholds[str(pool)] = _bounds(part, params)
        notes = pd.DataFrame(index=part.index)
        notes["empty"] = np.where(part["n_counts"] == 0, "no counts", "")
        for column, lowest in (("n_counts", "min_counts"), ("n_genes", "min_genes")):
            low = part[column] < bounds[lowest]
            notes[lowest] = np.where(low, f"{column} below {bounds[lowest]:.6g}", "")
        for column, highest in (("n_counts", "max_counts"), ("mito_pct", "max_mito_pct")):
            if highest in bounds:
                high = part[column] > bounds[highest]
                notes[highest] = np.where(high, f"{column} above {bounds[highest]:.6g}", "")
        joined = notes.apply(lambda row: "; ".join(note for note in row if note), axis=1)
        if (joined != "").all():
            raise InvalidDataError(
                f"no cell of pool {pool!r} passes the quality bounds {bounds}",
                mend="give wider bounds in the parameters (quality)",
            )
        reasons[member] = joined
    keep = (reasons == "").to_numpy()
    removed = pd.DataFrame(
        {
            "cell": figures.index[~keep],
            "pool": pools[~keep].astype(str).to_numpy(),
            "reason": reasons[~keep].to_numpy(),
        }
    )
    return Quality(keep, removed, thresholds)


def _bounds(part: pd.DataFrame, params: QualityParams) -> dict[str, float]:
    """Bounds of one pool, the user's before the data's."""
    bounds = {
        "min_counts": params.min_counts
        if params.min_counts is not None
        else _low(part["n_counts"], params.n_mads),
        "min_genes": params.min_genes
        if params.min_genes is not None
        else _low(part["n_genes"], params.n_mads),
    }
    if params.max_counts is not None:
        bounds["max_counts"] = params.max_counts
    mito = part["mito_pct"].dropna()
    if params.max_mito_pct is not None:
        bounds["max_mito_pct"] = params.max_mito_pct
    elif len(mito):
        bounds["max_mito_pct"] = float(mito.median() + params.n_mads * _scaled_mad(mito.to_numpy()))
    return {name: round(float(value), 6) for name, value in bounds.items()}


def _low(values: pd.Series, n_mads: float) -> float:
    """Median minus ``n_mads`` deviations on ln(1 + x), back on the scale of x, at least 1."""
    logs = np.log1p(values.to_numpy(dtype=float))
    return max(float(np.expm1(np.median(logs) - n_mads * _scaled_mad(logs))), 1.0)


def _scaled_mad(values: np.ndarray) -> float:
    return float(MAD_TO_SD * np.median(np.abs(values - np.median(values))))
