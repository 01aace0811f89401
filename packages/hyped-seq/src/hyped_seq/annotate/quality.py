"""Which cells are kept: figures per cell, thresholds from the data, a table of what was removed and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError
from hyped_seq.annotate.normalise import cell_totals
from hyped_seq.annotate.params import QualityParams

MAD_TO_SD = 1.4826
"""Median absolute deviation times this is the standard deviation of a normal."""

REMOVED_COLUMNS = ("cell", "pool", "reason", "n_counts", "n_genes", "mito_pct")

_SEPARATION = 2.0
"""Two populations are told apart where their means are this many pooled standard deviations apart (Ashman's D)."""
_LEAST_SHARE = 0.03
"""A population with a smaller share of the cells is not looked for: the deviations find it."""
_EMPTY_FOLD = 10.0
"""Cells of one pool do not differ in size by this much: a population so far below holds no cells."""
MANY_REMOVED = 0.1
"""Where a pool loses a larger share of its cells, `removal_notes` says so."""
_COLUMN_OF = {"min_counts": "n_counts", "min_genes": "n_genes", "max_counts": "n_counts", "max_mito_pct": "mito_pct"}


@dataclass(frozen=True, slots=True)
class Quality:
    """Result of the quality step.

    Attributes
    ----------
    keep : (cells,) bool.
    removed : one row a removed cell, columns `REMOVED_COLUMNS`; the reason names every bound that was missed
        with the cell's value.
    thresholds : pool -> name of the bound -> value.
    sources : pool -> name of the bound -> where it comes from: ``given``, ``deviations``, ``floor`` (of mito) or
        ``two populations``.
    """

    keep: npt.NDArray[np.bool_]
    removed: pd.DataFrame
    thresholds: dict[str, dict[str, float]]
    sources: dict[str, dict[str, str]]


def cell_figures(counts: sp.csr_matrix, symbols: pd.Series, mito_pct: pd.Series | None) -> pd.DataFrame:
    """``n_counts``, ``n_genes`` and ``mito_pct`` of each cell.

    ``mito_pct`` is the workflow's where given, else the percentage of counts in genes that begin with ``MT-``
    (a prefix, not a substring), NaN where there are none.
    """
    total = cell_totals(counts)
    mito_genes = symbols.astype(str).str.upper().str.startswith("MT-").to_numpy()
    if mito_genes.any():
        mito = 100 * cell_totals(counts[:, np.flatnonzero(mito_genes)]) / np.maximum(total, 1)
    else:
        mito = np.full(counts.shape[0], np.nan)
    if mito_pct is not None:
        given = mito_pct.to_numpy(dtype=float)
        mito = np.where(np.isfinite(given), given, mito)
    return pd.DataFrame(
        {
            "n_counts": total,
            "n_genes": np.diff(counts.indptr).astype(np.int64),
            "mito_pct": mito.astype(np.float32),
        }
    )


def judge(figures: pd.DataFrame, pools: pd.Series, params: QualityParams) -> Quality:
    """Decide which cells stay; ``figures`` and ``pools`` share their index (cell names).

    A bound that is not given is ``n_mads`` scaled median absolute deviations from the pool's median, of counts and
    genes on ln(1 + x), of mito on percent, there at least ``mito_floor_pct``: deviations of next to no mito are next to
    nothing, and a molecule would cost a cell. Deviations grow with the share of bad cells, so a pool is also looked at
    for two populations by counts: where there are two, and the lower one has more mito than the other's cells or a
    tenth of their counts, the bound is where the two meet. A cell that misses several bounds has all of them in its
    reason. A cell whose mito is not known is not judged by it.

    Raises
    ------
    InvalidDataError
        No cell of a pool would be left.
    """
    names = figures.index.to_numpy(dtype=object)
    reasons: dict[int, list[str]] = {}
    thresholds: dict[str, dict[str, float]] = {}
    sources: dict[str, dict[str, str]] = {}
    pool_of = pools.astype(str).to_numpy(dtype=object)
    for pool in dict.fromkeys(pool_of):
        member = np.flatnonzero(pool_of == pool)
        part = figures.iloc[member]
        bounds, sources[pool] = _bounds(part, params)
        thresholds[pool] = bounds
        missed = _missed(part, bounds)
        if len(missed) == len(member):
            raise InvalidDataError(
                f"no cell of pool {pool!r} passes the quality bounds {bounds}",
                mend="give wider bounds in the parameters (quality)",
            )
        reasons |= {int(member[row]): notes for row, notes in missed.items()}
    gone = np.array(sorted(reasons), dtype=np.int64)
    keep = np.ones(len(figures), dtype=bool)
    keep[gone] = False
    removed = pd.DataFrame(
        {
            "cell": names[gone],
            "pool": pool_of[gone],
            "reason": ["; ".join(reasons[row]) for row in gone],
        }
    )
    for column in REMOVED_COLUMNS[3:]:
        removed[column] = figures[column].to_numpy()[gone]
    return Quality(keep, removed, thresholds, sources)


def removal_notes(removed: pd.DataFrame, pools: pd.Series) -> list[str]:
    """Of each pool that loses more than `MANY_REMOVED` of its cells: how many, and by which bounds, most first."""
    notes = []
    for pool, cells in pools.astype(str).value_counts(sort=False).items():
        reasons = removed.loc[removed["pool"] == pool, "reason"]
        if len(reasons) <= MANY_REMOVED * cells:
            continue
        missed = reasons.str.split("; ").explode().str.replace(r" (\S+) (above|below)", r" \2", regex=True)
        said = ", ".join(f"{name} {count}" for name, count in missed.value_counts().items())
        notes.append(f"{pool}: {len(reasons)} of {cells} cells removed ({said})")
    return notes


def _missed(part: pd.DataFrame, bounds: dict[str, float]) -> dict[int, list[str]]:
    """Row -> the bounds it misses, in words, of the rows that miss any."""
    notes: dict[int, list[str]] = {}
    for name, bound in bounds.items():
        column, lower = _COLUMN_OF[name], name.startswith("min_")
        values = part[column].to_numpy(dtype=float)
        wrong = values < bound if lower else values > bound
        word = "below" if lower else "above"
        for row in np.flatnonzero(wrong):
            notes.setdefault(int(row), []).append(f"{column} {values[row]:.6g} {word} {bound:.6g}")
    return notes


def _bounds(part: pd.DataFrame, params: QualityParams) -> tuple[dict[str, float], dict[str, str]]:
    """Bounds of one pool and where they come from, the user's before the data's."""
    bounds: dict[str, float] = {}
    sources: dict[str, str] = {}

    def put(name: str, value: float, source: str) -> None:
        bounds[name], sources[name] = round(float(value), 6), source

    mito = part["mito_pct"].to_numpy(dtype=float)
    valley = _valley(np.log1p(part["n_counts"].to_numpy(dtype=float)), mito)
    better = np.log1p(part["n_counts"].to_numpy(dtype=float)) >= valley
    for name, given in (("min_counts", params.min_counts), ("min_genes", params.min_genes)):
        if given is not None:
            put(name, given, "given")
            continue
        logs = np.log1p(part[_COLUMN_OF[name]].to_numpy(dtype=float))
        low = _deviations(logs[better], -params.n_mads)
        two = name == "min_counts" and valley > low
        put(name, max(np.expm1(valley if two else low), 1.0), "two populations" if two else "deviations")
    if params.max_counts is not None:
        put("max_counts", params.max_counts, "given")
    known = mito[better & np.isfinite(mito)]
    if params.max_mito_pct is not None:
        put("max_mito_pct", params.max_mito_pct, "given")
    elif known.size:
        found = _deviations(known, params.n_mads)
        floor = found < params.mito_floor_pct
        put("max_mito_pct", params.mito_floor_pct if floor else found, "floor" if floor else "deviations")
    return bounds, sources


def _deviations(values: npt.NDArray[np.float64], number: float) -> float:
    """The median plus ``number`` scaled median absolute deviations."""
    median = np.median(values)
    return float(median + number * MAD_TO_SD * np.median(np.abs(values - median)))


def _valley(logs: npt.NDArray[np.float64], mito: npt.NDArray[np.float64]) -> float:
    """Where bad cells and good ones meet on ln(1 + counts); -inf where there is one population or both are good."""
    low, high = two_populations(logs)
    if low is None or high is None:
        return -np.inf
    share = low[2] / (low[2] + high[2])
    separation = np.sqrt(2) * (high[0] - low[0]) / np.hypot(low[1], high[1])
    if separation < _SEPARATION or not _LEAST_SHARE <= share <= 1 - _LEAST_SHARE:
        return -np.inf
    grid = np.linspace(low[0], high[0], 201)
    densities = [w / s * np.exp(-0.5 * ((grid - m) / s) ** 2) for m, s, w in (low, high)]
    meet = float(grid[int(np.argmax(densities[1] >= densities[0]))])
    below, above = mito[logs < meet], mito[logs >= meet]
    below, above = below[np.isfinite(below)], above[np.isfinite(above)]
    dying = below.size > 0 and above.size > 0 and float(np.median(below)) > _deviations(above, 2.0)
    return meet if dying or high[0] - low[0] > np.log(_EMPTY_FOLD) else -np.inf


Population = tuple[float, float, float]
"""Mean, standard deviation and share of a normal."""


def two_populations(
    values: npt.NDArray[np.float64], iterations: int = 200
) -> tuple[Population | None, Population | None]:
    """The lower and the higher of the two normals that ``values`` are a mixture of, by expectation maximisation.

    Started from the cut that leaves the least variance within the two sides; (None, None) for fewer than 20 values or
    constant ones.
    """
    if len(values) < 20 or np.ptp(values) <= 0:
        return None, None
    ordered = np.sort(values)
    n = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)[:-1]
    between = (sums / n - (ordered.sum() - sums) / (len(ordered) - n)) ** 2 * n * (len(ordered) - n)
    higher = (values > ordered[int(between.argmax())]).astype(float)
    least = 0.02 * np.ptp(values)
    found: list[Population] = []
    for _ in range(iterations):
        before = higher
        found = []
        for weight in (1 - higher, higher):
            total = max(float(weight.sum()), 1e-9)
            mean = float(weight @ values / total)
            spread = float(np.sqrt(weight @ (values - mean) ** 2 / total))
            found.append((mean, max(spread, least), total / len(values)))
        logs = [np.log(w) - np.log(s) - 0.5 * ((values - m) / s) ** 2 for m, s, w in found]
        higher = 1 / (1 + np.exp(np.clip(logs[0] - logs[1], -500, 500)))
        if np.abs(higher - before).max() < 1e-6:
            break
    low, high = sorted(found)
    return low, high
