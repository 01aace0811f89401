"""How much of a pool's molecules is soup, told by genes that some of its cells cannot express.

A gene that was brought in from outside (an activated gene that is silent otherwise) is in the soup of a pool with
transfected cells, so what a cell of an untransfected condition shows of it came with the droplet. One share is
estimated for a pool: a cell has too few such molecules to tell its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Design
from hyped_seq.annotate.normalise import cell_totals
from hyped_seq.annotate.params import AmbientParams

_UNLIKELY = 1e-3
"""Cells with more of a gene than soup gives with this probability are mistaken or doublets, and left out."""

ASSUMPTIONS = (
    "the soup is made of the pool's cells in proportion to their molecules",
    "all cells of a pool have the same share of soup",
    "cells of conditions in which a gene is not activated express as much of it as cells of pools where none does",
)
"""What the estimate rests on; with empty droplets in the matrix the first is not needed."""


@dataclass(frozen=True, slots=True)
class Ambient:
    """Soup of all cells.

    Attributes
    ----------
    share : (cells,) the pool's share of molecules that are soup; NaN where it cannot be told.
    record : pool -> ``share``, ``low`` and ``high`` (95 % interval), ``genes``, ``conditions`` and ``cells`` behind
        it, ``soup_from``; or ``reason`` where there is none.
    """

    share: npt.NDArray[np.float32]
    record: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Marker:
    """One gene in one pool: molecules of the gene and of all genes in three sets of cells.

    ``silent``: cells that cannot express it; ``pool``: all cells of the pool, or its empty droplets as one;
    ``own``: cells of pools where no cell has it activated (may be empty).
    """

    gene: str
    conditions: tuple[str, ...]
    silent: npt.NDArray[np.float64]
    pool: npt.NDArray[np.float64]
    own: npt.NDArray[np.float64]


def find_ambient(
    counts: sp.csr_matrix,
    obs: pd.DataFrame,
    symbols: pd.Series,
    design: Design,
    params: AmbientParams,
    *,
    seed: int = 0,
    empty: Mapping[str, npt.NDArray[np.float64]] | None = None,
) -> Ambient:
    """Estimate the soup of every pool in ``counts`` (cells, genes).

    Parameters
    ----------
    obs : a row a cell: ``pool``, ``hashtag_kind``, ``condition`` and, where known, ``hashtag_probability`` (with
        ``hashtag_call``) and ``doublet_score``.
    empty : pool -> (genes,) molecules in droplets without a cell, where the matrix has them.

    With f the gene's share of molecules in cells that cannot express it, s in the soup and b in cells of pools
    without it, the soup's share is ``(f - b) / (s - b)``, over all such genes of the pool together. The interval is
    from resampled cells.
    """
    total = cell_totals(counts).astype(np.float64)
    pools = obs["pool"].astype(str).to_numpy(dtype=object)
    plain = _plain(obs, params)
    condition = np.where(plain, obs["condition"].astype(str).to_numpy(dtype=object), "")
    share = np.full(counts.shape[0], np.nan, dtype=np.float32)
    record: dict[str, dict[str, Any]] = {}
    columns = _activated(design, symbols)
    molecules = {
        gene: np.asarray(counts[:, where].sum(axis=1), dtype=np.float64).ravel() for gene, where in columns.items()
    }
    for number, pool in enumerate(dict.fromkeys(pools)):
        drops = (empty or {}).get(pool)
        drops = drops if drops is not None and drops.sum() >= params.empty_molecules else None
        markers, reasons = [], []
        for gene, where in columns.items():
            in_soup = None if drops is None else np.array([[drops[where].sum(), drops.sum()]])
            found = _marker(gene, molecules[gene], total, pools, condition, pool, design, params, in_soup)
            (reasons if isinstance(found, str) else markers).append(found)
        if not markers:
            reason = "; ".join(reasons) or "the design activates no gene that the matrix has"
            record[pool] = {"share": None, "reason": reason}
            continue
        rng = np.random.default_rng([seed, number])
        record[pool] = _estimate(markers, params, rng)
        record[pool]["soup_from"] = "cells" if drops is None else "empty droplets"
        share[pools == pool] = record[pool]["share"]
    return Ambient(share, record)


def _plain(obs: pd.DataFrame, params: AmbientParams) -> npt.NDArray[np.bool_]:
    """Cells whose condition is sure: one wrong call in fifty holds as many molecules of the gene as the soup."""
    plain = obs["hashtag_kind"].astype(str).isin(["singlet", ""]).to_numpy()
    if "hashtag_probability" in obs:
        probability = obs["hashtag_probability"].to_numpy(dtype=float)
        tagged = obs["hashtag_call"].astype(str).to_numpy() != ""
        plain &= ~(tagged & (probability < params.min_probability))
    if "doublet_score" in obs:
        plain &= ~(obs["doublet_score"].to_numpy(dtype=float) > params.max_doublet_score)
    return plain


def _activated(design: Design, symbols: pd.Series) -> dict[str, npt.NDArray[np.int64]]:
    """Genes that a condition activates -> their columns."""
    names = symbols.astype(str).to_numpy()
    changes = [change for item in design.conditions for change in item.perturbation]
    genes = dict.fromkeys(change.gene for change in changes if change.direction == "activation")
    return {gene: columns for gene in genes if (columns := np.flatnonzero(names == gene)).size}


def _marker(
    gene: str,
    molecules: npt.NDArray[np.float64],
    total: npt.NDArray[np.float64],
    pools: npt.NDArray[np.object_],
    condition: npt.NDArray[np.object_],
    pool: str,
    design: Design,
    params: AmbientParams,
    in_soup: npt.NDArray[np.float64] | None,
) -> _Marker | str:
    """What ``gene`` can tell of ``pool``, or why it tells nothing."""
    having = {
        item.name
        for item in design.conditions
        if any(change.gene == gene and change.direction == "activation" for change in item.perturbation)
    }
    expressing = np.isin(condition, list(having))
    inside = pools == pool
    if not (expressing & inside).any():
        return f"no cell of the pool has {gene} activated, so all cells and the soup are alike in it"
    silent = inside & ~expressing & (condition != "")
    if silent.sum() < params.min_cells:
        return f"fewer than {params.min_cells} cells of the pool are without activated {gene}"
    apart = ~np.isin(pools, list(set(pools[expressing]))) & (condition != "")

    def pairs(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        return np.column_stack([molecules[mask], total[mask]])

    found = _Marker(
        gene,
        tuple(sorted(set(condition[silent]))),
        pairs(silent),
        pairs(inside) if in_soup is None else in_soup,
        pairs(apart) if apart.sum() >= params.min_cells else np.zeros((0, 2)),
    )
    soup, own = _rate(found.pool), _rate(found.own)
    if soup <= 0 or soup < params.min_fold * own:
        return f"the soup holds {gene} at {1e4 * soup:.3g} CP10k, cells of their own {1e4 * own:.3g}"
    return found


def _rate(pairs: npt.NDArray[np.float64]) -> float:
    """The gene's share of molecules, 0 without cells."""
    return float(pairs[:, 0].sum() / pairs[:, 1].sum()) if pairs.size and pairs[:, 1].sum() > 0 else 0.0


