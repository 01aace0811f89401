"""The classic gene score: mean expression of a phase's genes against genes of like expression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp


def gene_score(
    logs: sp.csr_matrix, symbols: list[str], genes: tuple[str, ...], n_bins: int = 25
) -> npt.NDArray[np.float64]:
    """Mean expression of ``genes`` minus that of all other genes of like mean expression, per cell.

    There are ``n_bins`` bins, fewer where they would hold less than 20 genes. The reference is every other
    gene of the bins (by mean) that ``genes`` fall into, weighted as ``genes`` are
    spread over the bins: the idea of Tirosh et al. 2016 without its random draw.
    """
    position = {symbol: i for i, symbol in enumerate(symbols)}
    chosen = np.array([position[gene] for gene in genes])
    mean = np.asarray(logs.mean(axis=0)).ravel()
    n_bins = max(1, min(n_bins, len(mean) // 20))
    bins = np.minimum(pd.Series(mean).rank(method="first").to_numpy() * n_bins // (len(mean) + 1), n_bins - 1).astype(
        int
    )
    is_chosen = np.zeros(len(mean), dtype=bool)
    is_chosen[chosen] = True
    weights = np.zeros(len(mean))
    for number in np.unique(bins[chosen]):
        others = (bins == number) & ~is_chosen
        if others.any():
            weights[others] = (bins[chosen] == number).mean() / others.sum()
    total = weights.sum()
    reference = np.asarray(logs @ (weights / total if total > 0 else weights)).ravel()
    return np.asarray(logs[:, chosen].mean(axis=1)).ravel() - reference


def phase_of_scores(s_score: npt.NDArray[np.float64], g2m_score: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
    """G1 where both scores are at most zero, else the higher one's phase."""
    higher = np.where(g2m_score > s_score, "G2M", "S")
    return np.where((s_score <= 0) & (g2m_score <= 0), "G1", higher).astype(object)
