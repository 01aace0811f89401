"""Normalisation and the choice of variable genes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp


def log_normalised(counts: sp.csr_matrix, target_sum: float = 1e4) -> sp.csr_matrix:
    """ln(1 + counts / total * ``target_sum``) of each cell, CSR float32; a cell without counts stays zero."""
    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    scale = np.divide(target_sum, total, out=np.zeros_like(total), where=total > 0)
    values = np.log1p(counts.data * np.repeat(scale, np.diff(counts.indptr)))
    return sp.csr_matrix(
        (values.astype(np.float32), counts.indices.copy(), counts.indptr.copy()), shape=counts.shape
    )


def mean_and_variance(matrix: sp.csr_matrix) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and variance (n - 1) of each column, zeros included."""
    rows, columns = matrix.shape
    mean = np.bincount(matrix.indices, weights=matrix.data, minlength=columns) / rows
    square = (
        np.bincount(matrix.indices, weights=matrix.data.astype(np.float64) ** 2, minlength=columns) / rows
    )
    return mean, np.maximum(square - mean**2, 0) * rows / max(rows - 1, 1)


def variable_genes(
    logs: sp.csr_matrix, n_genes: int, min_cells: int = 1, n_bins: int = 20
) -> npt.NDArray[np.bool_]:
    """The ``n_genes`` genes whose dispersion stands out most among genes of like mean.

    Dispersion is variance over mean of CP10k (Satija et al. 2015), on the log scale, centred by the median
    and scaled by the median absolute deviation of its bin (``n_bins`` bins of equal numbers of genes by
    mean).
    """
    linear = logs.copy()
    linear.data = np.expm1(linear.data.astype(np.float64))
    mean, variance = mean_and_variance(linear)
    seen = np.bincount(logs.indices, minlength=logs.shape[1]) >= max(min_cells, 1)
    usable = seen & (mean > 0) & (variance > 0)
    score = np.full(len(mean), -np.inf)
    if usable.any():
        table = pd.DataFrame(
            {"mean": np.log1p(mean[usable]), "dispersion": np.log(variance[usable] / mean[usable])}
        )
        bins = pd.qcut(table["mean"].rank(method="first"), min(n_bins, len(table)), labels=False)
        grouped = table["dispersion"].groupby(bins)
        median = grouped.transform("median")
        spread = (table["dispersion"] - median).abs().groupby(bins).transform("median")
        score[usable] = (table["dispersion"] - median) / np.maximum(spread, 1e-3)
    order = np.argsort(-score, kind="stable")[: min(n_genes, int(usable.sum()))]
    chosen = np.zeros(len(mean), dtype=bool)
    chosen[order] = True
    return chosen