def _share(markers: list[_Marker]) -> float:
    """The soup's share in the silent cells of all markers together."""
    above = expected = 0.0
    for marker in markers:
        own, soup = _rate(marker.own), _rate(marker.pool)
        above += float(marker.silent[:, 0].sum() - own * marker.silent[:, 1].sum())
        expected += (soup - own) * float(marker.silent[:, 1].sum())
    return float(np.clip(above / expected, 0, 1)) if expected > 0 else float("nan")


def _trimmed(markers: list[_Marker], share: float) -> list[_Marker]:
    """Without silent cells that have more of the gene than own expression and soup explain."""
    from scipy.stats import poisson

    kept = []
    for marker in markers:
        own, soup = _rate(marker.own), _rate(marker.pool)
        mean = marker.silent[:, 1] * (own + share * (soup - own))
        likely = poisson.sf(marker.silent[:, 0] - 1, mean) >= _UNLIKELY
        kept.append(_Marker(marker.gene, marker.conditions, marker.silent[likely], marker.pool, marker.own))
    return kept


def _estimate(markers: list[_Marker], params: AmbientParams, rng: np.random.Generator) -> dict[str, Any]:
    """Share, interval and what is behind them."""
    used, share = markers, _share(markers)
    for _ in range(20):
        used, before = _trimmed(markers, share), share
        share = _share(used)
        if abs(share - before) < 1e-9:
            break
    drawn = []
    for _ in range(params.n_bootstrap):
        again = [
            _Marker(m.gene, m.conditions, _resampled(m.silent, rng), _resampled(m.pool, rng), _resampled(m.own, rng))
            for m in used
        ]
        drawn.append(_share(again))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {
        "share": round(share, 6),
        "low": round(float(low), 6),
        "high": round(float(high), 6),
        "genes": [marker.gene for marker in used],
        "conditions": sorted({name for marker in used for name in marker.conditions}),
        "cells": int(sum(len(marker.silent) for marker in used)),
        "cells_left_out": int(sum(len(a.silent) - len(b.silent) for a, b in zip(markers, used, strict=True))),
        "upper_bound": any(not len(marker.own) for marker in used),
    }


def _resampled(pairs: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return pairs[rng.integers(0, len(pairs), len(pairs))] if len(pairs) > 1 else pairs
