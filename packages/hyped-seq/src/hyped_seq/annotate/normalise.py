"""Normalisation and the choice of variable genes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

_BLOCK = 2_000_000
"""Stored values that are taken at a time, so that what is made of them in double precision stays small."""


def cell_totals(counts: sp.csr_matrix) -> npt.NDArray[np.int64]:
    """(cells,) sum of each row of integer counts, without a copy of the matrix in a wider type."""
    total = np.zeros(counts.shape[0], dtype=np.int64)
    for rows, part in _blocks(counts):
        sums = np.append(0, np.cumsum(counts.data[part], dtype=np.int64))
        starts = counts.indptr[rows.start : rows.stop + 1] - part.start
        total[rows] = np.diff(sums[starts])
    return total


def log_normalised(
    counts: sp.csr_matrix, target_sum: float = 1e4, total: npt.NDArray[Any] | None = None
) -> sp.csr_matrix:
    """ln(1 + counts / total * ``target_sum``) of each cell, CSR float32; a cell without counts stays zero.

    The result shares ``indices`` and ``indptr`` with ``counts``. ``total`` (cells,) are the cells' counts where
    ``counts`` are not all of their columns.
    """
    if total is None:
        integer = counts.dtype.kind in "iu"
        total = cell_totals(counts) if integer else np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    scale = np.divide(target_sum, total, out=np.zeros(len(total)), where=total > 0)
    values = np.empty(len(counts.data), dtype=np.float32)
    for rows, part in _blocks(counts):
        stored = np.diff(counts.indptr[rows.start : rows.stop + 1])
        values[part] = np.log1p(counts.data[part] * np.repeat(scale[rows], stored))
    return sp.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


def _blocks(matrix: sp.csr_matrix) -> Iterator[tuple[slice, slice]]:
    """Rows and their stored values, about `_BLOCK` values at a time."""
    rows = matrix.shape[0]
    size = max(1, int(rows * _BLOCK / max(len(matrix.data), 1)))
    for start in range(0, rows, size):
        stop = min(start + size, rows)
        yield slice(start, stop), slice(matrix.indptr[start], matrix.indptr[stop])


def mean_and_variance(
    matrix: sp.csr_matrix, linear: bool = False
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and variance (n - 1) of each column, zeros included; of ``exp(x) - 1`` where ``linear``."""
    rows, columns = matrix.shape
    total, square = np.zeros(columns), np.zeros(columns)
    for _, part in _blocks(matrix):
        values = (np.expm1(matrix.data[part]) if linear else matrix.data[part]).astype(np.float64)
        total += np.bincount(matrix.indices[part], weights=values, minlength=columns)
        square += np.bincount(matrix.indices[part], weights=values * values, minlength=columns)
    mean = total / rows
    return mean, np.maximum(square / rows - mean**2, 0) * rows / max(rows - 1, 1)


def variable_genes(
    logs: sp.csr_matrix, n_genes: int, min_cells: int = 1, n_bins: int = 20
) -> npt.NDArray[np.bool_]:
    """The ``n_genes`` genes whose dispersion stands out most among genes of like mean.

    Dispersion is variance over mean of CP10k (Satija et al. 2015), on the log scale, centred by the median
    and scaled by the median absolute deviation of its bin (``n_bins`` bins of equal numbers of genes by
    mean).
    """
    mean, variance = mean_and_variance(logs, linear=True)
    seen = sum(np.bincount(logs.indices[part], minlength=logs.shape[1]) for _, part in _blocks(logs))
    usable = (seen >= max(min_cells, 1)) & (mean > 0) & (variance > 0)
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
